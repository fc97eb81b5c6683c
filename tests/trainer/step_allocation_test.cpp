// Once a run is under way a step allocates nothing: not on the threads of the kernels, not in the loader, not in the
// sums over ranks.
#include <gtest/gtest.h>

#include "tests/harness/allocation_count.hpp"
#include "tests/harness/training.hpp"

namespace tael::testing {
namespace {

constexpr const char* kConfig = R"(schema: 1
run: {dir: unused, seed: 5}
model:
  vocab_size: 272
  hidden_size: 24
  intermediate_size: 40
  moe_intermediate_size: 20
  num_hidden_layers: 2
  num_nextn_predict_layers: 1
  num_attention_heads: 2
  q_lora_rank: 12
  kv_lora_rank: 10
  qk_nope_head_dim: 6
  qk_rope_head_dim: 4
  v_head_dim: 6
  n_routed_experts: 8
  n_shared_experts: 1
  num_experts_per_tok: 3
  n_group: 4
  topk_group: 2
  first_k_dense_replace: 1
  max_position_embeddings: 64
router: {bias_update_rate: 1e-2, aux_loss: {coeff: 1e-2}}
training: {seq_length: 16, micro_batch_size: 2, global_batch_size: 8, train_steps: 8, eval_interval: 0}
lr_scheduler: {warmup_steps: 2}
cluster: {threads_per_rank: 2}
)";

struct AllocationCase {
  const char* name;
  int ranks;
  std::vector<std::string> overrides;
};
void PrintTo(const AllocationCase& c, std::ostream* out) { *out << c.name; }

class StepAllocation : public ::testing::TestWithParam<AllocationCase> {};

TEST_P(StepAllocation, NothingBetweenTheThirdStepAndTheFifth) {
  const ScratchDirectory directory;
  std::string text;
  for (int i = 0; i < 1200; ++i) text += static_cast<char>('a' + i * i % 23);
  directory.write("a.txt", text);
  directory.write("b.txt", text.substr(7, 333));
  const std::string shard = directory.at("data.h5");
  prepare_data({.inputs = {directory.at("a.txt"), directory.at("b.txt")}, .out = shard});
  const LoadedConfig loaded =
      load_config_text(kConfig + fmt::format("data: {{train: [{}]}}\n", shard), "test.yaml", GetParam().overrides, {});
  check_config(loaded);
  check_world(loaded, GetParam().ranks);

  int64_t before = 0, after = -1;
  ThreadWorld world(GetParam().ranks);
  world.run([&](Comm& comm) {
    tael::Run run(loaded, comm);
    run.allocate();
    run.initialize();
    Progress progress;
    const auto steps_until = [&](int64_t last) {
      while (progress.step < last) train_step(run, progress);
      comm.barrier();
    };
    steps_until(3);
    if (comm.rank() == 0) before = allocation_count();
    comm.barrier();
    steps_until(5);
    if (comm.rank() == 0) after = allocation_count();
    comm.barrier();
  });
  EXPECT_GT(before, 0);
  EXPECT_EQ(after - before, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, StepAllocation,
    ::testing::Values(AllocationCase{"Alone", 1, {}}, AllocationCase{"TwoRanks", 2, {}},
                      AllocationCase{"FourRanks", 4, {"training.micro_batch_size=1"}},
                      AllocationCase{"Fast", 3, {"parallelism.reduction=fast", "training.global_batch_size=12"}},
                      AllocationCase{"FastAlone", 1, {"parallelism.reduction=fast"}},
                      AllocationCase{"DocumentMask", 2, {"data.document_mask=true"}},
                      AllocationCase{"LateChecks", 1, {"data.verify=blocks"}},
                      AllocationCase{"Ramp", 1, {"training.global_batch_size=[[0, 8], [512, 16]]"}},
                      AllocationCase{"TiedInSegments",
                                     1,
                                     {"model.tie_word_embeddings=true", "parallelism.reduction_segments=2",
                                      "model.num_nextn_predict_layers=2", "mtp.hidden=before_final_norm"}},
                      AllocationCase{"SoftmaxGate",
                                     1,
                                     {"model.model_type=deepseek_v2", "model.scoring_func=softmax",
                                      "model.topk_method=group_limited_greedy", "model.q_lora_rank=null"}},
                      AllocationCase{"Dense", 2, {"model.n_routed_experts=null", "model.first_k_dense_replace=2"}}),
    [](const auto& param_info) { return std::string(param_info.param.name); });

}  // namespace
}  // namespace tael::testing
