// Budgets around the cost of a step, through the real trainer on two ranks, with a clock that the test moves: never
// overdrawn, always with a complete checkpoint or refused before anything is there, and in the end the same bits.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <mutex>
#include <thread>

#include "base/json.hpp"
#include "checkpoint/checkpoint.hpp"
#include "cost/ledger.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/training.hpp"
#include "trainer/training.hpp"

namespace tael::testing {
namespace {

constexpr int kRanks = 2;
constexpr int64_t kSteps = 5;
// Wall seconds on the test's clock; each time up to an eighth more or less.
constexpr double kStart = 3, kStep = 10, kWrite = 4, kPublish = 2, kEvaluation = 5, kJitter = 0.125;

constexpr const char* kConfig = R"(schema: 1
run: {seed: 3}
model: {vocab_size: 37, hidden_size: 8, intermediate_size: 12, moe_intermediate_size: 4, num_hidden_layers: 2,
  num_attention_heads: 2, q_lora_rank: 4, kv_lora_rank: 4, qk_nope_head_dim: 4, qk_rope_head_dim: 2, v_head_dim: 4,
  n_routed_experts: 4, n_shared_experts: 1, num_experts_per_tok: 2, n_group: 2, topk_group: 1,
  first_k_dense_replace: 1}
training: {seq_length: 8, micro_batch_size: 2, global_batch_size: 8}
metrics: {tensorboard: false}
)";

// One clock for all ranks, which rank 0 moves: when it leaves an update (a step is over) or an evaluation, when it has
// written the lines of a step or replaced status.json between steps, when it begins to read a checkpoint, and when one
// of its writing threads ends. All else takes no time.
class MovedClock {
 public:
  struct Takes {
    double step = kStep;
    double stall = 0;   // the twentieth step, more than that
    double lines = 0;   // to write those of a step
    double status = 0;  // to replace status.json
    double evaluation = kEvaluation;
    double load = 0;     // to read a checkpoint
    double weights = 0;  // to write the final ones, where there are none yet
  };
  MovedClock(uint64_t seed, const Takes& takes, const std::string& directory)
      : takes_(takes),
        model_(directory + "/model"),
        has_model_(std::filesystem::exists(model_)),
        status_(directory + "/status.json"),
        metrics_(directory + "/metrics.jsonl"),
        random_(seed) {}

  double now() {
    const std::lock_guard lock(mutex_);
    return now_;
  }
  TimeSource of_rank(int rank, const std::optional<tael::Run>& run) {
    if (rank != 0) return [this] { return now(); };
    return [this, &run, main = std::this_thread::get_id(), before = CostKind::startup]() mutable {
      const std::lock_guard lock(mutex_);
      if (std::this_thread::get_id() == main) {
        const CostKind kind = run ? run->clock.current() : CostKind::startup;
        if (kind == CostKind::optimizer) {
          move(takes_.step);
          if (++steps_ == 20) now_ += takes_.stall;
        }
        if (kind == CostKind::evaluation && before != kind) move(takes_.evaluation);
        if (kind == CostKind::checkpoint && before == CostKind::startup && steps_ == 0) move(takes_.load);
        if (!has_model_ && std::filesystem::exists(model_)) {
          has_model_ = true;
          if (takes_.weights > 0) move(takes_.weights);
        }
        const bool idle = kind == CostKind::idle;
        struct stat file {};
        const ino_t status = stat(status_.c_str(), &file) == 0 ? file.st_ino : 0;
        if (status != std::exchange(status_inode_, status) && idle) move(takes_.status);
        const off_t lines = stat(metrics_.c_str(), &file) == 0 ? file.st_size : 0;
        if (lines != std::exchange(metrics_bytes_, lines) && idle) move(takes_.lines);
        before = kind;
      } else {
        // A writing thread asks when it begins and when it ends. First it writes the shard, then another publishes.
        thread_local bool began = false;
        if (began) move(std::exchange(publishes_, !publishes_) ? kPublish : kWrite);
        began = true;
      }
      return now_;
    };
  }

 private:
  void move(double seconds) {
    now_ += seconds * (1 + kJitter * (2 * static_cast<double>(random_.below(1001)) / 1000 - 1));
  }

  const Takes takes_;
  const std::string model_;
  bool has_model_;
  const std::string status_, metrics_;
  std::mutex mutex_;
  Random random_;
  double now_ = kStart;
  bool publishes_ = false;
  ino_t status_inode_ = 0;
  off_t metrics_bytes_ = 0;
  int steps_ = 0;
};

struct Variant {
  bool evaluates;
  int64_t interval;
  int64_t steps = kSteps;
  MovedClock::Takes takes = {};
};

class BudgetSweep : public ::testing::Test {
 protected:
  struct Outcome {
    int code = 0;
    std::string message;  // of an error
  };

  // Starts or goes on with the run in `directory`; budget in wall seconds of the two ranks, 0: none.
  // `parent`: the checkpoint that it branches off.
  Outcome start(const std::string& directory, const Variant& variant, double budget, const std::string& parent = {}) {
    std::vector<std::string> changes = {"run.dir=" + directory, "data.train=[" + shard_ + "]",
                                        "cluster.threads_per_rank=1",
                                        fmt::format("checkpoint.interval={}", variant.interval), "checkpoint.keep=9"};
    changes.push_back(fmt::format("training.train_steps={}", variant.steps));
    if (variant.evaluates) {
      changes.push_back("data.valid=[" + valid_ + "]");
      changes.push_back("training.eval_interval=2");
    }
    if (budget > 0) changes.push_back(fmt::format("budget.gpu_hours={}", kRanks * budget / 3600));
    const LoadedConfig loaded = load_config_text(kConfig, "test.yaml", changes, {});
    MovedClock clock(++seed_, variant.takes, directory);
    Outcome outcome;
    std::FILE* nowhere = std::fopen("/dev/null", "w");
    ThreadWorld world(kRanks);
    world.run([&](Comm& comm) {
      std::optional<tael::Run> run;
      run.emplace(loaded, comm, clock.of_rank(comm.rank(), run), 0.0);
      TrainingSetup setup;
      setup.in_existing_run = std::filesystem::exists(directory);
      setup.branched_from = parent;
      comm.barrier();
      setup.predicted_step_seconds = variant.takes.step;
      setup.predicted_save_seconds = kWrite + kPublish;
      setup.peak = 1e9;
      Console console({.out = nowhere});
      try {
        const Exit code = Training(*run, setup, comm.rank() == 0 ? &console : nullptr)();
        if (comm.rank() == 0) outcome.code = static_cast<int>(code);
      } catch (const AgreedError& error) {
        if (comm.rank() == 0) outcome = {static_cast<int>(error.code()), error.what()};
      }
    });
    std::fclose(nowhere);
    return outcome;
  }

  static double booked(const std::string& directory) {
    return totals_of(read_ledger(directory + "/ledger.jsonl")).sum() / kRanks;
  }
  // Every checkpoint there is whole; the newest one's step.
  static int64_t saved_step(const std::string& directory) {
    const CheckpointStore store(directory + "/checkpoints");
    for (const int64_t step : store.published()) Checkpoint::open(store.path(step)).verify();
    const std::vector<int64_t> steps = store.published();
    return steps.empty() ? -1 : steps.back();
  }
  struct Metrics {
    int64_t last_step = 0;
    double used = 0;                    // of the budget, after the last step
    double used_between = 0;            // the largest part below 95% that a step ended with
    std::map<std::string, int> warned;  // "80%" and "95%", how often
  };
  static Metrics metrics(const std::string& directory, int64_t attempt) {
    Metrics m;
    const std::string text = read_file(directory + "/metrics.jsonl");
    for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
      const auto document = JsonDocument::parse(text.substr(at, text.find('\n', at) - at), "metrics.jsonl");
      const Json& line = document.root();
      if (line.at("attempt").as_int() != attempt) continue;
      if (line.at("kind").as_string() == "step") {
        m.last_step = line.at("step").as_int();
        m.used = 1 - line.at("cost/budget_left_frac").as_double();
        if (m.used < 0.95) m.used_between = m.used;
      } else if (line.at("kind").as_string() == "event") {
        const std::string& message = line.at("message").as_string();
        for (const char* part : {"80%", "95%"})
          if (message.starts_with(std::string(part) + " of the budget is used")) ++m.warned[part];
      }
    }
    return m;
  }

  ScratchDirectory directory_;
  const std::string shard_ = make_shard(directory_, "data", Random(3).integers(400, 37), 37);
  // An evaluation is expected to take a third of a step's time for as many tokens.
  const std::string valid_ =
      make_shard(directory_, "valid", Random(4).integers(static_cast<int>(3 * 64 * kEvaluation / kStep), 37), 37);
  uint64_t seed_ = 0;
};

TEST_F(BudgetSweep, FortyBudgetsAroundAStepAreNeverOverdrawn) {
  const Variant variants[] = {{false, 0}, {true, 1}, {true, 0}, {false, 2}};
  const std::string whole = directory_.at("whole");
  ASSERT_EQ(start(whole, {false, 0}, 0).code, 0);
  const std::string weights = read_file(whole + "/model/model.safetensors");
  int refused = 0, at_once = 0, finished = 0;
  double least = 1e9;  // seconds that were left of a budget
  std::map<int64_t, int> ended_after;
  for (int i = 0; i < 40; ++i) {
    const Variant& variant = variants[i % 4];
    double budget = 14 + 2 * i;
    const std::string run = directory_.at(fmt::format("run{}", i));
    seed_ = static_cast<uint64_t>(100 * i);  // however often the one before was started
    SCOPED_TRACE(
        fmt::format("budget {} s, checkpoint.interval {}, evaluation {}", budget, variant.interval, variant.evaluates));
    Outcome outcome = start(run, variant, budget);
    if (outcome.code == 78) {
      ++refused;
      EXPECT_NE(outcome.message.find("are too little"), std::string::npos) << outcome.message;
      EXPECT_FALSE(std::filesystem::exists(run));
      EXPECT_LT(budget, kStart + 1.25 * (kStep + kWrite + kPublish) + 1);  // it would not have fitted for sure
      budget = 40;
      outcome = start(run, variant, budget);
      ASSERT_NE(outcome.code, 78) << outcome.message;
    }
    std::string ledger, log;  // as the start before left them
    int64_t step = 0;
    bool same_budget = false;  // as the start before had
    for (int64_t attempt = 1; attempt < 30; ++attempt) {
      ASSERT_TRUE(outcome.code == 76 || outcome.code == 0) << outcome.code << " " << outcome.message;
      const double spent = booked(run);
      EXPECT_LE(spent, budget) << "attempt " << attempt;
      const std::string booked_before = std::exchange(ledger, read_file(run + "/ledger.jsonl"));
      const std::string logged_before = std::exchange(log, read_file(run + "/metrics.jsonl"));
      if (ledger == booked_before) {  // 76 at once: nothing is done, nothing is booked
        EXPECT_EQ(outcome.code, 76);
        EXPECT_EQ(log, logged_before);
        EXPECT_EQ(saved_step(run), step);
        ++at_once;
        // What is left would not have been enough for what a start and a step might take with all that goes with them.
        if (variant.interval == 0) least = std::min(least, budget - spent);  // the others' depends on threads
        const double most = kStart + kStep * (1 + 4 * kJitter) + 5 * (kWrite + kPublish) + 1.5 * kEvaluation;
        EXPECT_TRUE(variant.interval > 0 || budget - spent < most) << spent;
        budget += 45;
        same_budget = false;
      } else {
        // With saves beside steps one step more may fit than it seemed: there a save seems longer than it is alone.
        EXPECT_FALSE(same_budget && variant.interval == 0);
        const Metrics m = metrics(run, attempt);
        if (m.last_step == 0) {
          EXPECT_EQ(step, kSteps);  // the budget had room for the last step, and not for what seemed to follow it
        } else {
          EXPECT_GT(m.last_step, step);
          step = m.last_step;
        }
        EXPECT_EQ(saved_step(run), step);
        // After the last step too, by what ends the attempt.
        EXPECT_EQ(m.warned.contains("95%"), spent >= 0.95 * budget) << spent;
        EXPECT_TRUE(spent < 0.80 * budget || !m.warned.empty()) << spent;
        EXPECT_TRUE(m.used_between < 0.80 || m.warned.contains("80%"));
        for (const auto& [part, times] : m.warned) EXPECT_EQ(times, 1) << part;
        if (outcome.code == 0) break;
        ++ended_after[step];
        same_budget = true;
      }
      outcome = start(run, variant, budget);
    }
    finished += outcome.code == 0;
    EXPECT_EQ(saved_step(run), kSteps);
    EXPECT_EQ(read_file(run + "/model/model.safetensors"), weights);
    std::filesystem::remove_all(run);
  }
  EXPECT_EQ(finished, 40);
  EXPECT_GT(refused, 2);
  EXPECT_GT(at_once, 20);
  EXPECT_LT(least, 0.5 * kStep);  // it was close
  for (int64_t after = 1; after < kSteps; ++after) EXPECT_GT(ended_after[after], 0) << after;
}

// Many short steps pass both marks, each with one word.
TEST_F(BudgetSweep, EightyAndNinetyFivePercentAreSaidOnce) {
  const std::string run = directory_.at("run");
  EXPECT_EQ(start(run, {false, 0, 1000, {.step = 1}}, 400).code, 76);
  EXPECT_LE(booked(run), 400);
  const Metrics m = metrics(run, 1);
  EXPECT_GT(m.used, 0.95);
  EXPECT_EQ(m.warned, (std::map<std::string, int>{{"80%", 1}, {"95%", 1}}));
  EXPECT_EQ(saved_step(run), m.last_step);
}

// A machine that stalled once: the run goes on while one more such stall has room, and has forgotten it after twenty
// steps.
TEST_F(BudgetSweep, OneStallIsNotTakenForTheRule) {
  const std::string run = directory_.at("run");
  const Variant variant{.evaluates = false, .interval = 0, .steps = 1000, .takes = {.step = 1, .stall = 150}};
  EXPECT_EQ(start(run, variant, 400).code, 76);
  const double spent = booked(run);
  EXPECT_LE(spent, 400);
  EXPECT_GT(spent, 0.95 * 400);
  EXPECT_EQ(saved_step(run), metrics(run, 1).last_step);
}

// A disk so slow that replacing status.json takes longer than a step.
TEST_F(BudgetSweep, ASlowDiskDoesNotOverdrawForStatus) {
  const Variant variant{.evaluates = false, .interval = 0, .steps = 1000, .takes = {.step = 1, .status = 5}};
  for (int budget = 60; budget < 72; ++budget) {
    const std::string run = directory_.at(fmt::format("run{}", budget));
    EXPECT_EQ(start(run, variant, budget).code, 76);
    const double spent = booked(run);
    EXPECT_LE(spent, budget);
    EXPECT_GT(spent, budget - 12) << "what is left does not even pay for a step, status.json and a save";
    EXPECT_EQ(saved_step(run), metrics(run, 1).last_step);
  }
}

// Who waits for the lines of a step waits neither for a start nor for data, and they are lost with it.
TEST_F(BudgetSweep, WhatLiesBetweenStepsBelongsToThem) {
  const std::string run = directory_.at("run");
  const Variant variant{.evaluates = false, .interval = 2, .steps = 5, .takes = {.step = 1, .lines = 30}};
  ASSERT_EQ(start(run, variant, 0).code, 0);
  const CheckpointStore store(run + "/checkpoints");
  for (const int64_t step : {4, 5}) std::filesystem::remove_all(store.path(step));
  ASSERT_EQ(start(run, variant, 0).code, 0);
  double idle = 0, later = 0;
  int restarts = 0;
  for (const LedgerLine& line : read_ledger(run + "/ledger.jsonl")) {
    SCOPED_TRACE(fmt::format("attempt {}, {} of step {}", line.attempt, line.kind, line.step));
    if (line.kind == "restart") {
      ++restarts;
      EXPECT_NEAR(line.device_seconds[CostKind::lost], later, 1e-6);
    } else if (line.attempt == 1 && line.kind != "start") {
      EXPECT_EQ(line.device_seconds[CostKind::startup], 0);
      EXPECT_EQ(line.device_seconds[CostKind::data_wait], 0);
      idle += line.device_seconds[CostKind::idle];
      if (line.step > 2) later += line.sum();
    }
  }
  EXPECT_EQ(restarts, 1);
  EXPECT_NEAR(idle, kRanks * 5 * 30, kRanks * 5 * 30 * kJitter);
  EXPECT_GT(later, kRanks * 2 * 30);
}

// A branch that was killed before its first checkpoint reads its parent's again, and then its own: who has no time for
// that and a step does nothing.
TEST_F(BudgetSweep, WhatReadingACheckpointTakesIsKept) {
  const std::string whole = directory_.at("whole"), run = directory_.at("run");
  ASSERT_EQ(start(whole, {false, 0}, 0).code, 0);
  const std::string parent = CheckpointStore(whole + "/checkpoints").path(kSteps);
  const Variant variant{.evaluates = false, .interval = 0, .steps = 1000, .takes = {.step = 1, .load = 30}};
  double budget = 100;
  ASSERT_EQ(start(run, variant, budget, parent).code, 76);
  for (const bool own : {false, true}) {
    if (!own) std::filesystem::remove_all(run + "/checkpoints");
    const std::string ledger = read_file(run + "/ledger.jsonl");
    const double spent = booked(run);
    EXPECT_LE(spent, budget);
    EXPECT_EQ(start(run, variant, spent + 39, parent).code, 76);
    EXPECT_TRUE(read_file(run + "/ledger.jsonl") == ledger) << "nothing is booked";
    budget = spent + 80;
    EXPECT_EQ(start(run, variant, budget, parent).code, 76);
    EXPECT_LE(booked(run), budget);
    EXPECT_GT(booked(run), spent + 60);
    EXPECT_GT(saved_step(run), kSteps);
  }
}

// Final weights on a slow disk: who has written them once keeps room for them.
TEST_F(BudgetSweep, WhatTheFinalWeightsTakeIsKept) {
  const std::string run = directory_.at("run");
  Variant variant{.evaluates = false, .interval = 0, .steps = 5, .takes = {.step = 1, .weights = 30}};
  ASSERT_EQ(start(run, variant, 0).code, 0);
  std::filesystem::remove_all(run + "/model");
  variant.steps = 10;
  for (const double left : {40.0, 70.0}) {
    const double budget = booked(run) + left;
    EXPECT_EQ(start(run, variant, budget).code, left < 50 ? 76 : 0);
    EXPECT_LE(booked(run), budget);
  }
}

// The last evaluation takes longer than it should: who has made one keeps room for the next.
TEST_F(BudgetSweep, WhatTheLastEvaluationTakesIsKept) {
  const std::string run = directory_.at("run");
  Variant variant{.evaluates = true, .interval = 0, .steps = 1, .takes = {.step = 1, .evaluation = 60}};
  ASSERT_EQ(start(run, variant, 0).code, 0);
  for (const double left : {40.0, 110.0}) {
    ++variant.steps;  // one that is evaluated at the end only
    const double budget = booked(run) + left;
    EXPECT_EQ(start(run, variant, budget).code, left < 50 ? 76 : 0);
    EXPECT_LE(booked(run), budget);
    if (left < 50) --variant.steps;
  }
}

// Rank 0 books for all when a run fails; what the others did until then stays as it was.
TEST_F(BudgetSweep, AFailureTakesNothingBackFromAnyKind) {
  const std::string run = directory_.at("run");
  directory_.write("run/checkpoints", "no directory");
  EXPECT_EQ(start(run, {false, 1}, 0).code, 74);
  const std::vector<LedgerLine> lines = read_ledger(run + "/ledger.jsonl");
  EXPECT_EQ(lines.back().kind, "end");
  for (const double seconds : lines.back().device_seconds.of) EXPECT_GE(seconds, -1e-6);
  EXPECT_NEAR(totals_of(lines).sum(), kRanks * lines.back().wall_seconds, 1e-6);
}

// A run that was killed before its first checkpoint and has too little left is refused as a new one is, without a line
// in its books.
TEST_F(BudgetSweep, WithoutACheckpointTooLittleIsRefused) {
  const std::string run = directory_.at("run");
  ASSERT_EQ(start(run, {false, 0}, 30).code, 76);
  std::filesystem::remove_all(run + "/checkpoints");
  const std::string ledger = read_file(run + "/ledger.jsonl");
  const Outcome outcome = start(run, {false, 0}, 30);
  EXPECT_EQ(outcome.code, 78);
  EXPECT_NE(outcome.message.find("are too little"), std::string::npos) << outcome.message;
  EXPECT_EQ(read_file(run + "/ledger.jsonl"), ledger);
  EXPECT_EQ(start(run, {false, 0}, 200).code, 0);  // and the directory is free
}

// A run whose steps are done has nothing more to pay for.
TEST_F(BudgetSweep, AFinishedRunStaysFinished) {
  const std::string run = directory_.at("run");
  ASSERT_EQ(start(run, {true, 0}, 0).code, 0);
  EXPECT_EQ(start(run, {true, 0}, 20).code, 0);
}

}  // namespace
}  // namespace tael::testing
