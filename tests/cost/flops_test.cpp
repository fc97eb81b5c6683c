#include "cost/flops.hpp"

#include <gtest/gtest.h>

#include "tests/harness/shapes.hpp"

namespace tael {
namespace {

using tael::testing::deepseek_v3;

// Published: 250 GFLOPs a token (arXiv 2505.09343, table 2), 281 with full attention; with MTP 260.6 (NVIDIA).
TEST(Flops, DeepSeekV3) {
  ModelShape shape = deepseek_v3();
  EXPECT_NEAR(training_flops_per_token(shape, 4096), 250.45e9, 0.01e9);
  EXPECT_NEAR(training_flops_per_token(shape, 4096, AttentionCount::full), 281.16e9, 0.01e9);
  shape.num_nextn_predict_layers = 1;
  EXPECT_NEAR(training_flops_per_token(shape, 4096), 260.64e9, 0.01e9);
}

// DeepSeek-V2: 155 (the same table).
TEST(Flops, DeepSeekV2) {
  ModelShape shape = deepseek_v3();
  shape.vocab_size = 102400;
  shape.hidden_size = 5120;
  shape.intermediate_size = 12288;
  shape.moe_intermediate_size = 1536;
  shape.num_hidden_layers = 60;
  shape.n_routed_experts = 160;
  shape.n_shared_experts = 2;
  shape.num_experts_per_tok = 6;
  shape.first_k_dense_replace = 1;
  EXPECT_NEAR(training_flops_per_token(shape, 4096), 155.3e9, 0.1e9);
}

// Without a latent there is one matrix [heads * (nope + rope), hidden].
TEST(Flops, PlainQueryCountsItsMatrix) {
  ModelShape shape = deepseek_v3();
  shape.q_lora_rank.reset();
  EXPECT_NEAR(forward_flops_per_token(shape, 4096) - forward_flops_per_token(deepseek_v3(), 4096),
              61 * 2.0 * (7168.0 * 24576 - 7168.0 * 1536 - 1536.0 * 24576), 1e6);
}

}  // namespace
}  // namespace tael
