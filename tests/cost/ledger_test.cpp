// The books of a run: clocks that charge every moment once, lines that add up, restarts that move what they throw away.
#include "cost/ledger.hpp"

#include <gtest/gtest.h>

#include "tests/harness/file_size_limit.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

// A clock that a test moves.
struct Hands {
  double t = 100;
  TimeSource source() {
    return [this] { return t; };
  }
};

CostSeconds seconds(std::initializer_list<std::pair<CostKind, double>> list) {
  CostSeconds s;
  for (const auto& [kind, x] : list) s[kind] = x;
  return s;
}

TEST(CostClock, ChargesEveryMomentToOneKind) {
  Hands hands;
  CostClock clock(hands.source(), 90, CostKind::startup);
  hands.t = 103;
  EXPECT_EQ(clock.seconds()[CostKind::startup], 13);
  {
    const Charged charged(clock, CostKind::evaluation);
    hands.t = 105;
    clock.charge(CostKind::data_wait);
    hands.t = 106;
  }
  hands.t = 110;
  const CostSeconds all = clock.seconds();
  EXPECT_EQ(all[CostKind::startup], 17);
  EXPECT_EQ(all[CostKind::evaluation], 2);
  EXPECT_EQ(all[CostKind::data_wait], 1);
  EXPECT_EQ(all.sum(), 20);
  clock.begin_earlier(80);
  EXPECT_EQ(clock.seconds().sum(), 30);
}

TEST(CostClock, TheStartOfAJobIsTakenWhereItMakesSense) {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  const double now = monotonic_time()();
  EXPECT_NEAR(job_start(std::to_string(t.tv_sec - 50)), now - 50, 2);
  for (const std::string& nonsense :
       {std::to_string(t.tv_sec + 1000), std::string("0"), std::string("soon"), std::string()})
    EXPECT_NEAR(job_start(nonsense), process_start(), 0.1) << nonsense;
  EXPECT_LE(process_start(), now);
}

TEST(CostKinds, HaveTheContractsNames) {
  for (const std::string_view name : {"compute", "exposed_communication", "pipeline_bubble", "imbalance", "data_wait",
                                      "optimizer", "checkpoint", "evaluation", "startup", "lost", "idle"}) {
    CostKind kind{};
    ASSERT_TRUE(cost_kind_from_name(name, kind)) << name;
    EXPECT_EQ(name_of(kind), name);
  }
  CostKind kind{};
  EXPECT_FALSE(cost_kind_from_name("coffee", kind));
}

TEST(Ledger, LinesAddUpToRanksTimesWallTime) {
  const ScratchDirectory dir;
  Hands hands;
  const CostClock clock(hands.source(), 100, CostKind::startup);
  const std::string path = dir.at("ledger.jsonl");
  {
    Ledger ledger(path, {.number = 1, .ranks = 2, .began = 100}, clock);
    hands.t = 101;
    ledger.book("start", 0, 0, seconds({{CostKind::startup, 2}}));
    hands.t = 103;
    ledger.book("step", 1, 64, seconds({{CostKind::startup, 2}, {CostKind::compute, 3}, {CostKind::imbalance, 0.5}}),
                {.predicted = 3.5});
    EXPECT_EQ(ledger.booked(), 6);  // 2 ranks x 3 s; half a second has no kind
    EXPECT_EQ(ledger.totals().unaccounted_seconds, 0.5);
  }
  const std::vector<LedgerLine> lines = read_ledger(path);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1].wall_seconds, 3);
  EXPECT_EQ(lines[1].device_seconds[CostKind::compute], 3);
  EXPECT_EQ(lines[1].device_seconds[CostKind::startup], 0);
  EXPECT_EQ(lines[1].predicted_seconds, 3.5);
  EXPECT_EQ(totals_of(lines).sum(), 6);
}

TEST(Ledger, AnAttemptIsPaidAtItsOwnPrice) {
  const ScratchDirectory dir;
  const std::string path = dir.at("ledger.jsonl");
  const auto attempt = [&](int64_t number, const std::optional<Money>& price) {
    Hands hands;
    const CostClock clock(hands.source(), 100, CostKind::startup);
    Ledger ledger(path,
                  {.number = number,
                   .ranks = 1,
                   .began = 100,
                   .conditions = {.price_per_device_hour = price, .flops_per_token = 7}},
                  clock);
    for (int64_t step = 1; step <= 2; ++step) {
      hands.t = 100 + 1800.0 * static_cast<double>(step);
      ledger.book("step", step, step, seconds({{CostKind::startup, 1800.0 * static_cast<double>(step)}}));
    }
  };
  attempt(1, Money{"usd", 3});
  attempt(2, Money{"eur", 50});
  attempt(3, std::nullopt);
  attempt(4, Money{"usd", 0.5});
  const std::vector<LedgerLine> lines = read_ledger(path);
  EXPECT_DOUBLE_EQ(paid(lines, {"usd", 0.5}), 3 + 0.5 + 0.5 + 0.5);
  EXPECT_DOUBLE_EQ(paid(lines, {"eur", 50}), 4 * 50);
  ASSERT_TRUE(lines[0].conditions);
  EXPECT_EQ(lines[0].conditions->flops_per_token, 7);
  EXPECT_FALSE(lines[1].conditions) << "once an attempt";
}

// A sign of life is booked to what goes on; the line that follows takes back what belongs elsewhere, and is read with
// it as one: what a step took is not what it took since the last beat.
TEST(Ledger, ABeatIsTheBeginningOfTheLineAfterIt) {
  const ScratchDirectory dir;
  Hands hands;
  CostClock clock(hands.source(), 100, CostKind::compute);
  Ledger ledger(dir.at("l"), {.number = 1, .ranks = 1, .began = 100}, clock);
  hands.t = 110;
  ledger.beat(20);  // too early
  EXPECT_EQ(ledger.booked(), 0);
  hands.t = 125;
  ledger.beat(20);
  EXPECT_EQ(ledger.booked(), 25);
  hands.t = 130;
  ledger.book("step", 1, 8, seconds({{CostKind::compute, 22}, {CostKind::data_wait, 8}}));
  EXPECT_NE(read_file(dir.at("l")).find(R"("kind":"beat")"), std::string::npos);
  const std::vector<LedgerLine> lines = read_ledger(dir.at("l"));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].kind, "step");
  EXPECT_EQ(lines[0].step, 1);
  EXPECT_EQ(lines[0].device_seconds[CostKind::compute], 22);
  EXPECT_EQ(lines[0].device_seconds[CostKind::data_wait], 8);
  EXPECT_EQ(lines[0].sum(), 30);
  EXPECT_TRUE(lines[0].conditions) << "the beat was the first of the attempt";
}

// A full disk takes signs of life away, and no second out of the books.
TEST(Ledger, ABeatThatCannotBeWrittenIsOnlyMissed) {
  const ScratchDirectory dir;
  Hands hands;
  CostClock clock(hands.source(), 100, CostKind::compute);
  Ledger ledger(dir.at("l"), {.number = 1, .ranks = 2, .began = 100}, clock);
  for (hands.t = 125; hands.t < 140; hands.t += 5) {
    const testing::FileSizeLimit full(5);
    EXPECT_THROW(ledger.beat(20), Error);
    EXPECT_EQ(ledger.booked(), 0);
  }
  ledger.book("step", 1, 8, seconds({{CostKind::compute, 80}}));
  const std::vector<LedgerLine> lines = read_ledger(dir.at("l"));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].sum(), 80);
  EXPECT_EQ(lines[0].device_seconds[CostKind::compute], 80);
  EXPECT_TRUE(lines[0].conditions) << "the first line that is there";
}

TEST(Ledger, BeatsOfAKilledAttemptStandForWhatTheyBegan) {
  const ScratchDirectory dir;
  Hands hands;
  const std::string path = dir.at("l");
  const CostClock clock(hands.source(), 100, CostKind::evaluation);
  {
    Ledger ledger(path, {.number = 1, .ranks = 1, .began = 100}, clock);
    hands.t = 101;
    ledger.book("step", 1, 8, seconds({{CostKind::compute, 1}}));
    // An evaluation of step 1 that came to its end, and one of step 2 that did not.
    hands.t = 121;
    ledger.beat(20);
    hands.t = 131;
    ledger.book("evaluation", 1, 8, seconds({{CostKind::compute, 1}, {CostKind::evaluation, 30}}));
    hands.t = 132;
    ledger.book("step", 2, 16, seconds({{CostKind::compute, 2}, {CostKind::evaluation, 30}}));
    for (int i = 0; i < 2; ++i) {
      hands.t += 20;
      ledger.beat(20);
    }
  }
  {
    Ledger ledger(path, {.number = 2, .ranks = 1, .began = hands.t}, clock);
    hands.t += 20;
    ledger.beat(20);  // while it starts
    EXPECT_EQ(ledger.restart_at(1, 8), 41) << "step 2, and the evaluation that broke off; not the evaluation of step 1";
    hands.t += 1;
    ledger.book("start", 1, 8, seconds({{CostKind::startup, 21}}));
  }
  const std::vector<LedgerLine> lines = read_ledger(path);
  std::vector<std::string> kinds;
  for (const LedgerLine& line : lines) kinds.push_back(line.kind);
  EXPECT_EQ(kinds, (std::vector<std::string>{"step", "evaluation", "step", "beat", "restart", "start"}));
  EXPECT_EQ(lines[1].device_seconds[CostKind::evaluation], 30);
  EXPECT_EQ(lines[3].device_seconds[CostKind::evaluation], 40);
  EXPECT_EQ(lines[4].tokens, 8);
  EXPECT_EQ(lines[5].sum(), 21);
  EXPECT_TRUE(lines[5].conditions);
  EXPECT_EQ(totals_of(lines).device_seconds[CostKind::evaluation], 30);
  EXPECT_EQ(totals_of(lines).sum(), 93);
}

TEST(Ledger, ARestartMovesWhatItThrowsAwayOnce) {
  const ScratchDirectory dir;
  Hands hands;
  const CostClock clock(hands.source(), 100, CostKind::compute);
  const std::string path = dir.at("l");
  {
    Ledger ledger(path, {.number = 1, .ranks = 1, .began = 100}, clock);
    CostSeconds spent = seconds({{CostKind::startup, 1}});
    ledger.book("start", 0, 0, spent);
    for (int64_t step = 1; step <= 5; ++step) {
      spent[CostKind::compute] += 2;
      spent[CostKind::optimizer] += 1;
      hands.t = 101 + 3 * static_cast<double>(step);
      ledger.book("step", step, step, spent);
    }
  }
  const CostSeconds first = lost_by_restart(read_ledger(path), 3);
  EXPECT_EQ(first[CostKind::lost], 6);
  EXPECT_EQ(first[CostKind::compute], -4);
  EXPECT_EQ(first.sum(), 0);
  {
    Ledger ledger(path, {.number = 2, .ranks = 1, .began = hands.t}, clock);
    EXPECT_EQ(ledger.restart_at(3, 3), 6);
    EXPECT_EQ(ledger.before().sum(), 16);
    EXPECT_EQ(ledger.totals().device_seconds[CostKind::lost], 6);
    const double began = hands.t;
    hands.t = began + 4;
    ledger.book("step", 4, 4, seconds({{CostKind::compute, 4}}));
  }
  // The second restart throws away step 4 of the second attempt, and not again what the first threw away.
  EXPECT_EQ(lost_by_restart(read_ledger(path), 3)[CostKind::lost], 4);
  EXPECT_EQ(lost_by_restart(read_ledger(path), 4)[CostKind::lost], 0);
  EXPECT_EQ(totals_of(read_ledger(path)).sum(), 20);
}

TEST(Ledger, ATornLineIsPassedOverAndADamagedOneIsNot) {
  const ScratchDirectory dir;
  Hands hands;
  const CostClock clock(hands.source(), 100, CostKind::compute);
  const std::string path = dir.at("l");
  Ledger(path, {.number = 1, .ranks = 1, .began = 100}, clock).book("start", 0, 0, {});
  const std::string whole = read_file(path);
  for (size_t cut = 1; cut < whole.size(); ++cut) {
    dir.write("l", whole + whole.substr(0, cut));
    EXPECT_EQ(read_ledger(path).size(), 1u) << cut;
    Ledger(path, {.number = 2, .ranks = 1, .began = 100}, clock).book("start", 0, 0, {});
    const size_t lines = read_ledger(path).size();
    EXPECT_EQ(lines, cut + 1 == whole.size() ? 3u : 2u) << cut;  // all but its end: it was whole after all
  }
  dir.write("l", whole + "{\"t\":1,\"unaccounted_s\":0}\n");
  EXPECT_NE(error_of(Exit::bad_data, [&] { read_ledger(path); }).find(path + ":2:"), std::string::npos);
  EXPECT_TRUE(read_ledger(dir.at("none")).empty());
}

}  // namespace
}  // namespace tael
