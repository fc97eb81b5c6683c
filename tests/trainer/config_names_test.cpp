// The table of other programs' names: every row of it, and what is said about a name that is nobody's.
#include "trainer/config_names.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/harness/configuration.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "trainer/commands/config.hpp"
#include "trainer/config_rules.hpp"

namespace tael {
namespace {

using testing::kSearch;

// Without what would contradict a row's other value: num_key_value_heads, a preset.
constexpr const char* kBase = R"(run: {dir: runs/x}
model: {vocab_size: 272, hidden_size: 128, intermediate_size: 384, moe_intermediate_size: 96, num_hidden_layers: 4, num_nextn_predict_layers: 1, num_attention_heads: 4, q_lora_rank: 64, kv_lora_rank: 32, qk_nope_head_dim: 32, qk_rope_head_dim: 16, v_head_dim: 32, n_routed_experts: 16, n_shared_experts: 1, num_experts_per_tok: 4, n_group: 4, topk_group: 2, max_position_embeddings: 4096}
data: {train: [a.h5]}
training: {seq_length: 64, micro_batch_size: 2, global_batch_size: 8, train_steps: 10}
)";

LoadedConfig load(const std::vector<std::string>& overrides, const std::string& text = kBase) {
  return load_config_text(text, "t.yaml", overrides, kSearch);
}

std::string refusal(const std::vector<std::string>& overrides, const std::string& text = kBase) {
  return testing::refusal_of([&] { check_config(load(overrides, text)); });
}

// The key of a row, and its element or -1.
std::pair<std::string, int> element_of(std::string_view key) {
  const size_t bracket = key.find('[');
  if (bracket == std::string_view::npos) return {std::string(key), -1};
  return {std::string(key.substr(0, bracket)), key[bracket + 1] - '0'};
}

// Where a row's name may stand.
std::vector<std::string> places_of(const KeyAlias& alias) {
  if (alias.written.find('.') != std::string_view::npos) return {std::string(alias.written)};
  const std::string key = element_of(alias.key).first;
  std::vector<std::string> places = {std::string(alias.written)};
  const std::string inside = key.substr(0, key.rfind('.') + 1) + std::string(alias.written);
  if (config_schema().find(inside) == nullptr) places.push_back(inside);
  return places;
}

// Another value than the one in force that the key may hold together with the rest of the configuration.
std::string other_value(const std::string& key) {
  static const std::map<std::string, std::string> kOthers = {
      {"model.num_attention_heads", "8"},
      {"model.qk_rope_head_dim", "8"},
      {"model.n_group", "8"},
      {"model.topk_group", "1"},
      {"model.num_experts_per_tok", "3"},
      {"model.first_k_dense_replace", "2"},
      {"model.n_routed_experts", "32"},
      {"model.num_nextn_predict_layers", "0"},
      {"model.vocab_size", "300"},
      {"model.norm_topk_prob", "false"},
      {"model.tie_word_embeddings", "true"},
      {"model.scoring_func", "sigmoid"},
      {"metrics.tensorboard", "false"},
      {"run.dir", "runs/y"},
      {"lr_scheduler.decay", "constant"},
      {"router.aux_loss.type", "none"},
      {"activation_checkpoint.mode", "full"},
      {"parallelism.pipeline_schedule", "dualpipe"},
      {"parallelism.token_dispatcher", "hierarchical"},
  };
  if (const auto found = kOthers.find(key); found != kOthers.end()) return found->second;
  return key.starts_with("optimizer.") || key.starts_with("router.") || key.starts_with("mtp.") ||
                 key == "lr_scheduler.min_lr" || key == "model.rms_norm_eps" || key == "model.initializer_range"
             ? "0.015625"
             : "7";
}

TEST(ConfigNames, EveryAliasIsItsKeyAndIsNamedAtStart) {
  for (const KeyAlias& alias : other_programs_names().aliases) {
    const auto [key, element] = element_of(alias.key);
    const std::string value = other_value(key);
    for (const std::string& place : places_of(alias)) {
      SCOPED_TRACE(place);
      const std::string given = fmt::format("{}={}", place, value);
      const LoadedConfig loaded = load({given});
      std::string list = value;
      if (element >= 0) list = element == 0 ? fmt::format("[{}, 0.95]", value) : fmt::format("[0.9, {}]", value);
      const LoadedConfig same = load({fmt::format("{}={}", key, list)});
      EXPECT_TRUE(differences(write_fields(loaded.config), write_fields(same.config)).empty());
      // Another value than before, in that key alone. (The gate has one scoring function that fits.)
      std::vector<std::string> changed;
      for (const FieldDifference& d : differences(write_fields(load({}).config), write_fields(loaded.config)))
        changed.push_back(d.path);
      if (key != "model.scoring_func") {
        EXPECT_EQ(changed, std::vector<std::string>{key});
      }
      EXPECT_EQ(loaded.reading.origin(key).str(), "command line");
      const std::vector<std::string> notes = config_notes(loaded);
      EXPECT_EQ(std::count(notes.begin(), notes.end(), fmt::format("{} is read as {}", place, alias.key)), 1);
      EXPECT_EQ(loaded.reading.in_words(key), fmt::format("{} (written {})", key, place));
      // With hyphens, as on Megatron's command line.
      std::string hyphens = place;
      std::replace(hyphens.begin(), hyphens.end(), '_', '-');
      const size_t dot = hyphens.rfind('.');
      if (dot != std::string::npos) hyphens = place.substr(0, dot) + hyphens.substr(dot);
      const LoadedConfig spelled = load({fmt::format("{}={}", hyphens, value)});
      EXPECT_TRUE(differences(write_fields(loaded.config), write_fields(spelled.config)).empty()) << hyphens;
      // Both names together contradict each other, whichever comes first.
      if (element >= 0 || place.find('.') != std::string::npos) continue;
      const std::string section = key.substr(0, key.find('.')), rest = key.substr(key.find('.') + 1);
      if (section == "model" || section == "training" || section == "run" || rest.find('.') != std::string::npos)
        continue;  // sections that the text has already
      for (const std::string& text : {fmt::format("{}: {}\n{}: {{{}: {}}}\n", place, value, section, rest, value),
                                      fmt::format("{}: {{{}: {}}}\n{}: {}\n", section, rest, value, place, value)}) {
        const std::string message = refusal({}, kBase + text);
        EXPECT_NE(message.find(fmt::format(": {} is another name of {}; give one of them", place, key)),
                  std::string::npos)
            << message;
      }
    }
  }
}

TEST(ConfigNames, EveryWordIsItsWord) {
  for (const WordAlias& alias : other_programs_names().words) {
    const LoadedConfig loaded = load({fmt::format("{}={}", alias.key, alias.written)});
    const LoadedConfig same = load({fmt::format("{}={}", alias.key, alias.word)});
    EXPECT_TRUE(differences(write_fields(loaded.config), write_fields(same.config)).empty()) << alias.written;
    EXPECT_EQ(loaded.reading.aliases,
              std::vector<std::string>{fmt::format("{} {} is read as {}", alias.key, alias.written, alias.word)});
  }
}

TEST(ConfigNames, EveryNameThatMeansSomethingElseIsRefusedWithTheKeyThatDoesIt) {
  for (const KeyAdvice& advice : other_programs_names().advice) {
    if (!advice.key.empty()) {
      const SchemaEntry* entry = config_schema().find(advice.key);
      ASSERT_TRUE(entry != nullptr || advice.key == "model.preset") << advice.key;
    }
    const std::string expected = advice.key.empty()
                                     ? fmt::format("78: command line: {}: unknown key; {}", advice.written, advice.how)
                                     : fmt::format("78: command line: {}: unknown key; give {} instead: {}",
                                                   advice.written, advice.key, advice.how);
    EXPECT_EQ(refusal({fmt::format("{}=1", advice.written)}), expected);
    if (advice.written.find('.') == std::string_view::npos) {
      EXPECT_EQ(refusal({fmt::format("training.{}=1", advice.written)}),
                expected.substr(0, 18) + "training." + expected.substr(18));
    }
  }
}

TEST(ConfigNames, ConstantsAreAcceptedWithTheirOneValue) {
  for (const KeyConstant& constant : other_programs_names().constants) {
    const LoadedConfig loaded = load({fmt::format("parallelism.{}={}", constant.written, constant.value)});
    EXPECT_EQ(loaded.reading.ignored, std::vector<std::string>{fmt::format("parallelism.{}", constant.written)});
    EXPECT_EQ(
        refusal({fmt::format("{}=2", constant.written)}),
        fmt::format("78: command line: {}: expected {} ({}), got 2", constant.written, constant.value, constant.why));
  }
}

TEST(ConfigNames, TheTableHoldsEachNameOnceAndNoKeyOfOurs) {
  const KeyNames names = other_programs_names();
  std::set<std::string_view> written;
  const auto once = [&](std::string_view name) {
    EXPECT_TRUE(written.insert(name).second) << name << " twice";
    EXPECT_EQ(config_schema().find(name), nullptr) << name << " is a key";
  };
  for (const KeyAlias& alias : names.aliases) {
    once(alias.written);
    const SchemaEntry* entry = config_schema().find(element_of(alias.key).first);
    ASSERT_NE(entry, nullptr) << alias.key;
    EXPECT_TRUE(!entry->section && entry->use == FieldUse::value) << alias.key;
  }
  for (const KeyAdvice& advice : names.advice) once(advice.written);
  for (const KeyConstant& constant : names.constants) once(constant.written);
}

TEST(ConfigNames, MegatronsFlagsAndTorchtitansFileComeToTheSame) {
  const std::string ours = R"(run: {dir: runs/x, seed: 7}
model: {preset: deepseek_v3_tiny, num_hidden_layers: 3, n_routed_experts: 8, num_experts_per_tok: 2}
router: {bias_update_rate: 0.002, aux_loss: {coeff: 0.001}}
data: {train: [a.h5]}
training: {seq_length: 64, micro_batch_size: 2, global_batch_size: 8, train_steps: 10, log_interval: 5}
optimizer: {lr: 1e-3, betas: [0.8, 0.99], clip_grad: 0.5}
lr_scheduler: {warmup_steps: 3, decay: cosine, min_lr: 1e-4}
parallelism: {pipeline_schedule: dualpipev}
)";
  const std::string megatron = R"(run: {dir: runs/x}
data: {train: [a.h5]}
model: {preset: deepseek_v3_tiny}
seed: 7
num-layers: 3
num-experts: 8
moe-router-topk: 2
moe-router-bias-update-rate: 0.002
moe-aux-loss-coeff: 0.001
multi-latent-attention: true
seq-length: 64
micro-batch-size: 2
global-batch-size: 8
train-iters: 10
log-interval: 5
lr: 1e-3
adam-beta1: 0.8
adam-beta2: 0.99
clip-grad: 0.5
lr-warmup-iters: 3
lr-decay-style: cosine
min-lr: 1e-4
tensor-model-parallel-size: 1
parallelism: {pipeline_schedule: dualpipev}
)";
  const std::string torchtitan = R"(job: {dump_folder: runs/x}
debug: {seed: 7}
model: {preset: deepseek_v3_tiny, n_layers: 3, n_routed_experts: 8, top_k: 2, load_balance_coeff: 0.002}
router: {aux_loss: {coeff: 0.001}}
data: {train: [a.h5]}
training: {seq_len: 64, local_batch_size: 2, global_batch_size: 8, steps: 10, max_norm: 0.5}
optimizer: {name: AdamW, lr: 1e-3, beta1: 0.8, beta2: 0.99}
lr_scheduler: {warmup_steps: 3, decay_type: cosine, min_lr: 1e-4}
parallelism: {tensor_parallel_degree: 1, context_parallel_degree: 1, pipeline_parallel_schedule: DualPipeV}
metrics: {log_freq: 5}
)";
  const auto expected = write_fields(load({}, ours).config);
  for (const std::string& text : {megatron, torchtitan}) {
    for (const FieldDifference& d : differences(expected, write_fields(load({}, text).config))) {
      ADD_FAILURE() << d.path << ": " << d.first << " and " << d.second << " from\n" << text;
    }
  }
}

TEST(ConfigNames, OfTwoLayersTheLaterIsInForceWhateverItIsCalled) {
  const LoadedConfig loaded = load({"lr=0.1", "optimizer.lr=0.2"});
  EXPECT_EQ(loaded.config.optimizer.lr, 0.2);
  EXPECT_EQ(loaded.reading.in_words("optimizer.lr"), "optimizer.lr");
  EXPECT_EQ(load({"optimizer.lr=0.2", "lr=0.1"}).config.optimizer.lr, 0.1);
  // Tokens or steps: the later given, and both in one file is a contradiction under any name.
  const LoadedConfig tokens = load({"train_iters=5", "training.train_tokens=1M"});
  EXPECT_FALSE(tokens.config.training.train_steps.has_value());
  EXPECT_EQ(refusal({}, std::string(kBase) + "train_iters: 5\n"),
            "78: t.yaml:5:14: train_iters is another name of training.train_steps; give one of them");
  EXPECT_EQ(refusal({}, "run: {dir: x}\ntraining: {train_tokens: 5}\ntrain_iters: 5\n"),
            "78: t.yaml:3:14: training.train_tokens and train_iters exclude each other; give one of them");
  // A preset takes the place of what an alias said before it.
  EXPECT_EQ(load({"num_layers=3", "model.preset=deepseek_v3_small"}).reading.written.count("model.num_hidden_layers"),
            0u);
}

TEST(ConfigNames, RefusalsNameWhatWasWritten) {
  const struct {
    std::vector<std::string> overrides;
    const char* message;
  } cases[] = {
      {{"train-iters=abc"},
       "78: command line: train-iters: expected null or a whole number such as 4096, 4k or 20M, at least 1, got abc"},
      {{"micro-batch-size=3"},
       "78: command line: training.micro_batch_size (written micro-batch-size): 3 does not divide a "
       "global batch of 8; the nearest that fits is 2 [micro-batch-divides]"},
      {{"model.n_expert_groups=3"},
       "78: command line: model.n_group (written model.n_expert_groups): 3 groups do not divide n_routed_experts 16; "
       "the nearest that fits is 2"},
      {{"adam_beta1=1"}, "78: command line: adam_beta1: expected a number from 0 and below 1, got 1"},
      {{"training={steps: 5, train_iters: 6}"},
       "78: command line: training.train_iters is another name of training.steps; give one of them"},
      {{"optimizer={betas: [0.9, 0.95], beta1: 0.5}"},
       "78: command line: optimizer.beta1 is another name of optimizer.betas[0]; give one of them"},
      {{"job.nothing=1"}, "78: command line: job.nothing: unknown key; nothing known is near it"},
      // transformers' own key, which means the sum of both parts, is no alias inside the model.
      {{"model.qk_head_dim=1"}, "accepted"},
  };
  for (const auto& c : cases) EXPECT_EQ(refusal(c.overrides), c.message);
  EXPECT_EQ(load({"model.qk_head_dim=1"}).reading.ignored, std::vector<std::string>{"model.qk_head_dim"});
  EXPECT_EQ(load({"qk_head_dim=16"}).config.model.shape.qk_nope_head_dim, 16);
}

TEST(ConfigNames, NobodysNamesGetTheKeyThatWasMeant) {
  const std::pair<const char*, const char*> near[] = {
      {"seq_lenght", "training.seq_length"},
      {"training.sequence_length", "training.seq_length"},
      {"training.batch", "training.micro_batch_size"},
      {"training.globalbatchsize", "training.global_batch_size"},
      {"training.warmup", "lr_scheduler.warmup_steps"},
      {"training.lr", "optimizer.lr"},
      {"training.train_itres", "training.train_steps"},
      {"train_itres", "training.train_steps"},
      {"optimizer.epsilon", "optimizer.eps"},
      {"optimizer.beta", "optimizer.betas"},
      {"optimizer.gradient_clip", "optimizer.clip_grad"},
      {"lr_scheduler.min", "lr_scheduler.min_lr"},
      {"parallelism.tensor", "parallelism.tensor_parallel"},
      {"parallelism.zero", "parallelism.zero_stage"},
      {"parallelism.lanes", "parallelism.reduction_lanes"},
      {"checkpoint.save_every", "checkpoint.interval"},
      {"cluster.price", "cluster.price_per_device_hour"},
      {"cluster.threads", "cluster.threads_per_rank"},
      {"budget.hours", "budget.gpu_hours"},
      {"budget.limit", "budget.on_limit"},
      {"data.val", "data.valid"},
      {"data.tokeniser", "data.tokenizer"},
      {"data.mask", "data.document_mask"},
      {"model.layers", "model.num_hidden_layers"},
      {"model.heads", "model.num_attention_heads"},
      {"model.experts", "model.n_routed_experts"},
      {"model.hidden", "model.hidden_size"},
      {"model.ffn", "model.intermediate_size"},
      {"model.num_experts_per_token", "model.num_experts_per_tok"},
      {"model.tie_embeddings", "model.tie_word_embeddings"},
      {"router.aux_loss.coef", "router.aux_loss.coeff"},
      {"router.bias_rate", "router.bias_update_rate"},
      {"dir", "run.dir"},
      {"tokens", "training.train_tokens"},
      {"steps", "training.train_steps"},
      {"gpu_hours", "budget.gpu_hours"},
      {"price", "cluster.price_per_device_hour"},
      {"preset", "model.preset"},
      {"tensor_parallel", "parallelism.tensor_parallel"},
  };
  for (const auto& [name, key] : near) {
    EXPECT_EQ(refusal({fmt::format("{}=1", name)}),
              fmt::format("78: command line: {}: unknown key; the nearest known one is {}", name, key));
  }
  // Where nothing is near, what there is.
  EXPECT_EQ(refusal({"run.xyzzy=1"}), "78: command line: run.xyzzy: unknown key; run has dir and seed");
  EXPECT_EQ(refusal({"checkpoint.freq=1"}),
            "78: command line: checkpoint.freq: unknown key; checkpoint has interval, keep, milestone_interval, "
            "on_error and initial_load_path");
  EXPECT_EQ(refusal({"model.dropout=1"}), "78: command line: model.dropout: unknown key; nothing known is near it");
  EXPECT_EQ(refusal({std::string(5000, 'x') + "=1"}).find("78: command line: " + std::string(60, 'x') + "...: unknown"),
            0u);
}

}  // namespace
}  // namespace tael
