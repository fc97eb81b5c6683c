// A run that is planned for many ranks by one process takes what each of those ranks will take.
#include <gtest/gtest.h>

#include <mutex>

#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"
#include "tests/harness/training.hpp"

namespace tael::testing {
namespace {

std::vector<size_t> sizes(const Run& run) {
  const MemoryPlan& m = run.memory_plan;
  return {m.weights, m.gradients, m.optimizer, m.activations, m.scratch, m.communication, run.batch_bytes};
}

TEST(PlannedRun, TakesTheMemoryOfTheRealOne) {
  const ScratchDirectory directory;
  const std::string shard = make_shard(directory, "data", Random(3).integers(2000, 37), 37);
  for (const char* reduction : {"canonical", "fast"}) {
    const LoadedConfig loaded = load_config_text(
        kTinyRun, "test.yaml",
        {"data.train=[" + shard + "]", std::string("parallelism.reduction=") + reduction, "cluster.threads_per_rank=1"},
        {});
    std::vector<std::vector<size_t>> real;
    std::mutex mutex;
    ThreadWorld world(4);
    world.run([&](Comm& comm) {
      const tael::Run run(loaded, comm);
      const std::lock_guard lock(mutex);
      real.push_back(sizes(run));
    });
    const std::unique_ptr<Comm> planned = make_comm_alike(4, 2);
    const tael::Run run(loaded, *planned);
    for (const std::vector<size_t>& rank : real) EXPECT_EQ(sizes(run), rank) << reduction;
    EXPECT_EQ(run.memory_plan.communication > 0, loaded.config.canonical());  // fast leaves it to the library
  }
}

// A lane of 15 in micro-batches of 10 ends with one of 5, of 6 with one of 3: the plan covers those too, and the step
// that runs them has the bits of micro-batches of 1.
TEST(PlannedRun, CoversASmallerLastMicroBatch) {
  const ScratchDirectory directory;
  const std::string shard = make_shard(directory, "data", Random(3).integers(2000, 37), 37);
  const auto keys = [&](int64_t micro_batch) {
    return std::vector<std::string>{"data.train=[" + shard + "]", "parallelism.reduction_lanes=2",
                                    "training.global_batch_size=30", "cluster.threads_per_rank=2",
                                    fmt::format("training.micro_batch_size={}", micro_batch)};
  };
  const auto plan = [&](int64_t micro_batch) {
    const LoadedConfig loaded = load_config_text(kTinyRun, "test.yaml", keys(micro_batch), {});
    const std::unique_ptr<Comm> comm = make_comm_self();
    return tael::Run(loaded, *comm).memory_plan;
  };
  const Trained one = train(kTinyRun, 1, keys(1));
  for (const auto& [micro_batch, last] : {std::pair(10, 5), {6, 3}, {2, 1}}) {
    const MemoryPlan whole = plan(micro_batch), part = plan(last);
    EXPECT_GE(whole.activations, part.activations);
    EXPECT_GE(whole.scratch, part.scratch);
    EXPECT_TRUE(same_bits(train(kTinyRun, 1, keys(micro_batch)).params, one.params)) << micro_batch;
  }
}

TEST(PlannedRun, MustFitTheNodeThatIsNamed) {
  const ScratchDirectory directory;
  const std::string shard = make_shard(directory, "data", Random(3).integers(2000, 37), 37);
  const LoadedConfig loaded =
      load_config_text(kTinyRun, "test.yaml", {"data.train=[" + shard + "]", "cluster.threads_per_rank=1"}, {});
  const std::unique_ptr<Comm> planned = make_comm_alike(4, 1);
  const size_t needed = 4 * tael::Run(loaded, *planned).reserved_bytes();
  EXPECT_NO_THROW(tael::Run(loaded, *planned, monotonic_time(), process_start(), 2 * needed));
  const std::string refusal =
      error_of(Exit::bad_config, [&] { tael::Run(loaded, *planned, monotonic_time(), process_start(), needed / 2); });
  EXPECT_NE(refusal.find("4 ranks on a host need"), std::string::npos) << refusal;
}

TEST(PlannedRun, ARefusalNamesOnlyWhatNeedsLess) {
  const ScratchDirectory directory;
  const std::string shard = make_shard(directory, "data", Random(3).integers(200'000, 37), 37);
  const auto advice = [&](const std::vector<std::string>& changes) {
    std::vector<std::string> overrides = {"data.train=[" + shard + "]", "cluster.threads_per_rank=1",
                                          "parallelism.reduction=fast"};
    overrides.insert(overrides.end(), changes.begin(), changes.end());
    const LoadedConfig loaded = load_config_text(kTinyRun, "test.yaml", overrides, {});
    const std::unique_ptr<Comm> planned = make_comm_alike(1, 1);
    const std::string refusal =
        error_of(Exit::bad_config, [&] { tael::Run(loaded, *planned, monotonic_time(), process_start(), 1); });
    return refusal.substr(refusal.rfind("; ") + 2);
  };
  const std::vector<std::string> wide = {"model.vocab_size=20000", "model.hidden_size=256", "training.seq_length=4",
                                         "training.micro_batch_size=1", "training.global_batch_size=4"};
  EXPECT_EQ(advice(wide), "a smaller model needs less");
  // Four lanes are three copies of the gradient; where each rank has one lane, there is nothing to gain.
  std::vector<std::string> lanes = wide;
  lanes.push_back("parallelism.reduction=canonical");
  EXPECT_EQ(advice(lanes), "a smaller model or fewer parallelism.reduction_lanes needs less");
  lanes.push_back("parallelism.reduction_lanes=1");
  EXPECT_EQ(advice(lanes), "a smaller model needs less");
  EXPECT_EQ(advice({"training.seq_length=1024", "training.micro_batch_size=16"}),
            "a smaller training.micro_batch_size needs less");
  EXPECT_EQ(advice({"training.seq_length=4096", "training.micro_batch_size=1"}),
            "a shorter training.seq_length needs less");
  EXPECT_EQ(advice({"training.global_batch_size=10M", "training.micro_batch_size=1"}),
            "a smaller training.global_batch_size needs less");
  EXPECT_EQ(advice({"cluster.threads_per_rank=64"}), "fewer cluster.threads_per_rank needs less");
}

}  // namespace
}  // namespace tael::testing
