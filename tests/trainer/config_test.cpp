#include "trainer/config.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "base/json.hpp"
#include "model/param_table.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "trainer/commands/config.hpp"
#include "trainer/config_rules.hpp"

namespace tael {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;

const ConfigSearch kSearch{{TAEL_SOURCE_DIR "/configs"}};

constexpr const char* kReference = R"(
schema: 1
defaults: [models/deepseek_v3_tiny, clusters/this_machine]
run:            {dir: runs/first, seed: 1234}
model:          {}
router:         {bias_update_rate: [[0, 1.0e-3], [14.3T, 0.0]], aux_loss: {type: seq_aux_loss, coeff: 1.0e-4}}
mtp:            {loss_scaling_factor: [[0, 0.3], [10T, 0.1]], hidden: after_final_norm}
precision:      {compute: auto, moments: fp32, dispatch: auto, combine: auto, fp8_gemm: fast, fp8_scales: default, overrides: {}, shadow_interval: 0}
data:           {train: [corpus.h5], valid: [valid.h5], tokenizer: auto, verify: all, shuffle: true, document_mask: false, fim_rate: 0.0}
training:       {seq_length: 256, micro_batch_size: 4, global_batch_size: [[0, 32]], train_tokens: 20M, eval_interval: 100, log_interval: 1}
optimizer:      {name: adamw, lr: 3e-3, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, clip_grad: 1.0}
lr_scheduler:   {warmup_steps: 100, decay: cosine, min_lr: 3e-4}
parallelism:    {data_parallel: auto, tensor_parallel: 1, expert_parallel: 1, pipeline_parallel: 1, pipeline_schedule: 1f1b, zero_stage: 0, token_dispatcher: alltoall, reduction: auto, reduction_lanes: 4, reduction_segments: auto, expert_capacity: 2.0, timeout: 600s}
activation_checkpoint: {mode: none}
checkpoint:     {interval: 100, keep: 3, initial_load_path: null}
cluster:        {device: auto, nodes: auto, devices_per_node: auto, threads_per_rank: auto, hosts: auto, cpu_isa: auto, price_per_device_hour: {usd: 2.00}}
budget:         {gpu_hours: null, on_limit: checkpoint_and_stop}
metrics:        {tensorboard: true}
)";

LoadedConfig load(std::string_view text, const std::vector<std::string>& overrides = {}) {
  return load_config_text(text, "t.yaml", overrides, kSearch);
}

std::string write(const ScratchDirectory& directory, const std::string& name, std::string_view text) {
  fs::create_directories(fs::path(directory.at(name)).parent_path());
  std::ofstream(directory.at(name)) << text;
  return directory.at(name);
}

// "78: message" of what was thrown.
std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
  }
  return "accepted";
}

TEST(Config, TheReferenceConfigurationHoldsTheDefaults) {
  const LoadedConfig loaded = load(kReference);
  check_config(loaded);
  check_built(loaded);
  check_world(loaded, 4);
  std::vector<std::string> changed;
  for (const FieldDifference& d : changes_from_defaults(loaded.config)) changed.push_back(d.path);
  // What must be given, what defaults to nothing.
  EXPECT_EQ(changed, (std::vector<std::string>{"run.dir", "data.train", "data.valid", "training.train_tokens",
                                               "cluster.price_per_device_hour"}));
  EXPECT_EQ(loaded.config.model.shape.hidden_size, 128);
  EXPECT_EQ(loaded.config.training.steps(), (20'000'000 + 32 * 256 - 1) / (32 * 256));
  EXPECT_EQ(loaded.files.size(), 3u);
}

TEST(Config, ATrialMayBeShorterThanTheWarmUpOfItsRecipe) {
  const LoadedConfig loaded = load(kReference, {"training.train_steps=10"});
  EXPECT_LT(loaded.config.training.steps(), loaded.config.lr_scheduler.warmup_steps);
  check_config(loaded);
}

TEST(Config, ChangedSettingsAreABlockWithTheirDefaults) {
  const std::vector<std::string> changes = {"optimizer.lr=0.5", "training.eval_interval=7", "run.seed=2",
                                            "cluster.price_per_device_hour=null"};
  EXPECT_EQ(changed_settings(load(kReference, changes), 80),
            (std::vector<std::string>{"training.eval_interval 7 (100), optimizer.lr 0.5 (0.003)"}));
  EXPECT_EQ(changed_settings(load(kReference, changes), 40),
            (std::vector<std::string>{"training.eval_interval 7 (100),", "optimizer.lr 0.5 (0.003)"}));
  EXPECT_TRUE(changed_settings(load(kReference, {"cluster.price_per_device_hour=null"}), 80).empty());
}

TEST(Config, EveryMisspeltKeyOfTheReferenceGetsTheRightName) {
  const std::string text = kReference;
  const ConfigNode root = parse_yaml(text, "t.yaml");
  int tried = 0;
  const auto misspell = [&](const std::string& key, const Origin& at, const std::string& section, std::string wrong) {
    // Replaces the key where it stands.
    size_t offset = 0;
    for (int line = 1; line < at.line; ++line) offset = text.find('\n', offset) + 1;
    offset += static_cast<size_t>(at.column) - 1;
    ASSERT_EQ(text.substr(offset, key.size()), key);
    if (config_schema().find(section.empty() ? wrong : section + "." + wrong) != nullptr) return;  // another key
    std::string mutated = text;
    mutated.replace(offset, key.size(), wrong);
    const std::string path = section.empty() ? "" : section + ".";
    EXPECT_EQ(refusal([&] { load(mutated); }),
              fmt::format("78: t.yaml:{}:{}: {}{}: unknown key; the nearest known one is {}{}", at.line, at.column,
                          path, wrong, path, key));
    ++tried;
  };
  const auto walk = [&](const auto& self, const ConfigNode& map, const std::string& section) -> void {
    for (size_t i = 0; i < map.keys.size(); ++i) {
      const std::string& key = map.keys[i].scalar;
      const std::string path = section.empty() ? key : section + "." + key;
      if (key == "defaults" || key == "usd") continue;
      misspell(key, map.keys[i].origin, section, key + "s");
      misspell(key, map.keys[i].origin, section, key + "x");
      if (key.size() > 4) {
        misspell(key, map.keys[i].origin, section, key.substr(0, 2) + key.substr(3));
        std::string exchanged = key;
        std::swap(exchanged[2], exchanged[3]);
        if (exchanged != key) misspell(key, map.keys[i].origin, section, exchanged);
      }
      const SchemaEntry* entry = config_schema().find(path);
      if (entry != nullptr && entry->section) self(self, map.items[i], path);
    }
  };
  walk(walk, root, "");
  EXPECT_GT(tried, 200);
}

TEST(Config, TheResolvedFileReadsBackTheSame) {
  for (const std::string name : {"experiments/quickstart", "experiments/deepseek_v3", "bench/cpu_moe"}) {
    const LoadedConfig first = load_config(name, {}, kSearch);
    const std::string text = resolved_yaml(first);
    const LoadedConfig second = load(text);
    EXPECT_TRUE(differences(write_fields(first.config), write_fields(second.config)).empty()) << text;
    const LoadedConfig third = load(config_show({.config = name, .overrides = {}, .origin = true, .search = kSearch}));
    EXPECT_TRUE(differences(write_fields(first.config), write_fields(third.config)).empty());
    check_config(second);
  }
}

TEST(Config, OriginsNameFileAndLine) {
  const ScratchDirectory dir;
  const std::string base = write(dir, "base.yaml", "optimizer:\n  eps: 1e-8\n  lr: 1e-4");
  const std::string file = write(dir, "run.yaml", "defaults: [base]\noptimizer: {lr: 1e-3, clip_grad: 2}");
  const LoadedConfig loaded = load_config(file, {"optimizer.clip_grad=1"}, kSearch);
  EXPECT_EQ(loaded.reading.origin("optimizer.eps").str(), base + ":2:8");
  EXPECT_EQ(loaded.reading.origin("optimizer.lr").str(), file + ":2:17");
  EXPECT_EQ(loaded.reading.origin("optimizer.clip_grad").str(), "command line");
  EXPECT_EQ(loaded.reading.origin("optimizer.weight_decay").str(), "default");
}

TEST(Config, LayersReplaceEachOtherInOrder) {
  const ScratchDirectory dir;
  write(dir, "a.yaml", "training: {train_steps: 10, seq_length: 64}\noptimizer: {lr: 1}");
  write(dir, "b.yaml", "defaults: [a]\ntraining: {seq_length: 32}");
  const std::string top =
      write(dir, "sub/top.yaml", "defaults: [../b.yaml]\nrun: {dir: x}\ntraining: {train_tokens: 1M}");
  const LoadedConfig loaded = load_config(top, {"training.train_steps=7", "optimizer.lr=2", "optimizer.lr=3"}, kSearch);
  EXPECT_EQ(loaded.config.training.seq_length, 32);
  EXPECT_EQ(loaded.config.optimizer.lr, 3);
  EXPECT_EQ(loaded.config.training.train_steps, 7);
  EXPECT_FALSE(loaded.config.training.train_tokens.has_value());
  ASSERT_EQ(loaded.files.size(), 3u);
  EXPECT_TRUE(loaded.files[0].ends_with("sub/top.yaml"));

  const std::string ring = write(dir, "ring.yaml", "defaults: [ring2]");
  write(dir, "ring2.yaml", "defaults: [ring]");
  EXPECT_EQ(refusal([&] { load_config(ring, {}, kSearch); }),
            fmt::format("78: {}/ring.yaml: defaults: leads back to this file", dir.path()));
  const std::string lost = write(dir, "lost.yaml", "defaults: [a, nowhere]");
  EXPECT_EQ(refusal([&] { load_config(lost, {}, kSearch); }),
            fmt::format("78: {}:1:15: defaults: there is no file \"nowhere\" or nowhere.yaml", lost));
  std::string many = "defaults: [";
  for (int i = 0; i < 70; ++i) many += "a, ";
  const std::string wide = write(dir, "wide.yaml", many + "a]");
  EXPECT_EQ(refusal([&] { load_config(wide, {}, kSearch); }),
            fmt::format("78: {}/a.yaml: more than 64 files by defaults:", dir.path()));
}

TEST(Config, PresetsListTheirDeviations) {
  const LoadedConfig loaded = load_config("experiments/deepseek_v3", {"model.num_hidden_layers=8"}, kSearch);
  ASSERT_EQ(loaded.preset_deviations.size(), 3u);
  EXPECT_EQ(loaded.preset_deviations[0].path, "model.num_hidden_layers");
  EXPECT_EQ(loaded.preset_deviations[0].first, "61");
  EXPECT_EQ(loaded.preset_deviations[0].second, "8");
  EXPECT_EQ(loaded.preset_deviations[1].path, "model.rope_scaling");
  EXPECT_EQ(loaded.preset_deviations[1].second, "null");
  // The name as people write it, and a preset that replaces what an earlier layer said.
  const LoadedConfig other = load("model: {vocab_size: 5}", {"model.preset=deepseek-v2-lite"});
  EXPECT_EQ(other.config.model.shape.vocab_size, 102400);
  EXPECT_TRUE(other.preset_deviations.empty());
}

TEST(Config, PresetsHaveThePublishedNumberOfParameters) {
  const struct {
    const char* name;
    int64_t total, active, without_input_table, mtp;
  } published[] = {
      {"deepseek_v3", 671'026'419'200, 37'552'297'472, 36'625'618'432, 11'610'068'224},
      {"deepseek_v2", 235'741'434'880, 21'375'800'320, 20'851'512'320, 0},
      {"deepseek_v2_lite", 15'706'484'224, 2'661'150'208, 2'451'435'008, 0},
      {"moonlight", 15'960'110'208, 2'914'776'192, 2'579'231'872, 0},
      {"kimi_k2", 1'026'408'232'448, 32'861'500'928, 31'687'095'808, 0},
  };
  for (const auto& p : published) {
    const std::string text =
        config_show({.config = std::string("models/") + p.name, .overrides = {}, .json = true, .search = kSearch});
    const JsonDocument document = JsonDocument::parse(text, p.name);
    const Json& parameters = document.root().at("parameters");
    EXPECT_EQ(parameters.at("total").as_int(), p.total) << p.name;
    EXPECT_EQ(parameters.at("active").as_int(), p.active) << p.name;
    EXPECT_EQ(parameters.at("active_without_input_table").as_int(), p.without_input_table) << p.name;
    EXPECT_EQ(parameters.at("mtp").as_int(), p.mtp) << p.name;
    EXPECT_EQ(document.root().find("training"), nullptr);
  }
  const LoadedConfig bench = load_config("bench/cpu_moe", {}, kSearch);
  EXPECT_EQ(count_parameters(bench.config.model.shape).total, 59'838'064);
  EXPECT_EQ(count_parameters(bench.config.model.shape).gate_biases, 112);
  const int64_t tiny = count_parameters(load_config("models/deepseek_v3_tiny", {}, kSearch).config.model.shape).total;
  EXPECT_GT(tiny, 1'000'000);
  EXPECT_LT(tiny, 3'000'000);
}

TEST(Config, ShowPrintsWhatIsNotBuiltAndTrainingRefusesIt) {
  const ConfigShowOptions options{.config = "experiments/deepseek_v3", .overrides = {}, .search = kSearch};
  const std::string text = config_show(options);
  EXPECT_NE(text.find("global_batch_size: {start: 3072, end: 15360, over: 469000000000, increment: 96}"),
            std::string::npos);
  EXPECT_NE(text.find("differs from the preset deepseek_v3: model.max_position_embeddings is 4096, there 163840"),
            std::string::npos);
  EXPECT_NE(text.find("# parameters: 671,026,419,200 (gate biases 14,848)"), std::string::npos) << text;
  // What show prints is a configuration.
  check_config(load(text));
  const LoadedConfig loaded = load_config("experiments/deepseek_v3", {}, kSearch);
  EXPECT_TRUE(refusal([&] {
                check_built(loaded);
              }).ends_with("precision.compute: fp8 is not built yet; the nearest that is built is fp32"));
  const auto steps = loaded.config.training.steps();
  EXPECT_GT(steps, 242'000);  // about 242.8K with a ramp linear in tokens
  EXPECT_LT(steps, 243'500);
  for (const std::string name : {"experiments/quickstart", "bench/cpu_moe"}) {
    const LoadedConfig built = load_config(name, {}, kSearch);
    check_config(built);
    check_built(built);
    check_world(built, 1);
    check_world(built, 2);
  }
}

TEST(Config, OtherProgramsNamesAreReadAndNamed) {
  const LoadedConfig loaded = load(kReference, {"training.train_iters=9", "parallelism.tensor_model_parallel_size=1",
                                                "model.num_layers=3", "training.seq_len=128"});
  EXPECT_EQ(loaded.config.training.train_steps, 9);
  EXPECT_EQ(loaded.config.model.shape.num_hidden_layers, 3);
  EXPECT_EQ(loaded.reading.aliases,
            (std::vector<std::string>{"training.train_iters is read as training.train_steps",
                                      "parallelism.tensor_model_parallel_size is read as parallelism.tensor_parallel",
                                      "model.num_layers is read as model.num_hidden_layers",
                                      "training.seq_len is read as training.seq_length"}));
}

TEST(Config, ThePhasesHaveThreeSpellings) {
  const char* list = "[[1M, constant, 1e-3], [20M, cosine, 1e-4]]";
  const LoadedConfig a = load(kReference, {fmt::format("lr_scheduler.decay={}", list)});
  const LoadedConfig b = load(kReference, {fmt::format("lr_scheduler.decay={{phases: {}}}", list)});
  const LoadedConfig c = load(kReference, {fmt::format("lr_scheduler.phases={}", list)});
  ASSERT_EQ(a.config.lr_scheduler.decay.phases.size(), 2u);
  for (const LoadedConfig& same : {b, c}) {
    EXPECT_TRUE(differences(write_fields(a.config), write_fields(same.config)).empty());
  }
  EXPECT_EQ(a.config.lr_scheduler.decay.phases[1].until_tokens, 20'000'000);
  EXPECT_EQ(a.config.lr_scheduler.decay.phases[1].shape, LrShape::cosine);
  EXPECT_EQ(a.config.lr_scheduler.decay.phases[1].lr, 1e-4);
  check_config(c);
  for (const LoadedConfig& said : {a, b, c}) EXPECT_EQ(said.reading.origin("lr_scheduler.decay").str(), "command line");
  const LoadedConfig d = load(kReference, {fmt::format("lr_scheduler.phases={}", list), "lr_scheduler.decay=constant"});
  EXPECT_TRUE(d.config.lr_scheduler.decay.phases.empty());
}

TEST(Config, HelpCoversEveryKey) {
  const std::string help = config_schema().help();
  EXPECT_NE(help.find("training.seq_length = 256: "), std::string::npos);
  for (const SchemaEntry& entry : config_schema().entries) {
    EXPECT_FALSE(entry.help.empty()) << entry.path;
    if (!entry.section && entry.use == FieldUse::value) {
      EXPECT_FALSE(entry.expected.empty()) << entry.path;
    }
  }
}

TEST(Config, RulesHaveNamesAndSentences) {
  for (const ConfigRule& rule : config_rules()) {
    EXPECT_FALSE(rule.name.empty());
    EXPECT_TRUE(rule.sentence.ends_with(".")) << rule.name;
  }
}

// A config.json as it is downloaded: the key set of the released DeepSeek-V3, values of a golden model.
constexpr const char* kReleasedJson = R"({
  "architectures": ["DeepseekV3ForCausalLM"],
  "attention_bias": false,
  "attention_dropout": 0.0,
  "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
  "aux_loss_alpha": 0.001,
  "bos_token_id": 0,
  "eos_token_id": 1,
  "ep_size": 1,
  "first_k_dense_replace": 1,
  "hidden_act": "silu",
  "hidden_size": 48,
  "initializer_range": 0.02,
  "intermediate_size": 96,
  "kv_lora_rank": 24,
  "max_position_embeddings": 163840,
  "model_type": "deepseek_v3",
  "moe_intermediate_size": 24,
  "moe_layer_freq": 1,
  "n_group": 4,
  "n_routed_experts": 8,
  "n_shared_experts": 1,
  "norm_topk_prob": true,
  "num_attention_heads": 4,
  "num_experts_per_tok": 3,
  "num_hidden_layers": 3,
  "num_key_value_heads": 4,
  "num_nextn_predict_layers": 1,
  "pretraining_tp": 1,
  "q_lora_rank": 32,
  "qk_nope_head_dim": 16,
  "qk_rope_head_dim": 8,
  "quantization_config": {
    "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]
  },
  "rms_norm_eps": 1e-06,
  "rope_scaling": {
    "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096, "type": "yarn"
  },
  "rope_theta": 10000,
  "routed_scaling_factor": 2.5,
  "scoring_func": "sigmoid",
  "seq_aux": true,
  "tie_word_embeddings": false,
  "topk_group": 2,
  "topk_method": "noaux_tc",
  "torch_dtype": "bfloat16",
  "transformers_version": "4.33.1",
  "use_cache": true,
  "v_head_dim": 16,
  "vocab_size": 259
}
)";

TEST(Config, AReleasedConfigJsonIsPastedUnchanged) {
  const LoadedConfig loaded = load(std::string("run: {dir: x}\nmodel: ") + kReleasedJson);
  EXPECT_EQ(loaded.config.model.shape.rope_scaling->factor, 40);
  EXPECT_TRUE(loaded.config.model.fp8_weights);
  EXPECT_EQ(loaded.reading.ignored,
            (std::vector<std::string>{"model.architectures", "model.auto_map", "model.torch_dtype",
                                      "model.transformers_version", "model.use_cache", "model.ep_size",
                                      "model.pretraining_tp", "model.seq_aux", "model.aux_loss_alpha"}));
  Reading reading;
  const ModelFields alone = read_model_json(kReleasedJson, "config.json", reading);
  EXPECT_EQ(alone.shape.q_lora_rank, 32);
  EXPECT_EQ(reading.ignored.size(), 9u);
}

// transformers 5 and torchtitan say num_mtp_layers.
TEST(Config, TheOtherNameOfTheMtpDepthIsAnAlias) {
  const ScratchDirectory dir;
  const std::string file = write(dir, "run.yaml", "model: {preset: deepseek_v3_tiny, num_mtp_layers: 2}");
  const LoadedConfig loaded = load_config(file, {}, kSearch);
  EXPECT_EQ(loaded.config.model.shape.num_nextn_predict_layers, 2);
  EXPECT_EQ(loaded.reading.origin("model.num_nextn_predict_layers").str(), file + ":1:51");
  EXPECT_EQ(loaded.reading.aliases,
            (std::vector<std::string>{"model.num_mtp_layers is read as model.num_nextn_predict_layers"}));
  EXPECT_EQ(load_config(file, {"model.num_mtp_layers=0"}, kSearch).config.model.shape.num_nextn_predict_layers, 0);

  const auto depth = [](const std::string& said) {
    Reading reading;
    return read_model_json("{" + said + std::string(kReleasedJson).substr(1), "config.json", reading)
        .shape.num_nextn_predict_layers;
  };
  EXPECT_EQ(depth(R"("num_mtp_layers": 1,)"), 1);  // beside the same under its own name
  EXPECT_EQ(refusal([&] { depth(R"("num_mtp_layers": 2,)"); }),
            "78: config.json:1:20: num_mtp_layers: 2 differs from num_nextn_predict_layers 1");
  std::string renamed(kReleasedJson);
  renamed.replace(renamed.find("num_nextn_predict_layers"), 24, "num_mtp_layers");
  Reading reading;
  EXPECT_EQ(read_model_json(renamed, "config.json", reading).shape.num_nextn_predict_layers, 1);
}

TEST(Config, EveryGoldenConfigJsonIsPastedUnchanged) {
  int models = 0;
  for (const auto& entry : fs::directory_iterator(TAEL_SOURCE_DIR "/tests/golden")) {
    if (!fs::exists(entry.path() / "config.json")) continue;
    std::ifstream in(entry.path() / "config.json");
    const std::string json((std::istreambuf_iterator<char>(in)), {});
    const LoadedConfig loaded = load("model: " + json);
    Reading reading;
    const ModelFields alone = read_model_json(json, "config.json", reading);
    ModelFields within = loaded.config.model;
    EXPECT_TRUE(differences(write_fields(alone), write_fields(within)).empty()) << entry.path();
    ++models;
  }
  EXPECT_GE(models, 12);
}

TEST(Config, Transformers5SpellingOfTheRotation) {
  std::string json = kReleasedJson;
  const auto replace = [&](std::string_view from, std::string_view to) {
    const size_t at = json.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    json.replace(at, from.size(), to);
  };
  replace("\"rope_theta\": 10000,\n", "\"rope_parameters\": {\"rope_theta\": 50000.0, \"rope_type\": \"default\"},\n");
  replace("\"torch_dtype\"", "\"dtype\"");
  replace("\"rope_scaling\": {", "\"rope_parametes\": {");
  Reading first;
  EXPECT_EQ(refusal([&] { read_model_json(json, "config.json", first); }),
            "78: config.json:37:3: rope_parametes: unknown key; the nearest known one is rope_parameters");
  replace("\"rope_parametes\": {", "\"rope_scaling\": null, \"id2label\": {");
  Reading reading;
  const ModelFields fields = read_model_json(json, "config.json", reading);
  EXPECT_FALSE(fields.shape.rope_scaling.has_value());
  EXPECT_EQ(fields.shape.rope_theta, 50000);
}

// rope_scaling and rope_parameters are two places for one thing: null says nothing, and they may not differ.
TEST(Config, TwoPlacesForTheRotationAgree) {
  const std::string yarn =
      "{\"type\": \"yarn\", \"factor\": 40, \"original_max_position_embeddings\": 4096, \"beta_fast\": 32, "
      "\"beta_slow\": 1, \"mscale\": 1.0, \"mscale_all_dim\": 1.0}";
  const auto with = [&](const std::string& more) {
    std::string json = kReleasedJson;
    json.replace(json.find("{") + 1, 0, more);
    Reading reading;
    return read_model_json(json, "config.json", reading).shape;
  };
  const ModelShape released = with("");
  ASSERT_TRUE(released.rope_scaling.has_value());
  EXPECT_EQ(with("\"rope_parameters\": null,").rope_scaling, released.rope_scaling);
  const std::string differs =
      "78: config.json:1:21: rope_parameters: expected nothing beside a rope_scaling; give one of the two, got a map";
  for (const std::string& other : {std::string("{\"rope_type\": \"default\", \"rope_theta\": 10000}"), yarn})
    EXPECT_EQ(refusal([&] { with("\"rope_parameters\": " + other + ","); }), differs);
  // Of a model without scaling it may hold nothing but the base.
  std::string plain = kReleasedJson;
  const size_t at = plain.find("\"rope_scaling\"");
  plain.replace(at, 14, "\"id2label\"");
  plain.replace(plain.find("\"rope_theta\": 10000"), 19, "\"rope_parameters\": {\"rope_theta\": 50000}");
  Reading reading;
  const ModelShape shape = read_model_json(plain, "config.json", reading).shape;
  EXPECT_FALSE(shape.rope_scaling.has_value());
  EXPECT_EQ(shape.rope_theta, 50000);
}

// Of two layers the later wins, whichever of the two keys it uses.
TEST(Config, TheRotationOfALaterLayerWins) {
  const std::string model =
      "model: {vocab_size: 259, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 2, num_attention_heads: 2, "
      "q_lora_rank: null, kv_lora_rank: 4, qk_nope_head_dim: 4, qk_rope_head_dim: 2, v_head_dim: 4, ";
  const std::string yarn = "{rope_type: yarn, factor: 40, original_max_position_embeddings: 4096, rope_theta: 20000}";
  const auto shape = [&](const std::string& key, const std::vector<std::string>& overrides) {
    return load(model + key + ": " + yarn + "}", overrides).config.model.shape;
  };
  for (const std::string key : {"rope_parameters", "rope_scaling"}) {
    EXPECT_EQ(shape(key, {}).rope_scaling->factor, 40);
    EXPECT_EQ(shape(key, {}).rope_theta, 20000);
    const ModelShape theta = shape(key, {"model." + key + ".rope_theta=50000"});
    EXPECT_EQ(theta.rope_scaling->factor, 40);
    EXPECT_EQ(theta.rope_theta, 50000);
    EXPECT_EQ(shape(key, {"model.rope_theta=30000"}).rope_theta, 30000);
    EXPECT_FALSE(shape(key, {"model." + key + "=null"}).rope_scaling.has_value());
    EXPECT_FALSE(shape(key, {"model.rope_scaling=null"}).rope_scaling.has_value());
    for (const std::string other : {"rope_parameters", "rope_scaling"}) {
      EXPECT_EQ(shape(key, {"model." + other + ".factor=10"}).rope_scaling->factor, 10);
      EXPECT_FALSE(shape(key, {"model." + other + "={rope_type: default}"}).rope_scaling.has_value());
    }
  }
  const LoadedConfig said = load(model + "rope_parameters: " + yarn + "}", {"model.rope_parameters.rope_theta=7"});
  EXPECT_EQ(said.reading.origin("model.rope_theta").str(), "command line");
  EXPECT_EQ(said.reading.origin("model.rope_scaling").str(), "command line");
  const LoadedConfig same = load(model + "rope_parameters: " + yarn + "}", {"model.rope_theta=20000"});
  EXPECT_EQ(same.reading.origin("model.rope_theta").str(), "command line");
  const LoadedConfig back = load(model + "rope_parameters: " + yarn + "}", {"model.rope_parameters=null"});
  EXPECT_EQ(back.reading.origin("model.rope_scaling").str(), "command line");
  const LoadedConfig file = load(model + "rope_scaling: null, rope_parameters: " + yarn + "}");
  EXPECT_EQ(file.reading.origin("model.rope_scaling").line, 1);
  EXPECT_GT(file.reading.origin("model.rope_scaling").column, 225);  // not the null's
  EXPECT_EQ(refusal([&] { load(model + "rope_theta: 1000, rope_parameters: " + yarn + "}"); }),
            "78: t.yaml:1:215: model.rope_theta: 1000 differs from the 20000 beside the scaling");
  EXPECT_EQ(refusal([&] {
              load(model +
                   "rope_scaling: {type: yarn, rope_type: default, factor: 40, "
                   "original_max_position_embeddings: 4096}}");
            }),
            "78: t.yaml:1:241: model.rope_scaling: expected what type beside it says (one code reads the one, one the "
            "other), got default");
  EXPECT_EQ(refusal([&] { load(model + "rope_scaling: {rope_type: default}, rope_parameters: " + yarn + "}"); }),
            "78: t.yaml:1:256: model.rope_parameters: expected nothing beside a rope_scaling; give one of the two, got "
            "a map");
}

TEST(Config, VersionThreeHasItsClassesDefaults) {
  const LoadedConfig loaded = load(
      "model: {vocab_size: 259, hidden_size: 8, intermediate_size: 8, moe_intermediate_size: 8, num_hidden_layers: 2, "
      "num_attention_heads: 2, q_lora_rank: null, kv_lora_rank: 4, qk_nope_head_dim: 4, qk_rope_head_dim: 2, "
      "v_head_dim: 4, n_routed_experts: 16, num_experts_per_tok: 2}");
  const ModelShape& shape = loaded.config.model.shape;
  EXPECT_EQ(shape.n_shared_experts, 1);
  EXPECT_EQ(shape.n_group, 8);
  EXPECT_EQ(shape.topk_group, 4);
  EXPECT_EQ(shape.routed_scaling_factor, 2.5);
  EXPECT_EQ(shape.first_k_dense_replace, 2);  // 3, of 2 layers
  EXPECT_TRUE(shape.norm_topk_prob);
}

TEST(Config, VersionTwoHasItsOwnDefaults) {
  const LoadedConfig loaded = load(
      "model: {model_type: deepseek_v2, vocab_size: 259, hidden_size: 8, intermediate_size: 8, moe_intermediate_size: "
      "8, "
      "num_hidden_layers: 2, num_attention_heads: 2, q_lora_rank: null, kv_lora_rank: 4, qk_nope_head_dim: 4, "
      "qk_rope_head_dim: 2, v_head_dim: 4, n_routed_experts: 4, num_experts_per_tok: 2, n_group: null}");
  EXPECT_EQ(loaded.config.model.shape.scoring_func, ScoringFunc::softmax);
  EXPECT_EQ(loaded.config.model.shape.topk_method, TopkMethod::greedy);
  EXPECT_FALSE(loaded.config.model.shape.norm_topk_prob);
}

TEST(Config, StepsAreCountedThroughTheRamp) {
  for (const auto& batch : {BatchSize{Schedule{{{0, 4}, {1000, 8}, {5000, 16}}}, {}},
                            BatchSize{{}, BatchRamp{8, 64, 9000, 8}}, BatchSize{Schedule::constant(3), {}}}) {
    for (const int64_t target : {1, 7, 999, 1000, 1001, 9000, 123456}) {
      int64_t steps = 0;
      for (int64_t tokens = 0; tokens < target; ++steps) tokens += batch.at(tokens) * 7;
      EXPECT_EQ(steps_to_consume(batch, 7, target), steps) << target;
      int64_t tokens = 0;
      for (int64_t s = 0; s < steps; ++s) tokens += batch.at(tokens) * 7;
      EXPECT_EQ(tokens_after_steps(batch, 7, steps), tokens) << target;
    }
  }
}

// A run whose length of sequences or batch was changed goes on from what it has consumed.
TEST(Config, StepsAndTokensAreCountedFromWhereARunIs) {
  TrainingOptions t;
  t.seq_length = 7;
  t.global_batch_size = {Schedule{{{0, 4}, {1000, 8}}}, {}};
  t.train_tokens = 2000;
  // 998 tokens by whatever batches: one more step of 28, then of 56 to 2,000 and beyond.
  EXPECT_EQ(t.steps(500, 998), 500 + 1 + 18);
  EXPECT_EQ(t.all_tokens(500, 998), 998 + 28 + 18 * 56);
  EXPECT_EQ(t.steps(9, 2000), 9);
  EXPECT_EQ(t.all_tokens(9, 2005), 2005);
  for (int64_t step = 0, tokens = 0; tokens < 2000; ++step, tokens += t.global_batch_size.at(tokens) * 7) {
    EXPECT_EQ(t.steps(step, tokens), t.steps());
    EXPECT_EQ(t.all_tokens(step, tokens), t.all_tokens());
  }
  t.train_tokens.reset();
  t.train_steps = 10;
  EXPECT_EQ(t.steps(9, 998), 10);
  EXPECT_EQ(t.all_tokens(9, 998), 998 + 28);
  EXPECT_EQ(t.all_tokens(12, 3000), 3000);  // it was shortened
}

}  // namespace
}  // namespace tael
