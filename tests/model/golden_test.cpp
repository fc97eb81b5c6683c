// The golden models: what PyTorch and transformers computed in float64, at the tolerances of tests/golden/README.md.
#include "tests/harness/golden.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/route_topk.hpp"

namespace tael::testing {
namespace {

// Positions of a document's first token inside its sequence; the separator belongs to the document it ends.
std::vector<int32_t> document_starts(const std::vector<int32_t>& tokens, int64_t batch, int64_t length, int64_t width,
                                     int32_t separator) {
  std::vector<int32_t> starts;
  for (int64_t b = 0; b < batch; ++b) {
    int32_t start = 0;
    for (int64_t s = 0; s < length; ++s) {
      starts.push_back(start);
      if (tokens[static_cast<size_t>(b * width + s)] == separator) start = static_cast<int32_t>(s + 1);
    }
  }
  return starts;
}

double norm_of(const std::vector<float>& v) {
  double sum = 0;
  for (float x : v) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

struct GoldenCase {
  std::string name;
  int64_t segments = 1;
  Isa isa = best_isa();
};
std::ostream& operator<<(std::ostream& out, const GoldenCase& c) { return out << c.name; }

class GoldenModel : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenModel, LogitsLossesGradientsAndRouting) {
  const GoldenCase& c = GetParam();
  const Golden golden(c.name);
  const ModelShape& shape = golden.shape;
  const int64_t batch = golden.facts.at("batch").as_int(), length = golden.facts.at("length").as_int();
  const int64_t depth = shape.num_nextn_predict_layers, width = length + 1 + depth;
  NetworkRun run(shape, golden.mtp_hidden(), length, 2, c.isa, c.segments);
  golden.load(run);
  const std::vector<int32_t> tokens = golden.tokens();
  ASSERT_EQ(static_cast<int64_t>(tokens.size()), batch * width);
  std::vector<int32_t> starts;
  if (const double separator = golden.setting("document_separator", -1); separator >= 0)
    starts = document_starts(tokens, batch, length, width, static_cast<int32_t>(separator));
  const MicroBatch micro{{batch, length},
                         mat(tokens.data(), batch, width),
                         starts.empty() ? Vec<const int32_t>{} : vec(starts.data(), batch * length)};

  // Logits: max |difference| <= 1e-5 max |logit|.
  const std::vector<float> logits = run.logits(micro, 0, batch * length), expected_logits = golden.floats("logits");
  ASSERT_EQ(logits.size(), expected_logits.size());
  float largest = 0, difference = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    largest = std::max(largest, std::abs(expected_logits[i]));
    difference = std::max(difference, std::abs(logits[i] - expected_logits[i]));
  }
  EXPECT_LE(difference, 1e-5f * largest);

  // Loss parts: 1e-5 relative.
  const double per_token = 1.0 / static_cast<double>(batch * length);
  const double lambda = golden.setting("mtp_loss_scaling_factor", 0), alpha = golden.setting("balance_alpha", 0);
  const NetworkRun::Losses losses =
      run.train(micro, {.main = per_token,
                        .mtp = depth > 0 ? lambda / static_cast<double>(depth) * per_token : 0.0,
                        .balance = alpha / static_cast<double>(batch)});
  const Json& loss = golden.facts.at("loss");
  const double main = losses.sum_main() * per_token;
  EXPECT_NEAR(main, loss.at("main").as_double(), 1e-5 * loss.at("main").as_double());
  double total = main;
  for (int64_t k = 0; k < depth; ++k) {
    const double expected = loss.at("mtp." + std::to_string(k + 1)).as_double();
    const double mtp = losses.sum_mtp(static_cast<size_t>(k), static_cast<size_t>(batch)) * per_token;
    EXPECT_NEAR(mtp, expected, 1e-5 * expected) << "depth " << k + 1;
    total += lambda / static_cast<double>(depth) * mtp;
  }
  if (alpha > 0) {
    const double balance = alpha * losses.sum_balance() / static_cast<double>(batch);
    EXPECT_NEAR(balance, loss.at("balance").as_double(), 1e-5 * loss.at("balance").as_double());
    total += balance;
  }
  EXPECT_NEAR(total, loss.at("total").as_double(), 1e-5 * loss.at("total").as_double());

  // Gradients: ||difference|| <= 1e-4 ||expected||, an expert without tokens exactly zero.
  const ParamTable& table = run.network.table();
  std::vector<float> grads = run.grads;
  for (const ExtraUse& use : table.extra_uses)
    for (int64_t i = 0; i < use.size; ++i)
      grads[static_cast<size_t>(use.destination + i)] += grads[static_cast<size_t>(use.offset + i)];
  double squares = 0;
  for (const ParamSpec& spec : table.params) {
    const std::vector<float> expected = golden.floats("grad." + spec.name);
    ASSERT_EQ(static_cast<int64_t>(expected.size()), spec.size()) << spec.name;
    std::vector<float> off(expected.size());
    for (size_t i = 0; i < off.size(); ++i) {
      const float actual = grads[static_cast<size_t>(spec.offset) + i];
      off[i] = actual - expected[i];
      squares += static_cast<double>(actual) * actual;
    }
    if (norm_of(expected) == 0) {
      EXPECT_EQ(norm_of(off), 0) << spec.name;
    } else {
      EXPECT_LE(norm_of(off), 1e-4 * norm_of(expected)) << spec.name;
    }
  }
  const double grad_norm = golden.facts.at("grad_norm").as_double();
  EXPECT_NEAR(std::sqrt(squares), grad_norm, 1e-5 * grad_norm);

  // Routing: identical; its weights are float32 numbers of a few roundings.
  const auto check_routing = [&](int64_t layer, const LayerLayout& layout, const MoeSaved& moe) {
    if (!layout.moe) return;
    const std::string prefix = "routing." + std::to_string(layer) + ".";
    const std::vector<int64_t> experts = golden.integers(prefix + "experts"),
                               counts = golden.integers(prefix + "counts");
    const std::vector<float> weights = golden.floats(prefix + "weights");
    ASSERT_EQ(moe.router.expert_TK.size(), static_cast<int64_t>(experts.size()));
    for (size_t i = 0; i < experts.size(); ++i) {
      EXPECT_EQ(moe.router.expert_TK.data[i], experts[i]) << prefix << i;
      EXPECT_NEAR(moe.router.weight_TK.data[i], weights[i], 2e-5f * weights[i] + 1e-7f) << prefix << i;
    }
    for (size_t e = 0; e < counts.size(); ++e)
      EXPECT_EQ(run.counts_LE()(layout.moe_index, static_cast<int64_t>(e)), counts[e]) << prefix << e;
  };
  for (size_t l = 0; l < table.layers.size(); ++l)
    check_routing(static_cast<int64_t>(l), table.layers[l], run.network.blocks()[l].moe);
  for (size_t k = 0; k < table.mtp.size(); ++k)
    check_routing(shape.num_hidden_layers + static_cast<int64_t>(k), table.mtp[k].layer,
                  run.network.mtp()[k].block.moe);

  const std::vector<double> evaluated = run.evaluate(micro);
  EXPECT_EQ(evaluated, losses.main);  // the same numbers, whatever is kept for backward

  // Greedy text, where there is one.
  if (const Json* greedy = golden.facts.find("greedy")) {
    std::vector<int32_t> text;
    for (const Json& id : greedy->at("prompt").items()) text.push_back(static_cast<int32_t>(id.as_int()));
    for (const Json& id : greedy->at("continuation").items()) {
      const int64_t size = static_cast<int64_t>(text.size());
      const std::vector<float> last = run.logits({{1, size}, mat(text.data(), 1, size), {}}, size - 1, 1);
      text.push_back(static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin()));
      ASSERT_EQ(text.back(), id.as_int()) << "token " << size;
    }
  }
}

std::vector<GoldenCase> golden_cases() {
  std::vector<GoldenCase> cases;
  for (const char* name : {"v3", "v3_plain_query", "v3_yarn", "v3_skew", "v3_document_mask", "v3_tied", "v3_mtp1",
                           "v3_mtp2", "v3_balance", "v3_recipe", "v2_lite", "v2"})
    cases.push_back({.name = name});
  cases.push_back({.name = "v3_mtp2", .segments = 4});
  cases.push_back({.name = "v3_plain_query", .segments = 2});
  cases.push_back({.name = "v3_recipe", .isa = Isa::portable});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, GoldenModel, ::testing::ValuesIn(golden_cases()), [](const auto& param_info) {
  const GoldenCase& c = param_info.param;
  return c.name + (c.segments > 1 ? "_segments" + std::to_string(c.segments) : "") +
         (c.isa == Isa::portable ? "_portable" : "");
});

}  // namespace
}  // namespace tael::testing
