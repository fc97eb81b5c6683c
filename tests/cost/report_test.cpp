// The report of a run whose every number was worked out by hand: two attempts, the second of which does steps again.
#include "cost/report.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "base/json.hpp"
#include "base/json_lines.hpp"
#include "cost/report_formats.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

std::string ledger_line(int attempt, int step, const std::string& kind, double wall, const std::string& seconds,
                        double unaccounted = 0) {
  return fmt::format(
      R"({{"t":"2026-11-24T10:00:00.000Z","attempt":{},"step":{},"tokens":{},"kind":"{}","ranks":2,"wall_s":{},)"
      R"("device_s":{{{}}},"unaccounted_s":{},"predicted_s":30}})"
      "\n",
      attempt, step, step * 1000, kind, wall, seconds, unaccounted);
}

std::string step_line(int attempt, int step, const std::string& loss, double hours) {
  return fmt::format(
      R"({{"t":"2026-11-24T10:00:00.000Z","attempt":{},"step":{},"tokens":{},"kind":"step","train/loss":{},)"
      R"("train/grad_norm":1.5,"train/lr":0.001,"perf/tokens_per_s":100,"perf/tokens_per_s_per_gpu":50,)"
      R"("perf/step_ms":10000,"perf/tflops_per_gpu":0.1,"perf/mfu":0.5,"mem/peak_gib":0.25,"moe/max_violation":0.5,)"
      R"("cost/gpu_hours":{}}})"
      "\n",
      attempt, step, step * 1000, loss, hours);
}

std::string line(int attempt, int step, const std::string& kind, const std::string& more) {
  return fmt::format(R"({{"t":"2026-11-24T10:00:00.000Z","attempt":{},"step":{},"tokens":{},"kind":"{}",{}}})"
                     "\n",
                     attempt, step, step * 1000, kind, more);
}

// Attempt 1 does steps 1 to 3, saves after 2 and is killed inside 4; attempt 2 goes on from 2 and does 3 to 5 of 10.
void write_run(const ScratchDirectory& run) {
  run.write("ledger.jsonl",
            ledger_line(1, 0, "start", 5, R"("startup":10)") +
                ledger_line(1, 1, "step", 15, R"("compute":18,"optimizer":2)") +
                ledger_line(1, 2, "step", 25, R"("compute":18,"optimizer":1.5)", 0.5) +
                ledger_line(1, 3, "step", 36, R"("compute":18,"optimizer":2,"checkpoint":2)") +
                ledger_line(1, 4, "beat", 41, R"("compute":10)") +
                ledger_line(2, 2, "restart", 3, R"("compute":-28,"optimizer":-2,"checkpoint":-2,"lost":32)") +
                ledger_line(2, 2, "start", 3, R"("startup":4,"checkpoint":2)") +
                ledger_line(2, 3, "step", 13, R"("compute":20)") + ledger_line(2, 4, "step", 23, R"("compute":20)") +
                ledger_line(2, 5, "step", 33, R"("compute":18,"data_wait":2)") +
                ledger_line(2, 5, "end", 36, R"("evaluation":6)") + R"({"t":"2026-11-24T10:00:00.000Z","atte)");
  run.write(
      "metrics.jsonl",
      step_line(1, 1, "5.0", 30 / 3600.0) + step_line(1, 2, "4.0", 50 / 3600.0) +
          line(1, 2, "checkpoint", R"("checkpoint/bytes":1000,"checkpoint/stall_ms":5,"checkpoint/seconds":0.5)") +
          line(1, 2, "eval", R"("valid/loss":4.5,"valid/ppl":90.0)") + step_line(1, 3, "3.5", 72 / 3600.0) +
          line(1, 3, "eval", R"("valid/loss":4.4,"valid/ppl":81.0)") +
          R"({"t":"2026-11-24T10:00:00.000Z","attempt":1,"st)" + "\n" +
          line(2, 2, "event", R"("message":"resumed from <a> | b")") + step_line(2, 3, "3.5", 108 / 3600.0) +
          step_line(2, 4, "null", 128 / 3600.0) + step_line(2, 5, "3.0", 148 / 3600.0) +
          line(2, 5, "eval", R"("valid/loss":3.25,"valid/ppl":25.79,"valid/bits_per_byte":4.7)"));
  run.write("experts.jsonl", R"({"t":"","attempt":1,"step":3,"tokens":3000,"layers":[1,2],"counts":[[9,0],[5,4]]})"
                             "\n"
                             R"({"t":"","attempt":2,"step":5,"tokens":5000,"layers":[1,2],"counts":[[3,1],[2,2]]})"
                             "\n");
  run.write("env.json",
            R"({"version":"0.1.0","build_type":"Release","commit":"abc","cpu":"a <cpu>","cpu_isa":"avx2","ranks":2,)"
            R"("threads_per_rank":1,"hosts":["h","h"],"data":["d"],"valid_data":["v"],"command":["tael","train"],)"
            R"("memory":{"weights":1000,"expected":268435456,"at_most":300000000},"preset":"p",)"
            R"("preset_deviations":[{"key":"model.vocab_size","preset":"1","run":"2"}]})");
  run.write("status.json",
            R"({"t":"","state":"stopped","step":5,"steps":10,"tokens":5000,"device_hours":0.0,"eta":null})");
}

ReportFacts facts(const std::string& directory) {
  ReportFacts f;
  f.directory = directory + "/";
  f.attempts = {{.number = 1,
                 .host = "h",
                 .job = {},
                 .ranks = 2,
                 .began = "2026-11-24T10:00:00.000Z",
                 .ended = {},
                 .exit_code = 0,
                 .reason = {}},
                {.number = 2,
                 .host = "h",
                 .job = {},
                 .ranks = 2,
                 .began = "2026-11-24T11:00:00.000Z",
                 .ended = "2026-11-24T12:00:00.000Z",
                 .exit_code = 75,
                 .reason = "stopped"}};
  f.price_per_device_hour = Money{"usd", 3600};  // one a device-second
  f.budget_device_hours = 200 / 3600.0;
  f.total_tokens = 10'000;
  f.flops_per_token = 7;
  f.settings = {{"optimizer.lr", "0.001"}};
  f.config = "schema: 1 # <&>\n";
  return f;
}

TEST(Report, CountsWhatStandsAndWhatWasLost) {
  ScratchDirectory run;
  write_run(run);
  const Report r = make_report(read_run_history(run.path()), facts(run.path()));
  // 82 device-seconds of the first attempt, 72 of the second.
  EXPECT_NEAR(r.device_hours * 3600, 154, 1e-9);
  const LedgerTotals totals = totals_of(read_ledger(run.at("ledger.jsonl")));
  for (size_t k = 0; k < kCostKinds; ++k)
    EXPECT_NEAR(r.by_kind.of[k] * 3600, totals.device_seconds.of[k], 1e-9) << name_of(static_cast<CostKind>(k));
  EXPECT_NEAR(r.by_kind[CostKind::lost] * 3600, 32, 1e-9);
  EXPECT_NEAR(r.by_kind[CostKind::checkpoint] * 3600, 2, 1e-9);
  EXPECT_NEAR(r.unaccounted * 3600, 0.5, 1e-9);
  EXPECT_NEAR(r.productive * 3600, 36 + 3.5 + 58 + 2, 1e-9);
  EXPECT_NEAR(r.goodput, 99.5 / 154, 1e-12);
  EXPECT_NEAR(r.money->amount, 154, 1e-9);
  EXPECT_NEAR(*r.budget_left * 3600, 46, 1e-9);

  ASSERT_EQ(r.attempts.size(), 2u);
  EXPECT_NEAR(r.attempts[0].device_hours * 3600, 82, 1e-9);
  EXPECT_NEAR(r.attempts[1].device_hours * 3600, 72, 1e-9);
  EXPECT_EQ(r.attempts[0].last_step, 3);
  EXPECT_EQ(r.attempts[0].lost_steps, 1);
  EXPECT_EQ(r.attempts[1].first_step, 3);
  EXPECT_EQ(r.attempts[1].lost_steps, 0);
}

TEST(Report, KeepsTheHistoryThatStands) {
  ScratchDirectory run;
  write_run(run);
  const Report r = make_report(read_run_history(run.path()), facts(run.path()));
  ASSERT_EQ(r.history.steps.size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(r.history.steps[i].step, static_cast<int64_t>(i + 1));
  EXPECT_EQ(r.history.steps[2].attempt, 2);
  EXPECT_TRUE(std::isnan(r.history.steps[3].loss));
  EXPECT_EQ(r.history.lost_steps, 1);
  ASSERT_EQ(r.history.evals.size(), 2u);  // that of the lost step 3 is gone
  EXPECT_NEAR(r.history.evals[1].device_hours * 3600, 148, 1e-9);
  EXPECT_EQ(r.valid_loss, 3.25);
  EXPECT_EQ(r.best_valid_loss, 3.25);
  EXPECT_EQ(r.bits_per_byte, 4.7);
  EXPECT_EQ(r.train_loss, 3.0);
  EXPECT_EQ(r.tokens, 5000);
  EXPECT_EQ(r.tokens_per_s, 100);
  EXPECT_EQ(r.mfu, 0.5);
  EXPECT_EQ(r.model_flops, 5 * 0.1e12 * 2 * 10);  // steps x FLOP/s of a rank x ranks x seconds
  EXPECT_NEAR(r.tokens_per_device_hour, 5000 * 3600 / 154.0, 1e-6);
  ASSERT_EQ(r.history.expert_loads.size(), 1u);  // that of attempt 1 is of a step that attempt 2 did again
  EXPECT_EQ(r.history.expert_loads[0].attempt, 2);
  EXPECT_EQ(r.first_step_predicted, 30);
  EXPECT_FALSE(r.forecast) << "five steps are too few";
}

TEST(Report, ARunThatBeganAgainWithoutAStepHasForgottenWhatWasLost) {
  ScratchDirectory run;
  run.write("metrics.jsonl", step_line(1, 1, "5.0", 0.1) + step_line(1, 2, "4.0", 0.2) + step_line(1, 3, "3.0", 0.3) +
                                 line(2, 1, "event", R"("message":"resumed from x")"));
  const RunHistory h = read_run_history(run.path());
  ASSERT_EQ(h.steps.size(), 1u);
  EXPECT_EQ(h.lost_steps, 2);
}

TEST(Report, ForecastsAtThePaceOfTheLastHalf) {
  ScratchDirectory run;
  std::string ledger = ledger_line(1, 0, "start", 5, R"("startup":10)"), metrics;
  double wall = 5;
  int attempt = 1;
  for (int step = 1; step <= 20; ++step) {
    if (step == 15) {  // a restart in between is no part of the pace
      ledger += ledger_line(attempt, step - 1, "end", wall + 3.5, R"("checkpoint":7)");
      ledger += ledger_line(++attempt, step - 1, "start", 45, R"("checkpoint":90)");
      wall = 45;
    }
    const int seconds = step <= 10 ? 1 : step % 2 == 0 ? 4 : 2;  // the last half: 3 on average
    wall += seconds / 2.0;
    ledger += ledger_line(attempt, step, "step", wall, fmt::format(R"("compute":{})", seconds));
    metrics += step_line(attempt, step, "3.0", 0);
  }
  run.write("ledger.jsonl", ledger);
  run.write("metrics.jsonl", metrics);
  ReportFacts f = facts(run.path());
  f.total_tokens = 120'000;  // a hundred steps more
  f.budget_device_hours = 500 / 3600.0;
  Report r = make_report(read_run_history(run.path()), f);
  ASSERT_TRUE(r.forecast);
  EXPECT_NEAR(r.forecast->device_hours * 3600, 147 + 100 * 3, 1e-6);
  EXPECT_NEAR(r.forecast->low * 3600, 147 + 100 * 2, 1e-6);
  EXPECT_NEAR(r.forecast->high * 3600, 147 + 100 * 4, 1e-6);
  EXPECT_NEAR(r.forecast->seconds, 150, 1e-6);
  EXPECT_EQ(r.forecast->fits_budget, true);
  f.budget_device_hours = 446 / 3600.0;
  EXPECT_EQ(make_report(read_run_history(run.path()), f).forecast->fits_budget, false);
  run.write("status.json", R"({"t":"","state":"done","step":20,"steps":20,"tokens":0,"device_hours":0.0,"eta":null})");
  EXPECT_FALSE(make_report(read_run_history(run.path()), f).forecast);
}

TEST(Report, SaysTheSameInEveryForm) {
  ScratchDirectory run;
  write_run(run);
  const Report r = make_report(read_run_history(run.path()), facts(run.path()));
  const std::string json_text = report_json(r), page = report_page(r), markdown = report_markdown(r);
  const auto json = JsonDocument::parse(json_text, "report.json");
  EXPECT_EQ(json.root().at("device_hours").at("total").as_double(), r.device_hours);
  EXPECT_EQ(json.root().at("device_hours").at("by_kind").at("lost").as_double(), r.by_kind[CostKind::lost]);
  EXPECT_EQ(json.root().at("run").as_string(), run.path());
  EXPECT_EQ(json.root().at("attempts").items().size(), 2u);
  EXPECT_EQ(json.root().at("budget").at("left").as_double(), *r.budget_left);
  for (const std::string& text : {page, markdown}) {
    for (const char* shown :
         {"0.04278", "154.00 usd", "3.2500", "64.6%", "4.7000 bits per byte", "killed without a word",
          "stopped (exit 75)", "0.008889", "model.vocab_size", "256.0 MiB"})
      EXPECT_NE(text.find(shown), std::string::npos) << shown;
    for (const Definition& d : definitions()) EXPECT_NE(text.find(d.name), std::string::npos) << d.name;
  }
  EXPECT_TRUE(page.starts_with(kReportMark));
  EXPECT_NE(page.find("resumed from &lt;a&gt; | b"), std::string::npos);
  EXPECT_NE(page.find("schema: 1 # &lt;&amp;&gt;"), std::string::npos);
  EXPECT_NE(page.find("@media print"), std::string::npos);
  EXPECT_NE(markdown.find("resumed from \\<a> \\| b"), std::string::npos);
  for (const char* outside : {"<script", "http:", "https:", "src=", "@import", "url("})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
}

TEST(Report, APageStaysUnderAMegabyteForTheLargestRun) {
  ScratchDirectory run;
  write_run(run);
  Report r = make_report(read_run_history(run.path()), facts(run.path()));
  RunHistory& h = r.history;
  h.steps.clear();
  for (int64_t s = 1; s <= 250'000; ++s) {
    const double x = static_cast<double>(s);
    h.steps.push_back({.step = s,
                       .tokens = s * 60'000'000,
                       .attempt = 1 + s / 1000,
                       .loss = 2 + std::sin(x),
                       .grad_norm = 1 + x / 7,
                       .lr = 1e-3,
                       .tokens_per_s = 3e6 + x,
                       .step_ms = 2e4,
                       .peak_gib = 70,
                       .mfu = 0.4,
                       .max_violation = std::cos(x),
                       .device_hours = x * 10});
    if (s % 100 == 0)
      h.evals.push_back({.step = s,
                         .tokens = s * 60'000'000,
                         .attempt = 1,
                         .loss = 2,
                         .ppl = 7,
                         .bits_per_byte = {},
                         .device_hours = x * 10});
    if (s % 50 == 0)
      h.events.push_back({.time = "2026-11-24T10:00:00.000Z",
                          .step = s,
                          .tokens = s * 60'000'000,
                          .attempt = 1,
                          .text = std::string(s % 100 == 0 ? 200 : 40'000, '&')});
  }
  h.expert_loads.clear();
  for (int64_t s = 1; s <= 64; ++s) {
    ExpertLoad load{.step = s * 4000, .tokens = s * 4000 * 60'000'000, .attempt = 1, .layers = {}, .counts = {}};
    for (int64_t l = 3; l < 62; ++l) {
      load.layers.push_back(l);
      load.counts.emplace_back();
      for (int64_t e = 0; e < 256; ++e) load.counts.back().push_back((e * l * s) % 997);
    }
    h.expert_loads.push_back(std::move(load));
  }
  r.attempts[0].start.reason = std::string(2000, '"');
  for (int i = 0; i < 300; ++i) r.attempts.push_back(r.attempts[0]);
  std::string paths;  // 20,000 of them, in characters of two bytes
  for (int i = 0; i < 20'000; ++i) paths += fmt::format("/data/größe/{:05}.h5, ", i);
  r.facts.config = "data.train: [" + paths + std::string(300'000, '&') + "]";  // five times as long in HTML
  r.facts.changed.push_back({.path = "data.train", .first = "[]", .second = paths});
  r.facts.changed.push_back({.path = "data.valid", .first = "[]", .second = std::string(900, '&')});
  const std::string page = report_page(r);
  EXPECT_NE(page.find("more bytes: config.yaml of the run)</pre>"), std::string::npos);
  EXPECT_NE(page.find("more bytes: tael report --json)</td>"), std::string::npos);
  EXPECT_LT(page.size(), 1'000'000u);
  EXPECT_GT(page.size(), 100'000u);
}

// Those without a step count for nothing: next to a plain one stands a shaded one.
TEST(Report, EverySecondAttemptThatMadeStepsIsShaded) {
  ScratchDirectory run;
  const auto shaded = [&](const std::vector<int>& attempts) {
    std::string ledger, metrics;
    int step = 0;
    for (const int attempt : attempts) {
      ++step;
      ledger += ledger_line(attempt, step, "step", step, R"("compute":2)");
      metrics += step_line(attempt, step, "3.0", step);
    }
    run.write("ledger.jsonl", ledger);
    run.write("metrics.jsonl", metrics);
    const std::string page = report_page(make_report(read_run_history(run.path()), facts(run.path())));
    size_t bands = 0, charts = 0;
    for (size_t at = 0; (at = page.find("class=\"band\"", at)) != page.npos; ++at) ++bands;
    for (size_t at = 0; (at = page.find("Every second attempt", at)) != page.npos; ++at) ++charts;
    EXPECT_EQ(charts > 0, bands > 0);
    return charts > 0 ? static_cast<double>(bands) / static_cast<double>(charts) : 0;
  };
  EXPECT_EQ(shaded({1, 1}), 0);
  EXPECT_EQ(shaded({2, 2}), 0);
  EXPECT_EQ(shaded({1, 1, 3, 3}), 1);
  EXPECT_EQ(shaded({1, 3, 3, 4, 7}), 2);
}

// A spike is forgotten with the window that it is in.
TEST(Report, SmoothsOverAFiftiethOfTheSteps) {
  std::vector<double> values;
  for (int i = 0; i < 1000; ++i) values.push_back(i == 100 ? 1e20 : i == 300 ? NAN : 2 + std::sin(i));
  const std::vector<double> means = smoothed(values);
  for (int i = 0; i < 1000; ++i) {
    double sum = 0;
    int count = 0;
    for (int j = std::max(0, i - 19); j <= i; ++j) {
      if (!std::isfinite(values[j])) continue;
      sum += values[j];
      ++count;
    }
    EXPECT_NEAR(means[i], sum / count, 1e-12 * sum / count) << i;
  }
  EXPECT_TRUE(std::isnan(smoothed({NAN, 1})[0]));
  EXPECT_TRUE(smoothed({}).empty());
}

TEST(Report, NoAxisOfMoneyWhereNothingWasPaid) {
  ScratchDirectory run;
  write_run(run);
  ReportFacts f = facts(run.path());
  const std::string with = "The axis above is what was paid until then",
                    without = "Nothing was paid between its first step and its last.";
  for (const double price : {3600.0, 0.0}) {
    f.price_per_device_hour = Money{"usd", price};
    const std::string page = report_page(make_report(read_run_history(run.path()), f));
    EXPECT_EQ(page.find(with) == page.npos, price == 0);
    EXPECT_EQ(page.find(without) == page.npos, price > 0);
    EXPECT_EQ(page.find(">usd</text>") == page.npos, price == 0);
  }
}

TEST(Report, EachAttemptIsPaidAtItsOwnPrice) {
  ScratchDirectory run;
  write_run(run);
  RunHistory history = read_run_history(run.path());
  const Report plain = make_report(history, facts(run.path()));
  for (BookedLine& booked : history.ledger) {
    if (booked.line.attempt != 1 || booked.line.kind != "start") continue;
    booked.line.conditions = AttemptConditions{.price_per_device_hour = Money{"usd", 7200}, .flops_per_token = 1};
  }
  const Report r = make_report(history, facts(run.path()));
  const double first = r.attempts[0].device_hours, second = r.attempts[1].device_hours;
  EXPECT_NEAR(r.money->amount, 7200 * first + 3600 * second, 1e-9);
  EXPECT_NEAR(*r.paid_until(first / 2), 7200 * first / 2, 1e-9);
  EXPECT_NEAR(*r.paid_until(r.device_hours + 1), r.money->amount + 3600, 1e-9);
  EXPECT_NEAR(r.mean_price() * r.device_hours, r.money->amount, 1e-9);
  double compute = 0;
  for (const BookedLine& booked : r.history.ledger)
    compute += standing_seconds(booked)[CostKind::compute] * (booked.line.attempt == 1 ? 2 : 1);
  EXPECT_NEAR(r.paid_by_kind[CostKind::compute], compute, 1e-9);
  EXPECT_NEAR(r.paid_by_kind.sum() + r.paid_unaccounted, r.money->amount, 1e-9);
  EXPECT_NE(plain.paid_by_kind[CostKind::compute] / plain.money->amount, compute / r.money->amount);
  EXPECT_NE(report_page(r).find(" now, "), std::string::npos);
  EXPECT_EQ(plain.money->amount, paid({}, {"usd", 3600}) + 3600 * plain.device_hours);
  EXPECT_EQ(report_page(plain).find("in the mean"), std::string::npos);
}

// The first line of an attempt says its price; where work was lost, that is the line that moves it.
TEST(Report, TheMoveOfARestartSaysThePriceOfItsAttempt) {
  ScratchDirectory run;
  write_run(run);
  std::string text = read_file(run.at("ledger.jsonl"));
  const size_t restart = text.find(R"("kind":"restart")"), end = text.find('\n', restart);
  text.insert(end - 1, R"(,"price_per_device_hour":{"usd":36000},"flops_per_token":7)");
  run.write("ledger.jsonl", text);
  const Report r = make_report(read_run_history(run.path()), facts(run.path()));
  EXPECT_EQ(r.attempts[0].price, 3600);
  EXPECT_EQ(r.attempts[1].price, 36000);
  EXPECT_NEAR(r.money->amount, 82 + 10 * 72, 1e-9);
  EXPECT_NEAR(r.money->amount, paid(read_ledger(run.at("ledger.jsonl")), {"usd", 3600}), 1e-9);
}

// A step that took several beats is one step.
TEST(Report, TheMedianStepIsOfWholeSteps) {
  ScratchDirectory run;
  write_run(run);
  std::string text;
  for (int step = 1; step <= 3; ++step) {
    for (int beat = 0; beat < 2; ++beat) text += ledger_line(1, step, "beat", 0, R"("compute":40)");
    text += ledger_line(1, step, "step", 0, R"("compute":18,"optimizer":2)");
    text += ledger_line(1, step + 1, "beat", 0, R"("evaluation":40)");
    text += ledger_line(1, step, "evaluation", 0, R"("evaluation":10)");
  }
  run.write("ledger.jsonl", text);
  const Report r = make_report(read_run_history(run.path()), facts(run.path()));
  EXPECT_EQ(r.median_step, 100);
  EXPECT_NEAR(r.by_kind[CostKind::evaluation] * 3600, 150, 1e-9);
  EXPECT_NEAR(r.by_kind[CostKind::lost], 0, 1e-12);
}

// A free machine with a budget of money, and numbers that no integer holds.
TEST(Report, OfCostsWithoutBounds) {
  ScratchDirectory run;
  write_run(run);
  ReportFacts f = facts(run.path());
  f.budget_device_hours.reset();
  f.budget_money = Money{"usd", 5};
  for (const double price : {0.0, 1e25}) {
    f.price_per_device_hour = Money{"usd", price};
    const Report r = make_report(read_run_history(run.path()), f);
    EXPECT_EQ(*r.budget_left, 5 - r.money->amount);
    EXPECT_NE(report_markdown(r).find(price == 0 ? "| of 5.0000 (0.0%), at 0.0000 usd a device-hour |" : "e+"),
              std::string::npos);
    EXPECT_NE(report_page(r).find("usd left"), std::string::npos);
    EXPECT_EQ(JsonDocument::parse(report_json(r), "json").root().at("budget").at("left").as_double(), *r.budget_left);
  }
}

TEST(Report, OfARunThatDidNothingYet) {
  ScratchDirectory run;
  run.write("ledger.jsonl", "");
  const Report r = make_report(read_run_history(run.path()), ReportFacts());
  EXPECT_EQ(r.device_hours, 0);
  EXPECT_FALSE(r.train_loss);
  EXPECT_NE(report_page(r).find("nothing was recorded"), std::string::npos);
  EXPECT_NE(report_markdown(r).find("| training loss | - |"), std::string::npos);
  JsonDocument::parse(report_json(r), "json");
}

// An attempt with larger micro-batches needed more, by a plan that is not there any more.
TEST(Report, MemoryStandsBesideThePlanOfItsAttempt) {
  const ScratchDirectory run;
  write_run(run);
  RunHistory history = read_run_history(run.path());
  EXPECT_EQ(history.described_attempt, 2);
  history.steps.front().peak_gib = 3;
  const Report r = make_report(std::move(history), facts(run.path()));
  EXPECT_EQ(r.peak_gib, 3);
  EXPECT_EQ(r.planned_peak_gib, 0.25);
  const std::string text = report_markdown(r);
  EXPECT_NE(text.find("| peak memory of a rank | 256.0 MiB | 256.0 MiB | 1.00 |"), std::string::npos) << text;
  EXPECT_NE(text.find("| measured peak of all attempts | 3.00 GiB |"), std::string::npos) << text;
}

// The work of a step that failed stands nowhere.
TEST(Report, AStepThatFailedIsNoGoodput) {
  const ScratchDirectory run;
  write_run(run);
  run.write("ledger.jsonl", ledger_line(1, 0, "start", 5, R"("startup":10)") +
                                ledger_line(1, 1, "step", 15, R"("compute":20)") +
                                ledger_line(1, 2, "end", 25, R"("compute":20)"));
  run.write("metrics.jsonl", step_line(1, 1, "5.0", 30 / 3600.0));
  const Report r = make_report(read_run_history(run.path()), facts(run.path()));
  EXPECT_NEAR(r.productive, 20 / 3600.0, 1e-12);
  EXPECT_NEAR(r.goodput, 0.4, 1e-12);
}

TEST(Report, RefusesWhatIsNoRunOrIsDamaged) {
  ScratchDirectory run;
  EXPECT_EQ(run.relative(error_of(Exit::bad_config, [&] { read_run_history(run.path()); })),
            "DIR: is no run: neither metrics.jsonl nor ledger.jsonl is there");
  run.write("metrics.jsonl", step_line(1, 1, "5.0", 0) + R"({"attempt":1,"step":2,"tokens":5,"kind":"step"})" + "\n");
  EXPECT_EQ(run.relative(error_of(Exit::bad_data, [&] { read_run_history(run.path()); })),
            "DIR/metrics.jsonl:2:1: the key \"train/loss\" is missing");
  run.write("metrics.jsonl", "");
  run.write("experts.jsonl", R"({"attempt":1,"step":2,"tokens":5,"layers":[1,2],"counts":[[1]]})"
                             "\n");
  EXPECT_EQ(run.relative(error_of(Exit::bad_data, [&] { read_run_history(run.path()); })),
            "DIR/experts.jsonl:1:1: layers and counts are not of one length, or of none");
  run.write("experts.jsonl", R"({"attempt":1,"step":2,"tokens":5,"layers":[],"counts":[]})"
                             "\n");
  EXPECT_EQ(run.relative(error_of(Exit::bad_data, [&] { read_run_history(run.path()); })),
            "DIR/experts.jsonl:1:1: layers and counts are not of one length, or of none");
}

TEST(JsonLines, PassOverTornLinesOnly) {
  ScratchDirectory d;
  d.write("x", "{\"a\":1}\n{\"a\":\n{\"a\":2}\n\n{\"a\":3");
  std::vector<int64_t> seen;
  read_json_lines(d.at("x"), {}, [&](const Json& json) { seen.push_back(json.at("a").as_int()); });
  EXPECT_EQ(seen, (std::vector<int64_t>{1, 2}));
  d.write("x", "{\"a\":1}\n{oops}\n");
  EXPECT_NE(error_of(Exit::bad_data, [&] { read_json_lines(d.at("x"), {}, [](const Json&) {}); }).find("x:2:"),
            std::string::npos);
}

}  // namespace
}  // namespace tael
