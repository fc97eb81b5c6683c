// Every gradient of the hand-written backward against the exact gradient of the reference network, over the kinds of
// model that exist: one row per kind.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "tests/harness/network_run.hpp"
#include "tests/harness/oracle.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/reference_network.hpp"

namespace tael::testing {
namespace {

ModelShape tiny() {
  ModelShape s;
  s.vocab_size = 13;
  s.hidden_size = 10;
  s.intermediate_size = 14;
  s.moe_intermediate_size = 6;
  s.num_hidden_layers = 2;
  s.num_attention_heads = 4;
  s.q_lora_rank = 7;
  s.kv_lora_rank = 5;
  s.qk_nope_head_dim = 3;
  s.qk_rope_head_dim = 4;
  s.v_head_dim = 3;
  s.n_routed_experts = 6;
  s.n_shared_experts = 1;
  s.num_experts_per_tok = 2;
  s.n_group = 3;
  s.topk_group = 2;
  s.routed_scaling_factor = 2.5;
  s.first_k_dense_replace = 1;
  return s;
}

struct Case {
  std::string name;
  std::function<void(ModelShape&)> change = [](ModelShape&) {};
  MtpHidden mtp_hidden = MtpHidden::after_final_norm;
  double balance = 0.0;
  bool documents = false;
  int64_t segments = 1;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

void softmax_gate(ModelShape& s, TopkMethod method) {
  s.model_type = ModelType::deepseek_v2;
  s.scoring_func = ScoringFunc::softmax;
  s.topk_method = method;
  s.norm_topk_prob = false;
}

std::vector<Case> cases() {
  return {
      {.name = "v3"},
      {.name = "plain_query", .change = [](ModelShape& s) { s.q_lora_rank.reset(); }},
      {.name = "plain_query_segments", .change = [](ModelShape& s) { s.q_lora_rank.reset(); }, .segments = 2},
      {.name = "no_shared_experts", .change = [](ModelShape& s) { s.n_shared_experts = 0; }},
      {.name = "two_shared_experts", .change = [](ModelShape& s) { s.n_shared_experts = 2; }},
      {.name = "one_expert",
       .change = [](ModelShape& s) { s.n_routed_experts = s.n_group = s.topk_group = s.num_experts_per_tok = 1; }},
      {.name = "dense_only", .change = [](ModelShape& s) { s.n_routed_experts = 0; }},
      {.name = "no_dense_layer", .change = [](ModelShape& s) { s.first_k_dense_replace = 0; }},
      {.name = "not_normalised", .change = [](ModelShape& s) { s.norm_topk_prob = false; }},
      {.name = "v2_greedy", .change = [](ModelShape& s) { softmax_gate(s, TopkMethod::greedy); }, .balance = 0.3},
      {.name = "v2_groups", .change = [](ModelShape& s) { softmax_gate(s, TopkMethod::group_limited_greedy); }},
      {.name = "balance", .balance = 0.7},
      {.name = "yarn", .change = [](ModelShape& s) { s.rope_scaling = RopeScaling{4.0, 4, 32, 1, 0.8, 0.6}; }},
      {.name = "tied", .change = [](ModelShape& s) { s.tie_word_embeddings = true; }},
      {.name = "documents", .documents = true},
      {.name = "mtp1_after", .change = [](ModelShape& s) { s.num_nextn_predict_layers = 1; }, .balance = 0.2},
      {.name = "mtp2_before",
       .change = [](ModelShape& s) { s.num_nextn_predict_layers = 2; },
       .mtp_hidden = MtpHidden::before_final_norm},
      {.name = "mtp2_after_tied_documents",
       .change =
           [](ModelShape& s) {
             s.num_nextn_predict_layers = 2;
             s.tie_word_embeddings = true;
           },
       .balance = 0.1,
       .documents = true},
      {.name = "segments2_mtp1",
       .change = [](ModelShape& s) { s.num_nextn_predict_layers = 1; },
       .balance = 0.2,
       .segments = 2},
      {.name = "segments4", .segments = 4},
  };
}

class NetworkGradient : public ::testing::TestWithParam<Case> {};

// Float32 against doubles: every number passes some 20 layers of sums of at most 40 terms, so a relative error of the
// order of 20 * sqrt(40) units of 2^-24 (8e-6) is expected, and 1e-4 of a tensor's norm is the goldens' own tolerance.
constexpr double kTolerance = 1e-4;

TEST_P(NetworkGradient, EqualsTheExactGradientOfTheReference) {
  const Case& c = GetParam();
  ModelShape shape = tiny();
  c.change(shape);
  const int64_t batch = 2, length = 5, depth = shape.num_nextn_predict_layers, width = length + 1 + depth;
  NetworkRun run(shape, c.mtp_hidden, length, 2, best_isa(), c.segments);
  const ParamTable& table = run.network.table();
  Random random(41);
  for (const ParamSpec& spec : table.params) {
    for (int64_t i = 0; i < spec.size(); ++i) {
      run.params[static_cast<size_t>(spec.offset + i)] = static_cast<float>(
          spec.dims == 1 ? 1 + 0.3 * random.normal() : random.normal() / std::sqrt(static_cast<double>(spec.cols)));
    }
  }
  for (float& b : run.biases) b = static_cast<float>(-0.3 + 0.2 * random.normal());
  const std::vector<int32_t> tokens = random.integers(batch * width, shape.vocab_size);
  std::vector<int32_t> starts;
  if (c.documents) starts = {0, 0, 2, 2, 2, 0, 1, 1, 1, 4};
  const MicroBatch micro{{batch, length},
                         mat(tokens.data(), batch, width),
                         starts.empty() ? Vec<const int32_t>{} : vec(starts.data(), batch * length)};
  const double per_token = 1.0 / static_cast<double>(batch * length);
  const LossCoefficients coefficients{.main = per_token,
                                      .mtp = depth > 0 ? 0.3 / static_cast<double>(depth) * per_token : 0.0,
                                      .balance = c.balance / static_cast<double>(batch)};
  const NetworkRun::Losses losses = run.train(micro, coefficients);

  Tape tape;
  std::vector<Recorded> params;
  for (float p : run.params) params.push_back(tape.variable(static_cast<double>(p)));
  ReferenceNetwork<Recorded> reference(table, c.mtp_hidden, params, run.biases);
  const auto expected = reference.losses(micro.token_BS, length, micro.document_start_T, coefficients);
  EXPECT_NEAR(losses.sum_main(), expected.main.value, 1e-5 * expected.main.value);
  EXPECT_NEAR(losses.sum_balance(), expected.balance.value, 1e-5 * expected.balance.value + 1e-30);
  for (size_t k = 0; k < expected.mtp.size(); ++k)
    EXPECT_NEAR(losses.sum_mtp(k, static_cast<size_t>(batch)), expected.mtp[k].value, 1e-5 * expected.mtp[k].value);

  const std::vector<Recorded> outputs{expected.total};
  const Gradient gradient = tape.gradient(outputs);
  std::vector<double> sums(run.grads.begin(), run.grads.end());
  for (const ExtraUse& use : table.extra_uses)
    for (int64_t i = 0; i < use.size; ++i)
      sums[static_cast<size_t>(use.destination + i)] += sums[static_cast<size_t>(use.offset + i)];
  double everything = 0;
  for (const Recorded& p : params) everything += gradient[p] * gradient[p];
  for (const ParamSpec& spec : table.params) {
    double difference = 0, norm = 0;
    for (int64_t i = spec.offset; i < spec.offset + spec.size(); ++i) {
      const double exact = gradient[params[static_cast<size_t>(i)]];
      difference += std::pow(sums[static_cast<size_t>(i)] - exact, 2);
      norm += exact * exact;
    }
    if (norm == 0) {
      EXPECT_EQ(difference, 0) << spec.name;
    } else {
      // The second term is for gradients that cancel to nothing, such as a gate's that has one expert to choose from.
      EXPECT_LE(std::sqrt(difference), kTolerance * std::sqrt(norm) + 1e-7 * std::sqrt(everything)) << spec.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, NetworkGradient, ::testing::ValuesIn(cases()),
                         [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace tael::testing
