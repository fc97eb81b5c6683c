// Decoding with a cache of latents against the whole forward pass, and against another implementation's greedy text.
#include "model/decoder.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "model/init.hpp"
#include "tests/harness/golden.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"

namespace tael::testing {
namespace {

// A decoder on memory of its own, measured first: asking for more than measured would be an error.
class DecoderRun {
 public:
  DecoderRun(const ParamTable& table, const Weights& weights, int64_t positions, int threads = 1, Isa isa = best_isa())
      : table_(table), weights_(weights), pool_(threads), isa_(isa) {
    Arena measured = Arena::measuring(), scratch = Arena::measuring();
    Decoder dry(measured, table, exchange_, positions);
    const Arena& const_scratch = scratch;
    for (int64_t chunk = 1; chunk <= positions; ++chunk) {  // alone it is shared out in another way
      dry.restart();
      if (chunk == 1) extend_to(dry, positions - 1, scratch);
      Context context{Stream::dry(pool_), scratch};
      Arena other = Arena::measuring();
      dry.extend(context, weights, other.vec<int32_t>(chunk), other.mat<float>(chunk, table.shape.vocab_size));
    }
    memory_ = std::make_unique<Arena>("cache", measured.peak());
    scratch_ = std::make_unique<Arena>("scratch", const_scratch.peak());
    decoder = std::make_unique<Decoder>(*memory_, table, exchange_, positions);
  }

  // Logits of all `tokens`, in calls of at most `chunk`.
  std::vector<float> read(const std::vector<int32_t>& tokens, int64_t chunk) {
    const int64_t total = static_cast<int64_t>(tokens.size()), vocabulary = table_.shape.vocab_size;
    std::vector<float> logits(static_cast<size_t>(total * vocabulary));
    for (int64_t begin = 0; begin < total; begin += chunk) {
      const int64_t n = std::min(chunk, total - begin);
      Context context{Stream(pool_, isa_), *scratch_};
      decoder->extend(context, weights_, vec(tokens.data() + begin, n),
                      mat(logits.data() + begin * vocabulary, n, vocabulary));
      EXPECT_EQ(scratch_->used(), 0u);
    }
    return logits;
  }
  int32_t next_greedy(const std::vector<int32_t>& tokens) {
    const std::vector<float> logits = read(tokens, static_cast<int64_t>(tokens.size()));
    const auto last = logits.end() - table_.shape.vocab_size;
    return static_cast<int32_t>(std::max_element(last, logits.end()) - last);
  }

  std::unique_ptr<Decoder> decoder;

 private:
  void extend_to(Decoder& dry, int64_t length, Arena& scratch) {
    if (length == 0) return;
    Context context{Stream::dry(pool_), scratch};
    Arena other = Arena::measuring();
    dry.extend(context, weights_, other.vec<int32_t>(length), Mat<float>{});
  }

  const ParamTable& table_;
  Weights weights_;
  ThreadPool pool_;
  Isa isa_;
  LocalTokenExchange exchange_;
  std::unique_ptr<Arena> memory_, scratch_;
};

ModelShape base_shape() {
  ModelShape s;
  s.vocab_size = 61;
  s.hidden_size = 24;
  s.intermediate_size = 40;
  s.moe_intermediate_size = 20;
  s.num_hidden_layers = 3;
  s.num_attention_heads = 3;
  s.q_lora_rank = 14;
  s.kv_lora_rank = 11;
  s.qk_nope_head_dim = 7;
  s.qk_rope_head_dim = 6;
  s.v_head_dim = 5;
  s.n_routed_experts = 8;
  s.n_shared_experts = 1;
  s.num_experts_per_tok = 3;
  s.n_group = 4;
  s.topk_group = 2;
  s.first_k_dense_replace = 1;
  s.initializer_range = 0.3;
  s.routed_scaling_factor = 2.5;
  return s;
}

struct ShapeCase {
  std::string name;
  ModelShape shape;
  int64_t length = 40;
};
std::ostream& operator<<(std::ostream& out, const ShapeCase& c) { return out << c.name; }

std::vector<ShapeCase> shape_cases() {
  std::vector<ShapeCase> cases = {{"v3", base_shape()}};
  const auto add = [&](const char* name, auto change, int64_t length = 40) {
    cases.push_back({name, base_shape(), length});
    change(cases.back().shape);
  };
  add("plain_query", [](ModelShape& s) { s.q_lora_rank.reset(); });
  add("yarn", [](ModelShape& s) { s.rope_scaling = RopeScaling{4.0, 16, 32, 1, 0.7, 0.9}; });
  add("mtp", [](ModelShape& s) { s.num_nextn_predict_layers = 2; });
  add("v2", [](ModelShape& s) {
    s.model_type = ModelType::deepseek_v2;
    s.scoring_func = ScoringFunc::softmax;
    s.topk_method = TopkMethod::group_limited_greedy;
    s.norm_topk_prob = false;
    s.q_lora_rank.reset();
  });
  add("one_head", [](ModelShape& s) { s.num_attention_heads = 1; });
  add("many_heads", [](ModelShape& s) { s.num_attention_heads = 18; });
  add("odd", [](ModelShape& s) {
    s.hidden_size = 23;
    s.kv_lora_rank = 1;
    s.qk_nope_head_dim = 1;
    s.v_head_dim = 3;
    s.qk_rope_head_dim = 2;
  });
  add("dense", [](ModelShape& s) {
    s.n_routed_experts = s.n_shared_experts = s.num_experts_per_tok = 0;
    s.n_group = s.topk_group = 1;
  });
  add("tied_no_shared", [](ModelShape& s) {
    s.tie_word_embeddings = true;
    s.n_shared_experts = 0;
  });
  add(
      "one_token", [](ModelShape&) {}, 1);
  add(
      "two_segments", [](ModelShape& s) { s.num_hidden_layers = 2; }, 300);
  return cases;
}

class CachedDecoding : public ::testing::TestWithParam<ShapeCase> {};

// The reference is the same mathematics in another order of sums. By how much those differ follows from how the model
// answers to a rounding: each weight moved by one unit roundoff, at random, moves the logits by some amount, measured
// here with the whole forward pass alone. A computation makes one rounding per term of its sums, a few hundred times as
// many as a disturbance of each weight; they add like independent errors, by the root of the number of terms in the
// longest chain, and 8 covers the spread of the draws.
TEST_P(CachedDecoding, LogitsOfEveryPositionAreThoseOfTheWholeForwardPass) {
  const ModelShape& shape = GetParam().shape;
  const int64_t length = GetParam().length, vocabulary = shape.vocab_size;
  NetworkRun run(shape, MtpHidden::after_final_norm, length);
  ThreadPool pool(1);
  init_params(Stream(pool, best_isa()), run.network.table(), 7, run.params.data(), run.biases.data());
  Random random(9);
  for (float& b : run.biases) b = random.normals(1, 0.02)[0];
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < length; ++i) tokens.push_back(static_cast<int32_t>((i * i * 7 + i * 3 + 5) % vocabulary));
  const MicroBatch batch{{1, length}, mat<const int32_t>(tokens.data(), 1, length), {}};
  const std::vector<float> whole = run.logits(batch, 0, length);

  double sensitivity = 0;
  const std::vector<float> kept = run.params;
  for (int trial = 0; trial < 3; ++trial) {
    const std::vector<float> noise = random.normals(static_cast<int64_t>(kept.size()));
    for (size_t i = 0; i < kept.size(); ++i) run.params[i] = kept[i] * (1.0f + (noise[i] > 0 ? 0x1p-23f : -0x1p-23f));
    const std::vector<float> moved = run.logits(batch, 0, length);
    for (size_t i = 0; i < whole.size(); ++i)
      sensitivity = std::max(sensitivity, std::abs(static_cast<double>(moved[i]) - static_cast<double>(whole[i])));
  }
  run.params = kept;
  const double longest = static_cast<double>(
      std::max({shape.hidden_size, shape.num_attention_heads * shape.v_head_dim, shape.intermediate_size, length}));
  const double bound = 8 * sensitivity * std::sqrt(longest);
  double largest = 0;
  for (const float x : whole) largest = std::max(largest, std::abs(static_cast<double>(x)));
  ASSERT_LT(bound, 2e-3 * largest);  // or the test could not fail

  std::vector<float> first;
  for (const int64_t chunk : {int64_t{1}, int64_t{2}, int64_t{7}, length}) {
    DecoderRun decoder(run.network.table(), run.weights(), length, chunk == 7 ? 2 : 1);
    const std::vector<float> cached = decoder.read(tokens, chunk);
    for (size_t i = 0; i < whole.size(); ++i)
      ASSERT_NEAR(static_cast<double>(cached[i]), static_cast<double>(whole[i]), bound)
          << "chunk " << chunk << ", logit " << i;
    if (first.empty()) first = cached;
    EXPECT_TRUE(same_bits(first, cached)) << "chunk " << chunk;  // however the text is cut, on any number of threads
  }

  // A second text in the same cache.
  DecoderRun decoder(run.network.table(), run.weights(), length);
  decoder.read(std::vector<int32_t>(static_cast<size_t>(length), 3), 5);
  decoder.decoder->restart();
  EXPECT_TRUE(same_bits(first, decoder.read(tokens, 3)));
}

TEST_P(CachedDecoding, PortableToo) {
  const ModelShape& shape = GetParam().shape;
  const int64_t length = std::min<int64_t>(GetParam().length, 20);
  NetworkRun run(shape, MtpHidden::after_final_norm, length, 1, Isa::portable);
  ThreadPool pool(1);
  init_params(Stream(pool, Isa::portable), run.network.table(), 7, run.params.data(), run.biases.data());
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < length; ++i) tokens.push_back(static_cast<int32_t>((i * 5 + 2) % shape.vocab_size));
  DecoderRun decoder(run.network.table(), run.weights(), length, 2, Isa::portable);
  const std::vector<float> cached = decoder.read(tokens, 4),
                           whole =
                               run.logits({{1, length}, mat<const int32_t>(tokens.data(), 1, length), {}}, 0, length);
  for (size_t i = 0; i < whole.size(); ++i) ASSERT_NEAR(cached[i], whole[i], 1e-3f * (1.0f + std::abs(whole[i]))) << i;
}

INSTANTIATE_TEST_SUITE_P(All, CachedDecoding, ::testing::ValuesIn(shape_cases()),
                         [](const auto& param_info) { return param_info.param.name; });

class GoldenDecoding : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenDecoding, LogitsOfEveryPosition) {
  const Golden golden(GetParam());
  const int64_t batch = golden.facts.at("batch").as_int(), length = golden.facts.at("length").as_int();
  const int64_t width = length + 1 + golden.shape.num_nextn_predict_layers, vocabulary = golden.shape.vocab_size;
  NetworkRun run(golden.shape, golden.mtp_hidden(), length);
  golden.load(run);
  const std::vector<int32_t> tokens = golden.tokens();
  const std::vector<float> expected = golden.floats("logits");
  float largest = 0;
  for (const float x : expected) largest = std::max(largest, std::abs(x));
  DecoderRun decoder(run.network.table(), run.weights(), length, 2);
  for (int64_t b = 0; b < batch; ++b) {
    decoder.decoder->restart();
    const auto begin = tokens.begin() + b * width;
    const std::vector<float> logits = decoder.read({begin, begin + length}, b == 0 ? 1 : 9);
    for (size_t i = 0; i < logits.size(); ++i)
      ASSERT_NEAR(logits[i], expected[static_cast<size_t>(b * length * vocabulary) + i], 1e-5f * largest)
          << b << " " << i;
  }
}

class GoldenGreedyText : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenGreedyText, IsTheSame) {
  const Golden golden(GetParam());
  const Json& greedy = golden.facts.at("greedy");
  std::vector<int32_t> prompt, expected, text;
  for (const Json& id : greedy.at("prompt").items()) prompt.push_back(static_cast<int32_t>(id.as_int()));
  for (const Json& id : greedy.at("continuation").items()) expected.push_back(static_cast<int32_t>(id.as_int()));
  NetworkRun run(golden.shape, golden.mtp_hidden(), 64);
  golden.load(run);
  DecoderRun decoder(run.network.table(), run.weights(), 64);
  text.push_back(decoder.next_greedy(prompt));
  while (text.size() < expected.size()) text.push_back(decoder.next_greedy({text.back()}));
  EXPECT_EQ(text, expected);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenDecoding,
                         ::testing::Values("v3", "v3_plain_query", "v3_yarn", "v3_skew", "v3_tied", "v3_mtp1",
                                           "v3_mtp2", "v3_balance", "v2_lite", "v2"),
                         [](const auto& param_info) { return std::string(param_info.param); });

INSTANTIATE_TEST_SUITE_P(All, GoldenGreedyText, ::testing::Values("v3", "v3_yarn", "v2_lite"),
                         [](const auto& param_info) { return std::string(param_info.param); });

}  // namespace
}  // namespace tael::testing
