// A run that is planned for many ranks by one process takes what each of those ranks will take.
#include <gtest/gtest.h>

#include <mutex>

#include "tests/harness/random.hpp"
#include "tests/harness/training.hpp"

namespace tael::testing {
namespace {

constexpr const char* kModel = R"(schema: 1
run: {dir: unused}
model: {vocab_size: 37, hidden_size: 24, intermediate_size: 40, moe_intermediate_size: 20, num_hidden_layers: 2,
  num_attention_heads: 4, q_lora_rank: 12, kv_lora_rank: 10, qk_nope_head_dim: 6, qk_rope_head_dim: 4, v_head_dim: 6,
  n_routed_experts: 8, n_shared_experts: 1, num_experts_per_tok: 3, n_group: 4, topk_group: 2, first_k_dense_replace: 1}
training: {seq_length: 16, micro_batch_size: 2, global_batch_size: 16, train_steps: 1}
)";

std::vector<size_t> sizes(const Run& run) {
  const MemoryPlan& m = run.memory_plan;
  return {m.weights, m.gradients, m.optimizer, m.activations, m.scratch, m.communication, run.batch_bytes};
}

TEST(PlannedRun, TakesTheMemoryOfTheRealOne) {
  const ScratchDirectory directory;
  const std::string shard = make_shard(directory, "data", Random(3).integers(2000, 37), 37);
  for (const char* reduction : {"canonical", "fast"}) {
    const LoadedConfig loaded = load_config_text(
        kModel, "test.yaml",
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

TEST(PlannedRun, MustFitTheNodeThatIsNamed) {
  const ScratchDirectory directory;
  const std::string shard = make_shard(directory, "data", Random(3).integers(2000, 37), 37);
  const LoadedConfig loaded =
      load_config_text(kModel, "test.yaml", {"data.train=[" + shard + "]", "cluster.threads_per_rank=1"}, {});
  const std::unique_ptr<Comm> planned = make_comm_alike(4, 1);
  const size_t needed = 4 * tael::Run(loaded, *planned).reserved_bytes();
  EXPECT_NO_THROW(tael::Run(loaded, *planned, monotonic_time(), process_start(), 2 * needed));
  const std::string refusal =
      error_of(Exit::bad_config, [&] { tael::Run(loaded, *planned, monotonic_time(), process_start(), needed / 2); });
  EXPECT_NE(refusal.find("4 ranks on a host need"), std::string::npos) << refusal;
}

}  // namespace
}  // namespace tael::testing
