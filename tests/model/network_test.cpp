// Properties of the whole model that no single gradient shows.
#include "model/network.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/init.hpp"
#include "tests/harness/network_run.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"

namespace tael::testing {
namespace {

ModelShape small() {
  ModelShape s;
  s.vocab_size = 53;
  s.hidden_size = 48;
  s.intermediate_size = 64;
  s.moe_intermediate_size = 20;
  s.num_hidden_layers = 3;
  s.num_attention_heads = 3;
  s.q_lora_rank = 24;
  s.kv_lora_rank = 16;
  s.qk_nope_head_dim = 10;
  s.qk_rope_head_dim = 6;
  s.v_head_dim = 8;
  s.n_routed_experts = 8;
  s.n_shared_experts = 1;
  s.num_experts_per_tok = 2;
  s.n_group = 4;
  s.topk_group = 2;
  s.routed_scaling_factor = 2.5;
  s.first_k_dense_replace = 1;
  s.initializer_range = 0.1;
  return s;
}

void fill(NetworkRun& run, uint64_t seed) {
  ThreadPool pool(1);
  init_params(Stream(pool, best_isa()), run.network.table(), seed, run.params.data(), run.biases.data());
}

// Deviation of every matrix within six standard errors of the one asked for, mean of zero, norms of one.
TEST(Init, EveryMatrixHasTheDeviationAskedFor) {
  ModelShape shape = small();
  shape.hidden_size = 96;
  shape.initializer_range = 0.006;
  NetworkRun run(shape, MtpHidden::after_final_norm, 8);
  fill(run, 7);
  for (const ParamSpec& spec : run.network.table().params) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < spec.size(); ++i) {
      const double x = run.params[static_cast<size_t>(spec.offset + i)];
      mean += x;
      square += x * x;
    }
    const double n = static_cast<double>(spec.size());
    if (spec.init == Init::ones) {
      EXPECT_EQ(mean, n) << spec.name;
      continue;
    }
    EXPECT_LT(std::abs(mean / n), 6 * 0.006 / std::sqrt(n)) << spec.name;
    EXPECT_LT(std::abs(std::sqrt(square / n) / 0.006 - 1), 6 / std::sqrt(2 * n)) << spec.name;
  }
  for (const float b : run.biases) EXPECT_EQ(b, 0.0f);
}

class NetworkProperty : public ::testing::Test {
 protected:
  static constexpr int64_t kBatch = 4, kLength = 19;
  NetworkProperty() : tokens(Random(11).integers(kBatch * (kLength + 3), 53)) {}
  MicroBatch batch(int64_t first = 0, int64_t count = kBatch) const {
    return {{count, kLength}, mat(tokens.data() + first * (kLength + 3), count, kLength + 3), {}};
  }
  static constexpr LossCoefficients kCoefficients{.main = 0.01, .mtp = 0.003, .balance = 0.1};
  std::vector<int32_t> tokens;
};

TEST_F(NetworkProperty, MicroBatchesAndThreadsChangeNoBit) {
  ModelShape shape = small();
  shape.num_nextn_predict_layers = 2;
  NetworkRun whole(shape, MtpHidden::after_final_norm, kLength, 1);
  fill(whole, 3);
  const NetworkRun::Losses losses = whole.train(batch(), kCoefficients);
  for (const int threads : {1, 2, 3}) {
    for (const int64_t cut : {1, 2, 3}) {
      NetworkRun run(shape, MtpHidden::after_final_norm, kLength, threads);
      run.params = whole.params;
      std::vector<double> main;
      for (int64_t first = 0; first < kBatch; first += cut) {
        const auto part = run.train(batch(first, std::min(cut, kBatch - first)), kCoefficients);
        main.insert(main.end(), part.main.begin(), part.main.end());
      }
      EXPECT_EQ(main, losses.main);
      EXPECT_TRUE(same_bits(run.grads, whole.grads)) << threads << " threads, micro-batches of " << cut;
      EXPECT_EQ(run.counts, whole.counts);
    }
  }
}

// Dropping the MTP modules leaves the main model's logits as they are, bit for bit.
TEST_F(NetworkProperty, MtpDoesNotTouchTheMainModel) {
  ModelShape shape = small();
  NetworkRun without(shape, MtpHidden::after_final_norm, kLength);
  shape.num_nextn_predict_layers = 2;
  NetworkRun with(shape, MtpHidden::after_final_norm, kLength);
  fill(without, 5);
  fill(with, 5);
  EXPECT_TRUE(same_bits(with.logits(batch(), 0, 30), without.logits(batch(), 0, 30)));
}

TEST_F(NetworkProperty, EvaluationDoesNotCountTokens) {
  NetworkRun run(small(), MtpHidden::after_final_norm, kLength);
  fill(run, 5);
  run.evaluate(batch());
  for (const int64_t count : run.counts) EXPECT_EQ(count, 0);
  run.train(batch(), kCoefficients);
  int64_t total = 0;
  for (const int64_t count : run.counts) total += count;
  EXPECT_EQ(total, 2 * kBatch * kLength * 2);  // two MoE layers, two experts a token
}

// The bias steers the choice and nothing else: with all experts chosen it changes no bit, however uneven it is.
TEST_F(NetworkProperty, BiasOnlySteersTheChoice) {
  ModelShape shape = small();
  shape.num_experts_per_tok = shape.n_routed_experts;
  shape.topk_group = shape.n_group;
  NetworkRun run(shape, MtpHidden::after_final_norm, kLength);
  fill(run, 5);
  const std::vector<float> before = run.logits(batch(), 0, 10);
  Random random(1);
  for (float& b : run.biases) b = static_cast<float>(random.normal());
  EXPECT_TRUE(same_bits(run.logits(batch(), 0, 10), before));
}

// All tokens on one expert, others empty: dropless, and the empty experts' gradients are exactly zero.
TEST_F(NetworkProperty, OneExpertWithEverything) {
  ModelShape shape = small();
  shape.num_experts_per_tok = 1;
  shape.topk_group = 1;
  NetworkRun run(shape, MtpHidden::after_final_norm, kLength, 2);
  fill(run, 5);
  for (size_t i = 0; i < run.biases.size(); ++i) run.biases[i] = i % 8 == 5 ? 10.0f : 0.0f;
  run.train(batch(), kCoefficients);
  const LayerLayout& layer = run.network.table().layers[1];
  for (int64_t e = 0; e < 8; ++e) {
    EXPECT_EQ(run.counts_LE()(layer.moe_index, e), e == 5 ? kBatch * kLength : 0);
    double sum = 0;
    for (int64_t i = 0; i < layer.expert_stride; ++i)
      sum += std::abs(run.grads[static_cast<size_t>(layer.experts.gate_up + e * layer.expert_stride + i)]);
    EXPECT_EQ(sum > 0, e == 5) << "expert " << e;
  }
}

TEST_F(NetworkProperty, NamesTheFirstLayerThatIsNotFinite) {
  NetworkRun run(small(), MtpHidden::after_final_norm, kLength);
  fill(run, 5);
  run.train(batch(), kCoefficients);
  EXPECT_EQ(run.network.first_nonfinite_layer(), -1);
  run.params[static_cast<size_t>(run.network.table().layers[2].experts.down)] = INFINITY;
  run.params[static_cast<size_t>(run.network.table().layers[2].ffn.down)] = NAN;
  run.train(batch(), kCoefficients);
  EXPECT_EQ(run.network.first_nonfinite_layer(), 2);
}

TEST_F(NetworkProperty, OneTokenAtATime) {
  NetworkRun run(small(), MtpHidden::after_final_norm, kLength);
  fill(run, 5);
  const MicroBatch one{{1, 1}, mat(tokens.data(), 1, 2), {}};
  const NetworkRun::Losses losses = run.train(one, {.main = 1.0});
  EXPECT_TRUE(std::isfinite(losses.main[0]));
  EXPECT_GT(losses.main[0], 0);
}

}  // namespace
}  // namespace tael::testing
