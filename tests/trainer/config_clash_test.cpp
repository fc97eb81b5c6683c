// Configurations whose values do not fit together: the whole message, its place, and whether what it says fits does.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/harness/random.hpp"
#include "tests/trainer/refused_config.hpp"

namespace tael {
namespace {

using testing::kGood, testing::refusal;

TEST(ConfigClash, SizesThatDoNotFitTogether) {
  const struct {
    std::vector<std::string> overrides;
    int64_t ranks;
    const char* message;
  } cases[] = {
      {{"training.seq_length=5000"},
       1,
       "78: command line: training.seq_length: 5000 is longer than model.max_position_embeddings 4096; at most that "
       "[length-fits-model]"},
      {{"training.seq_length=1"},
       1,
       "78: command line: training.seq_length: 1 leaves no target at model.num_nextn_predict_layers 1; at least 2 "
       "[length-fits-model]"},
      {{"training.micro_batch_size=3"},
       1,
       "78: command line: training.micro_batch_size: 3 x 1 data rank does not divide a global batch of 8; the nearest "
       "that fits is 2 [micro-batch-divides]"},
      {{"training.micro_batch_size=4"},
       4,
       "78: command line: training.micro_batch_size: 4 x 4 data ranks does not divide a global batch of 8; the nearest "
       "that fits is 2 [micro-batch-divides]"},
      {{"parallelism.reduction_lanes=3"},
       1,
       "78: command line: parallelism.reduction_lanes: 3 is not a power of two; the nearest that fits is 2 lanes "
       "[lanes]"},
      {{"parallelism.reduction_lanes=16"},
       1,
       "78: command line: parallelism.reduction_lanes: 16 lanes (parallelism.reduction_lanes) do not divide a global "
       "batch of 8; the nearest that fits is 8 lanes or a batch of 16, and reduction fast takes any [lanes]"},
      {{"training.global_batch_size=10"},
       1,
       "78: command line: training.global_batch_size: 4 lanes (parallelism.reduction_lanes) do not divide a global "
       "batch "
       "of 10; the nearest that fits is 2 lanes or a batch of 12, and reduction fast takes any [lanes]"},
      {{"training.global_batch_size=[[0, 8], [1k, 14]]"},
       1,
       "78: command line: training.global_batch_size: 4 lanes (parallelism.reduction_lanes) do not divide a global "
       "batch "
       "of 14; the nearest that fits is 2 lanes, and reduction fast takes any [lanes]"},
      {{},
       3,
       "78: t.yaml: parallelism.reduction_lanes: 3 data ranks do not divide the 4 lanes (parallelism.reduction_lanes); "
       "the "
       "nearest that fits is 2 data ranks [lanes]"},
      {{"parallelism.reduction=fast"},
       3,
       "78: t.yaml:4:68: training.global_batch_size: 8 sequences do not divide among 3 data ranks; the nearest that "
       "fits is 6 or 2 data ranks [micro-batch-divides]"},
      {{"training.micro_batch_size=5"},
       4,
       "78: command line: training.micro_batch_size: 5 x 4 data ranks does not divide a global batch of 8; the nearest "
       "that fits is 2 [micro-batch-divides]"},
      {{"training.global_batch_size=[[0, 16], [1k, 24]]", "training.micro_batch_size=16"},
       1,
       "78: command line: training.micro_batch_size: 16 x 1 data rank does not divide a global batch of 24; the "
       "nearest that fits is 8 [micro-batch-divides]"},
      {{"parallelism.reduction_lanes=2", "training.micro_batch_size=4"},
       4,
       "78: command line: parallelism.reduction_lanes: 4 data ranks do not divide the 2 lanes "
       "(parallelism.reduction_lanes); the nearest that fits is 2 data ranks [lanes]"},
      {{"parallelism.reduction_lanes=16", "training.micro_batch_size=4"},
       4,
       "78: command line: parallelism.reduction_lanes: 16 lanes (parallelism.reduction_lanes) do not divide a global "
       "batch of 8; the nearest that fits is 8 lanes with training.micro_batch_size 2 or a batch of 16 [lanes]"},
      {{"parallelism.reduction_lanes=16"},
       3,
       "78: command line: parallelism.reduction_lanes: 16 lanes (parallelism.reduction_lanes) do not divide a global "
       "batch of 8; the nearest that fits is 8 lanes on 2 data ranks [lanes]"},
      {{"parallelism.data_parallel=2"},
       4,
       "78: command line: parallelism.data_parallel: pipeline 1 x data 2 x tensor 1 are 2 ranks, but 4 were started "
       "[world]"},
      {{"parallelism.reduction_segments=3"},
       1,
       "78: command line: parallelism.reduction_segments: 3 segments do not divide model.num_attention_heads 4; the "
       "nearest that fits is 2 [segments]"},
      {{"parallelism.tensor_parallel=2", "parallelism.reduction_segments=1"},
       1,
       "78: command line: parallelism.reduction_segments: parallelism.tensor_parallel 2 does not divide 1 segments; "
       "the "
       "nearest that fits is 2 [segments]"},
      {{"parallelism.data_parallel=4", "parallelism.expert_parallel=3"},
       4,
       "78: command line: parallelism.expert_parallel: 3 does not divide parallelism.data_parallel 4; the nearest that "
       "fits is 2 [expert-ranks]"},
      {{"optimizer.lr=1e-4"},
       1,
       "78: command line: lr_scheduler.min_lr: 3e-04 is above optimizer.lr 1e-04; at most that [cosine-goes-down]"},
      {{"lr_scheduler.decay=[[1k, constant, 1e-3]]"},
       1,
       "78: command line: lr_scheduler.decay: the phases end at 1000 tokens, the last step begins at 4608; the last "
       "phase must "
       "reach "
       "that far [phases-cover]"},
      {{"training.global_batch_size=1T", "training.seq_length=4096"},
       1,
       "78: command line: training.global_batch_size: 1000000000000 sequences of training.seq_length 4096 are more "
       "tokens "
       "a step than 2^50 [sizes]"},
      {{"training.train_steps=20000T"},
       1,
       "78: command line: training.train_steps: 20000000000000000 steps of 512 tokens are more tokens than 64 bits "
       "count "
       "[sizes]"},
      {{"data.train=[{path: a.h5, weight: 1}, b.h5]"},
       1,
       "78: command line: data.train: 1 of 2 sources have a weight; give one to all or to none [weights]"},
      {{"budget.money={usd: 1}"}, 1, "78: command line: budget.money: needs cluster.price_per_device_hour [currency]"},
      {{"budget.money={usd: 1}", "cluster.price_per_device_hour={eur: 2}"},
       1,
       "78: command line: budget.money: is in usd, cluster.price_per_device_hour in eur [currency]"},
      {{"cluster.device=cuda", "parallelism.reduction=canonical"},
       1,
       "78: command line: parallelism.reduction: canonical is not offered with cluster.device cuda; the nearest that "
       "fits "
       "is fast [canonical-cpu]"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(refusal(kGood, c.overrides, c.ranks), c.message) << fmt::format("{}", fmt::join(c.overrides, " "));
  }
}

// One side is a default: the place is that of the other.
TEST(ConfigClash, AClashHasThePlaceOfWhatTheUserGave) {
  const struct {
    std::string text, message;
    int64_t ranks = 1;
  } cases[] = {
      {"optimizer:\n  lr: 1e-4",
       "78: t.yaml:6:7: lr_scheduler.min_lr: 3e-04 is above optimizer.lr 1e-04; at most that "
       "[cosine-goes-down]"},
      {"model: {preset: deepseek_v3_tiny, max_position_embeddings: 128}",
       "78: t.yaml:4:60: training.seq_length: 256 is longer than model.max_position_embeddings 128; at most that "
       "[length-fits-model]"},
      {"parallelism: {reduction: fast}\ntraining: {train_steps: 3, global_batch_size: 6}",
       "78: t.yaml:5:47: training.micro_batch_size: 4 x 1 data rank does not divide a global batch of 6; the nearest "
       "that fits is 3 [micro-batch-divides]"},
      {"model: {vocab_size: 259, hidden_size: 8, intermediate_size: 8, moe_intermediate_size: 8, num_hidden_layers: "
       "2,\n"
       "  num_attention_heads: 2, q_lora_rank: null, kv_lora_rank: 4, qk_nope_head_dim: 4, qk_rope_head_dim: 2,\n"
       "  v_head_dim: 4, n_routed_experts: 16, num_experts_per_tok: 2, topk_method: greedy}",
       "78: t.yaml:6:77: model.scoring_func: sigmoid with topk_method greedy; without a bias the gate is softmax"},
      {"model: {preset: deepseek_v3_tiny, n_routed_experts: 2, n_group: 1, topk_group: 1}",
       "78: t.yaml:4:53: model.num_experts_per_tok: 4 of 2 experts (n_routed_experts); at most all of them"},
      {"parallelism: {data_parallel: 3}",
       "78: t.yaml:5:30: parallelism.reduction_lanes: 3 data ranks do not divide the 4 lanes "
       "(parallelism.reduction_lanes); the nearest that fits is 2 data ranks [lanes]",
       3},
  };
  // A later layer has the last word: of the command line over files, of a file over those that it begins from.
  EXPECT_EQ(refusal(kGood, {"model.num_attention_heads=8"}, 1),
            "78: command line: model.num_key_value_heads: 4 differs from num_attention_heads 8; MLA has one key per "
            "head, so give 8");
  EXPECT_EQ(
      refusal(kGood, {"training.global_batch_size=6", "training.micro_batch_size=1"}, 1),
      "78: command line: training.global_batch_size: 4 lanes (parallelism.reduction_lanes) do not divide a global "
      "batch of 6; the nearest that fits is 2 lanes or a batch of 8, and reduction fast takes any [lanes]");
  const std::string lanes = std::string(kGood) + "parallelism: {reduction_lanes: 8}\n";
  EXPECT_EQ(refusal(lanes, {"training.global_batch_size=4"}, 1).substr(0, 55),
            "78: command line: parallelism.reduction_lanes: 8 lanes ");
  const std::string begun = "defaults: [models/deepseek_v3_tiny]\n";
  EXPECT_EQ(refusal(begun + "run: {dir: x}\nmodel: {n_routed_experts: 2, n_group: 1, topk_group: 1}", {}, 1),
            "78: t.yaml:3:27: model.num_experts_per_tok: 4 of 2 experts (n_routed_experts); at most all of them");
  EXPECT_EQ(refusal(begun, {"model.n_routed_experts=2", "model.n_group=1", "model.topk_group=1"}, 1),
            "78: command line: model.num_experts_per_tok: 4 of 2 experts (n_routed_experts); at most all of them");
  for (const auto& c : cases) {
    std::string text = "run: {dir: x}\ndata: {train: [a.h5]}\n";
    if (c.text.find("training:") == std::string::npos) text += "training: {train_steps: 3}\n";
    if (c.text.find("model:") == std::string::npos) text += "model: {preset: deepseek_v3_tiny}\n";
    EXPECT_EQ(refusal(text + c.text, {}, c.ranks), c.message);
  }
}

// What a refusal names as fitting, each alternative as overrides and ranks.
struct Advice {
  std::vector<std::string> overrides;
  int64_t ranks;
};

// The digits that stand behind the one or before the other in `text`. (std::regex does not compile under -fsanitize.)
std::optional<std::string> number_at(const std::string& text, const std::string& before, const std::string& after) {
  constexpr const char* kDigits = "0123456789";
  const size_t at = text.find(before.empty() ? after : before);
  if (at == text.npos) return std::nullopt;
  if (!before.empty())
    return text.substr(at + before.size(), text.find_first_not_of(kDigits, at + before.size()) - at - before.size());
  const size_t first = at == 0 ? text.npos : text.find_last_not_of(kDigits, at - 1);
  return text.substr(first == text.npos ? 0 : first + 1, at - (first == text.npos ? 0 : first + 1));
}

std::vector<Advice> advice_of(const std::string& message, int64_t ranks) {
  const std::string begins = "nearest that fits is ", fast = ", and reduction fast takes any";
  const size_t begin = message.find(begins), end = message.rfind(" [");
  if (begin == std::string::npos || end == std::string::npos) return {};
  std::string text = message.substr(begin + begins.size(), end - begin - begins.size());
  std::vector<Advice> all;
  if (text.ends_with(fast)) {
    text.resize(text.size() - fast.size());
    all.push_back({{"parallelism.reduction=fast"}, ranks});
  }
  const bool micro = message.find(": training.micro_batch_size: ") != std::string::npos;
  while (!text.empty()) {
    const size_t next = text.find(" or ");
    const std::string one = text.substr(0, next);
    text = next == std::string::npos ? "" : text.substr(next + 4);
    Advice advice{{}, ranks};
    if (one.find_first_not_of("0123456789") == one.npos)
      advice.overrides.push_back((micro ? "training.micro_batch_size=" : "training.global_batch_size=") + one);
    if (const auto n = number_at(one, {}, " lane")) advice.overrides.push_back("parallelism.reduction_lanes=" + *n);
    if (const auto n = number_at(one, "micro_batch_size ", {}))
      advice.overrides.push_back("training.micro_batch_size=" + *n);
    if (const auto n = number_at(one, "a batch of ", {}))
      advice.overrides.push_back("training.global_batch_size=" + *n);
    if (const auto n = number_at(one, {}, " data rank")) advice.ranks = std::stoll(*n);
    all.push_back(advice);
  }
  return all;
}

TEST(ConfigClash, WhatIsNamedAsTheNearestThatFitsFits) {
  testing::Random random(27);
  const auto below = [&](int64_t n) { return random.below(n); };
  int refused = 0;
  for (int i = 0; i < 1500; ++i) {
    const int64_t ranks = 1 + below(i % 2 == 0 ? 5 : 40);
    const int unit = 1 << below(5);
    std::string batch = std::to_string(unit * (1 + below(40)));
    if (i % 3 == 0)
      batch = fmt::format("[[0, {}], [1k, {}], [2k, {}]]", batch, unit * (1 + below(40)), unit * (1 + below(40)));
    if (i % 17 == 0) batch = fmt::format("{{start: {}, end: {}, over: 4k, increment: {}}}", unit, 9 * unit, 2 * unit);
    std::vector<std::string> overrides = {
        "training.global_batch_size=" + batch, fmt::format("training.micro_batch_size={}", 1 + below(12)),
        fmt::format("parallelism.reduction_lanes={}", below(3) == 0 ? 1 + below(40) : 1 << below(7)),
        fmt::format("parallelism.reduction={}", below(3) == 0 ? "fast" : "canonical")};
    const std::string message = refusal(kGood, overrides, ranks);
    if (message == "accepted") continue;
    ++refused;
    const std::vector<Advice> advice = advice_of(message, ranks);
    EXPECT_FALSE(advice.empty()) << message;
    for (const Advice& one : advice) {
      std::vector<std::string> followed = overrides;
      followed.insert(followed.end(), one.overrides.begin(), one.overrides.end());
      EXPECT_EQ(refusal(kGood, followed, one.ranks), "accepted")
          << fmt::format("{} ranks, {}: {}", ranks, fmt::join(overrides, " "), message);
    }
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace tael
