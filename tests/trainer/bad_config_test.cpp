// Malformed and contradictory configurations, each with the whole message and the exit code that a user sees.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/harness/configuration.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "trainer/config.hpp"
#include "trainer/config_rules.hpp"

namespace tael {
namespace {

// A configuration that passes, with what is under test behind it as key=value of the command line or as a whole text.
constexpr const char* kGood = R"(run: {dir: runs/x}
model: {preset: deepseek_v3_tiny}
data: {train: [a.h5]}
training: {seq_length: 64, micro_batch_size: 2, global_batch_size: 8, train_steps: 10}
lr_scheduler: {warmup_steps: 5}
)";

using testing::kSearch;

std::string refusal(const std::string& text, const std::vector<std::string>& overrides, int64_t ranks) {
  return testing::refusal_of([&] {
    const LoadedConfig loaded = load_config_text(text, "t.yaml", overrides, kSearch);
    check_config(loaded, ranks);
    check_built(loaded);
    check_world(loaded, ranks);
    check_vocabulary(loaded, "bytes", 259);
  });
}

TEST(BadConfig, TheGoodOneIsAccepted) {
  EXPECT_EQ(refusal(kGood, {}, 1), "accepted");
  EXPECT_EQ(refusal(kGood, {}, 4), "accepted");
}

TEST(BadConfig, Texts) {
  const struct {
    std::string text, message;
  } cases[] = {
      // YAML itself.
      {"run: {dir: x", "78: t.yaml:1:6: not YAML: what begins here has no end"},
      {"run: {dir: x}\nrun: {seed: 1}", "78: t.yaml:2:1: duplicate key run; it is first given at 1:1"},
      {"run: {dir: x, dir: y}", "78: t.yaml:1:15: duplicate key run.dir; it is first given at 1:7"},
      {"run: &r {dir: x}",
       "78: t.yaml:1:6: anchors and aliases are not accepted; write the value out, or share files by \"defaults:\""},
      {"run: *r", "78: t.yaml:1:6: anchors and aliases are not accepted"},
      {"run:\n  <<: {seed: 1}",
       "78: t.yaml:2:3: merge keys (<<) are not accepted; name what to inherit in \"defaults:\""},
      {"run: {seed: !!str 1}", "78: t.yaml:1:13: the tag tag:yaml.org,2002:str is not accepted"},
      {"run: {dir: x}\n---\nrun: {dir: y}", "78: t.yaml:3:1: a second document; a configuration is one"},
      {"run: {dir: \xc3}", "78: t.yaml:1:12: byte 0xc3 is not UTF-8"},
      {"- run", "78: t.yaml:1:1: expected a map of keys, got a list"},
      // Names and kinds.
      {"rum: {dir: x}", "78: t.yaml:1:1: rum: unknown key; the nearest known one is run"},
      {"training: {seq_lenght: 4}",
       "78: t.yaml:1:12: training.seq_lenght: unknown key; the nearest known one is training.seq_length"},
      {"model: {seq_length: 4}",
       "78: t.yaml:1:9: model.seq_length: unknown key; the nearest known one is training.seq_length"},
      {"router: {aux_loss: {alpha: 1}}",
       "78: t.yaml:1:21: router.aux_loss.alpha: unknown key; give router.aux_loss.coeff instead: the papers' alpha"},
      {"schema: 2", "78: t.yaml:1:9: schema: expected 1 (the only version of this language), got 2"},
      {"run: runs/first", "78: t.yaml:1:6: run: expected a map of keys, got runs/first"},
      {"run: {seed: \"1234\"}", "78: t.yaml:1:13: run.seed: expected a whole number at least 0, got \"1234\""},
      {"run: {seed: 18446744073709551615}",
       "78: t.yaml:1:13: run.seed: expected a whole number from 0 to 9223372036854775807, got 18446744073709551615"},
      {"run: {seed: -1}", "78: t.yaml:1:13: run.seed: expected a whole number at least 0, got -1"},
      {"run: {seed: 0123}", "78: t.yaml:1:13: run.seed: expected a whole number at least 0, got 0123"},
      {"training: {seq_length: 0}",
       "78: t.yaml:1:24: training.seq_length: expected a whole number such as 4096, 4k or 20M, from 1 to 2147483647, "
       "got 0"},
      {"training: {train_tokens: 20Q}",
       "78: t.yaml:1:26: training.train_tokens: expected null or a whole number such as 4096, 4k or 20M, at least 1, "
       "got "
       "20Q"},
      {"training: {train_steps: 10, train_tokens: 1M}",
       "78: t.yaml:1:43: training.train_tokens and training.train_steps exclude each other; give one of them"},
      {"data: {shuffle: no}", "78: t.yaml:1:17: data.shuffle: expected true or false, got no"},
      {"data: {train: [{path: a.h5, wieght: 2}]}",
       "78: t.yaml:1:29: data.train: expected only path and weight, got wieght; the nearest is weight"},
      {"data: {train: [{path: a.h5, weight: 0}]}", "78: t.yaml:1:37: data.train: expected a number above 0, got 0"},
      {"data: {verify: some}", "78: t.yaml:1:16: data.verify: expected all or blocks, got some"},
      {"optimizer: {name: adam}", "78: t.yaml:1:19: optimizer.name: expected adamw, got adam"},
      {"optimizer: {betas: [0.9, 1.0]}",
       "78: t.yaml:1:26: optimizer.betas: expected a number from 0 and below 1, got 1.0"},
      {"optimizer: {lr: .inf}", "78: t.yaml:1:17: optimizer.lr: expected a number of at least 0, got .inf"},
      {"lr_scheduler: {decay: linear}", "78: t.yaml:1:23: lr_scheduler.decay: expected constant or cosine, got linear"},
      {"lr_scheduler: {decay: [[10, constant, 1], [10, cosine, 0]]}",
       "78: t.yaml:1:44: lr_scheduler.decay: expected more than the 10 tokens before it, got 10"},
      {"lr_scheduler: {decay: constant, phases: [[1, cosine, 1]]}",
       "78: t.yaml:1:41: lr_scheduler.decay and lr_scheduler.phases exclude each other; give one of them"},
      {"router: {bias_update_rate: [[1k, 0.1]]}",
       "78: t.yaml:1:30: router.bias_update_rate: expected 0 tokens, where a schedule starts, got 1k"},
      {"mtp: {loss_scaling_factor: [[0, 1], [9, 1], [8, 1]]}",
       "78: t.yaml:1:46: mtp.loss_scaling_factor: expected more than the 9 tokens before it, got 8"},
      {"training: {global_batch_size: {start: 8, end: 4, over: 1k, increment: 4}}",
       "78: t.yaml:1:31: training.global_batch_size: expected an end of at least the start 8, got a map"},
      {"training: {global_batch_size: {start: 8, end: 16, over: 1k, step: 4}}",
       "78: t.yaml:1:61: training.global_batch_size: expected only start, end, over and increment, got step; the "
       "nearest "
       "is start"},
      {"training: {global_batch_size: {start: 8, end: 16, over: 1k}}",
       "78: t.yaml:1:31: training.global_batch_size: expected all of start, end, over, increment; increment is not "
       "given, got a map"},
      {"parallelism: {timeout: 600}",
       "78: t.yaml:1:24: parallelism.timeout: expected a duration such as 600s, 10 min or 20h, at least 1s, got 600"},
      {"cluster: {price_per_device_hour: 2.00}",
       "78: t.yaml:1:34: cluster.price_per_device_hour: expected null or an amount of one currency such as {usd: "
       "2.00}, "
       "got 2.00"},
      {"budget: {gpu_hours: 1, money: {usd: 1}}",
       "78: t.yaml:1:31: budget.gpu_hours and budget.money exclude each other; give one of them"},
      {"precision: {compute: fp16}", "78: t.yaml:1:22: precision.compute: expected auto, fp32, bf16 or fp8, got fp16"},
      // Inheritance and presets.
      {"defaults: models/deepseek_v3_tiny",
       "78: t.yaml:1:11: defaults: expected a list of file names, got models/deepseek_v3_tiny"},
      {"defaults: [models/deepseek_v5]",
       "78: t.yaml:1:12: defaults: there is no file \"models/deepseek_v5\" or models/deepseek_v5.yaml; "
       "the nearest is models/deepseek_v2"},
      {"model: {preset: deepsek_v3}",
       "78: t.yaml:1:17: model.preset: there is no preset deepsek_v3; the nearest is deepseek_v3"},
      {"model: {preset: ../models/deepseek_v3}",
       "78: t.yaml:1:17: model.preset: there is no preset ../models/deepseek_v3; the nearest is deepseek_v3"},
      // What must be there.
      {"", "78: run.dir: must be given [required]"},
      {"run: {dir: x}", "78: data.train: must be given [required]"},
      {"run: {dir: x}\ndata: {train: [a.h5]}", "78: model: must be given [required]"},
      {"run: {dir: x}\ndata: {train: a.h5}\nmodel: {preset: deepseek_v3_tiny}",
       "78: training.train_tokens: must be given, or training.train_steps [one-length]"},
      {"model: {hidden_size: 8}", "78: model.vocab_size: must be given"},
  };
  for (const auto& c : cases) EXPECT_EQ(refusal(c.text, {}, 1), c.message) << c.text;
}

TEST(BadConfig, ModelsThatCannotBe) {
  const struct {
    const char* override;
    const char* message;
  } cases[] = {
      {"model.n_group=3",
       "78: command line: model.n_group: 3 groups do not divide n_routed_experts 16; the nearest that fits is 2"},
      {"model.topk_group=5", "78: command line: model.topk_group: 5 groups of n_group 4; at most all of them"},
      {"model.num_experts_per_tok=9",
       "78: command line: model.num_experts_per_tok: 9 experts do not fit in topk_group 2 groups of 4 experts; at most "
       "8"},
      {"model.num_experts_per_tok=17",
       "78: command line: model.num_experts_per_tok: 17 of 16 experts (n_routed_experts); at most all of them"},
      {"model.qk_rope_head_dim=15",
       "78: command line: model.qk_rope_head_dim: 15 is odd; rotation takes pairs, so the nearest that fits is 16"},
      {"model.qk_nope_head_dim=3000",
       "78: command line: model.qk_nope_head_dim: heads of 3000 + 16 numbers and values of 32 are too wide: attention "
       "takes some 2000 together"},
      {"model.kv_lora_rank=60000",
       "78: command line: model.kv_lora_rank: 60000 is too wide: attention takes some 20,000"},
      {"model.n_routed_experts=350000",
       "78: command line: model.n_routed_experts: 350000 experts with 4 for a token are more than the gate takes; at "
       "most 262122"},
      {"model.num_key_value_heads=2",
       "78: command line: model.num_key_value_heads: 2 differs from num_attention_heads 4; MLA has one key per head, "
       "so "
       "give 4"},
      {"model.num_nextn_predict_layers=3",
       "78: command line: model.num_nextn_predict_layers: expected a whole number from 0 to 2, got 3"},
      {"model.first_k_dense_replace=5",
       "78: command line: model.first_k_dense_replace: 5 dense layers of num_hidden_layers 4"},
      {"model.first_k_dense_replace=4",
       "78: T.yaml: model.num_nextn_predict_layers: 1 MTP modules are MoE layers like the last layer, but that "
       "one "
       "is dense"},
      {"model.scoring_func=softmax",
       "78: command line: model.scoring_func: softmax with topk_method noaux_tc; the bias of noaux_tc needs sigmoid"},
      {"model.topk_method=greedy",
       "78: T.yaml: model.scoring_func: sigmoid with topk_method greedy; without a bias the gate is softmax"},
      {"model.n_group=16",
       "78: command line: model.n_group: 16 groups of one expert; noaux_tc scores a group by its two "
       "best"},
      {"model.hidden_act=gelu",
       "78: command line: model.hidden_act: expected silu (the only activation that is built), got gelu"},
      {"model.attention_bias=true",
       "78: command line: model.attention_bias: expected false (the only form that is built), got true"},
      {"model.attention_dropout=1e-320",
       "78: command line: model.attention_dropout: expected 0 (dropout is not built), got 1e-320"},
      {"model.attention_dropout=1e309",
       "78: command line: model.attention_dropout: expected 0 (dropout is not built), got 1e309"},
      {"model.attention_dropout=0.1",
       "78: command line: model.attention_dropout: expected 0 (dropout is not built), got 0.1"},
      {"model.rope_interleave=false",
       "78: command line: model.rope_interleave: expected true (rotation of adjacent pairs, as the released weights "
       "have "
       "it), got false"},
      {"model.rope_scaling={type: linear, factor: 2}",
       "78: command line: model.rope_scaling: expected type yarn, got linear"},
      {"model.rope_scaling={type: yarn, factor: 2}",
       "78: command line: model.rope_scaling: expected original_max_position_embeddings in it, got a map"},
      {"model.rope_scaling={type: yarn, factor: 0.5, original_max_position_embeddings: 64}",
       "78: command line: model.rope_scaling: expected for factor a number of at least 1, got 0.5"},
      {"model.rope_scaling={type: yarn, factor: 2, original_max_position_embeddings: 64, mscale_all_dim: 1}",
       "78: command line: model.rope_scaling: expected mscale above 0 beside mscale_all_dim (the released code and "
       "transformers differ without it), got a map"},
      {"model.rope_scaling={type: yarn, factor: 2, original_max_position_embeddings: 64, mscale: 0.7}",
       "78: command line: model.rope_scaling: expected mscale_all_dim above 0 beside mscale (the released code and "
       "transformers differ without it), got a map"},
      {"model.rope_scaling={type: yarn, factor: 2, original_max_position_embeddings: 64, mscale: 0}",
       "78: command line: model.rope_scaling: expected mscale above 0 beside mscale_all_dim (the released code and "
       "transformers differ without it), got a map"},
      {"schema=\"1\"", "78: command line: schema: expected 1 (the only version of this language), got \"1\""},
      {"model.rope_scaling={type: yarn, factr: 2}",
       "78: command line: model.rope_scaling: expected only known names in it, got factr; the nearest known one is "
       "factor"},
      {"model.hidden_size=2147483648",
       "78: command line: model.hidden_size: expected a whole number from 1 to 2147483647, got 2147483648"},
      {"model.num_hidden_layers=100000",
       "78: command line: model.num_hidden_layers: 100001 layers of 68 tensors; a model has at most 4000000 tensors"},
      {"model.model_type=llama",
       "78: command line: model.model_type: expected deepseek_v3, deepseek_v2 or kimi_k2, got llama"},
      {"model.vocab_size=258",
       "78: command line: model.vocab_size: 258 is too small for the tokenizer bytes; at least 259 [vocabulary]"},
  };
  for (const auto& c : cases) {
    std::string message = refusal(kGood, {c.override}, 1);
    // The preset's place is the machine's affair.
    if (const size_t at = message.find(TAEL_SOURCE_DIR); at != std::string::npos) {
      const size_t end = message.find(".yaml", at);
      message.replace(at, message.find(' ', end) - at, "T.yaml:");
    }
    EXPECT_EQ(message, c.message) << c.override;
  }
}

TEST(BadConfig, SizesThatDoNotFitTogether) {
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
       "78: parallelism.reduction_lanes: 3 data ranks do not divide the 4 lanes (parallelism.reduction_lanes); the "
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
TEST(BadConfig, AClashWithADefaultHasThePlaceOfWhatWasGiven) {
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
      {"parallelism: {data_parallel: 3}",
       "78: t.yaml:5:30: parallelism.reduction_lanes: 3 data ranks do not divide the 4 lanes "
       "(parallelism.reduction_lanes); the nearest that fits is 2 data ranks [lanes]",
       3},
  };
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

TEST(BadConfig, WhatIsNamedAsTheNearestThatFitsFits) {
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

TEST(BadConfig, WhatIsNotBuiltSaysSo) {
  const struct {
    const char* override;
    const char* message;
  } cases[] = {
      {"parallelism.timeout=5s", "parallelism.timeout: 5s is not built yet; the nearest that is built is 600s"},
      {"precision.compute=bf16", "precision.compute: bf16 is not built yet; the nearest that is built is fp32"},
      {"precision.compute=fp8", "precision.compute: fp8 is not built yet; the nearest that is built is fp32"},
      {"precision.moments=bf16", "precision.moments: bf16 is not built yet; the nearest that is built is fp32"},
      {"precision.dispatch=fp8", "precision.dispatch: fp8 is not built yet; the nearest that is built is fp32"},
      {"precision.combine=bf16", "precision.combine: bf16 is not built yet; the nearest that is built is fp32"},
      {"precision.fp8_gemm=exact", "precision.fp8_gemm: exact is not built yet; the nearest that is built is fast"},
      {"precision.fp8_scales=pow2",
       "precision.fp8_scales: pow2 is not built yet; the nearest that is built is default"},
      {"precision.overrides={experts: bf16}",
       "precision.overrides: {experts: bf16} is not built yet; the nearest that is built is {}"},
      {"precision.shadow_interval=100",
       "precision.shadow_interval: 100 is not built yet; the nearest that is built is 0"},
      {"data.fim_rate=0.1", "data.fim_rate: 0.1 is not built yet; the nearest that is built is 0"},
      {"data.tokenizer=tokenizer.json",
       "data.tokenizer: tokenizer.json is not built yet; the nearest that is built is bytes"},
      {"parallelism.tensor_parallel=2",
       "parallelism.tensor_parallel: 2 is not built yet; the nearest that is built is 1"},
      {"parallelism.expert_parallel=2",
       "parallelism.expert_parallel: 2 is not built yet; the nearest that is built is 1"},
      {"parallelism.pipeline_parallel=2",
       "parallelism.pipeline_parallel: 2 is not built yet; the nearest that is built is 1"},
      {"parallelism.zero_stage=1", "parallelism.zero_stage: 1 is not built yet; the nearest that is built is 0"},
      {"activation_checkpoint.mode=selective",
       "activation_checkpoint.mode: selective is not built yet; the nearest that is built is none"},
      {"cluster.device=cuda",
       "cluster.device: cuda: this program was built without CUDA; the nearest that fits is cpu"},
      {"cluster.device=h800", "cluster.device: h800 is not built yet; the nearest that is built is cpu"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(refusal(kGood, {c.override}, 1), std::string("78: command line: ") + c.message) << c.override;
  }
  // Names that mean the same here and harmless ones are accepted.
  for (const char* harmless :
       {"precision.compute=fp32", "precision.dispatch=fp32", "parallelism.pipeline_schedule=dualpipe",
        "parallelism.token_dispatcher=hierarchical", "checkpoint.keep=5", "checkpoint.interval=0",
        "budget.gpu_hours=10", "cluster.device=cpu", "data.tokenizer=bytes", "data.document_mask=true",
        "model.tie_word_embeddings=true", "mtp.hidden=before_final_norm", "parallelism.reduction_segments=2",
        "lr_scheduler.min_lr=0", "budget.gpu_hours=null"}) {
    EXPECT_EQ(refusal(kGood, {harmless}, 1), "accepted") << harmless;
  }
}

TEST(BadConfig, TheCommandLine) {
  EXPECT_EQ(refusal(kGood, {"training.seq_length"}, 1),
            "2: \"training.seq_length\" is not an override; write key.sub=value");
  EXPECT_EQ(refusal(kGood, {"defaults=[a]"}, 1), "78: command line: defaults: belongs in a file");
  EXPECT_EQ(refusal(kGood, {"training={seq_length: 32, seq_lengt: 1}"}, 1),
            "78: command line: training.seq_lengt: unknown key; the nearest known one is training.seq_length");
  EXPECT_EQ(
      refusal(kGood, {"optimizer.lr=[1"}, 1),
      "78: command line: optimizer.lr: \"[1\" is not a value in YAML's flow style; quote text that holds []{},:#");
  EXPECT_EQ(refusal(kGood, {"data.train=[{path: x.h5, weight: 1, weight: 2}]"}, 1),
            "78: command line: data.train: duplicate key data.train[0].weight");
  EXPECT_EQ(refusal(kGood, {"optimizer.lr=&a 1"}, 1),
            "78: command line: optimizer.lr: anchors and aliases are not accepted; write the value out, or share files "
            "by \"defaults:\"");
  EXPECT_EQ(refusal(kGood, {"training.global_batch_size={start: 4, end: 8, ovr: 1k, increment: 4}"}, 1),
            "78: command line: training.global_batch_size: expected only start, end, over and increment, got ovr; the "
            "nearest is over");
  EXPECT_EQ(refusal(kGood, {"lr_scheduler.decay={phase: [[1k, constant, 1e-3]]}"}, 1),
            "78: command line: lr_scheduler.decay: expected only phases, got phase; the nearest is phases");
  EXPECT_EQ(refusal(kGood, {"model.preset=gpt"}, 1),
            "78: command line: model.preset: there is no preset gpt; there are deepseek_v2, deepseek_v2_lite, "
            "deepseek_v3, deepseek_v3_small, deepseek_v3_tiny, kimi_k2, moonlight");
}

TEST(BadConfig, FilesThatAreNotThere) {
  const auto load = [](const std::string& path) {
    return testing::refusal_of([&] { load_config(path, {}, kSearch); });
  };
  EXPECT_EQ(load("nowhere.yaml"), "78: \"nowhere.yaml\": no such configuration, here or in the configs directories");
  EXPECT_EQ(load("/"), "78: /: cannot be read: Is a directory");
}

}  // namespace
}  // namespace tael
