// One set of numbers: losses, gradient norms and final weights are equal bit for bit for every number of ranks that
// divides the lanes, every cut into micro-batches and every number of threads.
#include <gtest/gtest.h>

#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"
#include "tests/harness/training.hpp"

namespace tael::testing {
namespace {

constexpr const char* kModel = R"(schema: 1
run: {dir: unused, seed: 5}
model:
  vocab_size: 37
  hidden_size: 24
  intermediate_size: 40
  moe_intermediate_size: 20
  num_hidden_layers: 2
  num_nextn_predict_layers: 1
  num_attention_heads: 4
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
  routed_scaling_factor: 2.5
  max_position_embeddings: 64
  initializer_range: 0.2
router: {bias_update_rate: 1e-2, aux_loss: {coeff: 1e-2}}
optimizer: {lr: 1e-2}
lr_scheduler: {warmup_steps: 2, decay: cosine, min_lr: 1e-3}
)";

std::string config(const std::string& shard, const std::string& more) {
  return std::string(kModel) + "data: {train: [" + shard + "]}\n" + more;
}

struct Layout {
  int ranks = 1;
  int micro_batch = 1;
  int threads = 1;
};

void expect_equal(const Trained& a, const Trained& b, const std::string& what) {
  ASSERT_EQ(a.steps.size(), b.steps.size());
  for (size_t i = 0; i < a.steps.size(); ++i) {
    EXPECT_EQ(a.steps[i].loss, b.steps[i].loss) << what << ", step " << i + 1;
    EXPECT_EQ(a.steps[i].mtp_loss, b.steps[i].mtp_loss) << what;
    EXPECT_EQ(a.steps[i].balance_loss, b.steps[i].balance_loss) << what;
    EXPECT_EQ(a.steps[i].grad_norm, b.steps[i].grad_norm) << what;
  }
  EXPECT_TRUE(same_bits(a.params, b.params)) << what;
  EXPECT_TRUE(same_bits(a.biases, b.biases)) << what;
}

class LayoutTest : public ::testing::Test {
 protected:
  LayoutTest() : shard_(make_shard(directory_, "data", Random(3).integers(4000, 37), 37)) {}

  void compare(const std::string& more, const std::vector<Layout>& layouts,
               const std::vector<std::string>& overrides = {}) {
    std::optional<Trained> first;
    for (const Layout& layout : layouts) {
      std::vector<std::string> keys = overrides;
      keys.push_back(fmt::format("training.micro_batch_size={}", layout.micro_batch));
      keys.push_back(fmt::format("cluster.threads_per_rank={}", layout.threads));
      const Trained trained = train(config(shard_, more), layout.ranks, keys);
      if (!first) {
        first = trained;
        EXPECT_NE(trained.steps.back().loss, trained.steps.front().loss);
        continue;
      }
      expect_equal(
          *first, trained,
          fmt::format("{} ranks, micro-batches of {}, {} threads", layout.ranks, layout.micro_batch, layout.threads));
    }
  }

  ScratchDirectory directory_;
  std::string shard_;
};

const std::vector<Layout> kEight = {{1, 1, 1}, {1, 2, 2}, {1, 16, 3}, {2, 1, 1}, {2, 4, 2},
                                    {4, 2, 1}, {4, 1, 2}, {8, 1, 1},  {8, 2, 1}};

TEST_F(LayoutTest, EightLanes) {
  compare(
      "training: {seq_length: 20, global_batch_size: 16, train_steps: 4}\n"
      "parallelism: {reduction_lanes: 8}\n",
      kEight);
}

TEST_F(LayoutTest, Segments) {
  compare(
      "training: {seq_length: 20, global_batch_size: 16, train_steps: 3}\n"
      "parallelism: {reduction_lanes: 8, reduction_segments: 4}\n",
      {{1, 4, 2}, {2, 2, 1}, {8, 1, 1}});
}

TEST_F(LayoutTest, MtpBeforeTheNormAndTiedTables) {
  compare(
      "training: {seq_length: 17, global_batch_size: 8, train_steps: 3}\n"
      "mtp: {hidden: before_final_norm}\n"
      "parallelism: {reduction_lanes: 4}\n",
      {{1, 2, 1}, {1, 1, 2}, {4, 2, 1}}, {"model.tie_word_embeddings=true", "model.num_nextn_predict_layers=2"});
}

TEST_F(LayoutTest, BatchRamp) {
  compare(
      "training: {seq_length: 10, global_batch_size: [[0, 8], [160, 16]], train_steps: 5}\n"
      "parallelism: {reduction_lanes: 4}\n",
      {{1, 4, 1}, {2, 1, 1}, {4, 2, 2}});
}

TEST_F(LayoutTest, AnotherNumberOfLanesIsAnotherOrderOfSums) {
  const std::string training =
      "training: {seq_length: 20, global_batch_size: 16, train_steps: 2, micro_batch_size: 1}\n";
  const Trained a = train(config(shard_, training + "parallelism: {reduction_lanes: 8}\n"), 1);
  const Trained b = train(config(shard_, training + "parallelism: {reduction_lanes: 1}\n"), 1);
  EXPECT_FALSE(same_bits(a.params, b.params));  // or the comparisons above would show nothing
  EXPECT_NEAR(a.steps[1].loss, b.steps[1].loss, 1e-5);
}

TEST_F(LayoutTest, FastTakesAnyNumberOfRanks) {
  const std::string more =
      "training: {seq_length: 20, global_batch_size: 12, train_steps: 3, micro_batch_size: 2}\n"
      "parallelism: {reduction: fast}\n";
  const Trained one = train(config(shard_, more), 1);
  for (const int ranks : {2, 3, 6}) {
    const Trained many = train(config(shard_, more), ranks);
    for (size_t i = 0; i < one.steps.size(); ++i) EXPECT_NEAR(one.steps[i].loss, many.steps[i].loss, 1e-4);
  }
}

}  // namespace
}  // namespace tael::testing
