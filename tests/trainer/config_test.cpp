#include "trainer/config.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/json.hpp"
#include "model/param_table.hpp"
#include "tests/harness/configuration.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "trainer/commands/config.hpp"
#include "trainer/config_rules.hpp"

namespace tael {
namespace {

namespace fs = std::filesystem;
using testing::kSearch;
using testing::load;
using testing::refusal_of;
using testing::ScratchDirectory;

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
    EXPECT_EQ(refusal_of([&] { load(mutated); }),
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
  const std::string base = dir.write("base.yaml", "optimizer:\n  eps: 1e-8\n  lr: 1e-4");
  const std::string file = dir.write("run.yaml", "defaults: [base]\noptimizer: {lr: 1e-3, clip_grad: 2}");
  const LoadedConfig loaded = load_config(file, {"optimizer.clip_grad=1"}, kSearch);
  EXPECT_EQ(loaded.reading.origin("optimizer.eps").str(), base + ":2:8");
  EXPECT_EQ(loaded.reading.origin("optimizer.lr").str(), file + ":2:17");
  EXPECT_EQ(loaded.reading.origin("optimizer.clip_grad").str(), "command line");
  EXPECT_EQ(loaded.reading.origin("optimizer.weight_decay").str(), "default");
}

TEST(Config, LayersReplaceEachOtherInOrder) {
  const ScratchDirectory dir;
  dir.write("a.yaml", "training: {train_steps: 10, seq_length: 64}\noptimizer: {lr: 1}");
  dir.write("b.yaml", "defaults: [a]\ntraining: {seq_length: 32}");
  const std::string top =
      dir.write("sub/top.yaml", "defaults: [../b.yaml]\nrun: {dir: x}\ntraining: {train_tokens: 1M}");
  const LoadedConfig loaded = load_config(top, {"training.train_steps=7", "optimizer.lr=2", "optimizer.lr=3"}, kSearch);
  EXPECT_EQ(loaded.config.training.seq_length, 32);
  EXPECT_EQ(loaded.config.optimizer.lr, 3);
  EXPECT_EQ(loaded.config.training.train_steps, 7);
  EXPECT_FALSE(loaded.config.training.train_tokens.has_value());
  ASSERT_EQ(loaded.files.size(), 3u);
  EXPECT_TRUE(loaded.files[0].ends_with("sub/top.yaml"));

  const std::string ring = dir.write("ring.yaml", "defaults: [ring2]");
  dir.write("ring2.yaml", "defaults: [ring]");
  EXPECT_EQ(refusal_of([&] { load_config(ring, {}, kSearch); }),
            fmt::format("78: {}/ring.yaml: defaults: leads back to this file", dir.path()));
  const std::string lost = dir.write("lost.yaml", "defaults: [a, nowhere]");
  EXPECT_EQ(refusal_of([&] { load_config(lost, {}, kSearch); }),
            fmt::format("78: {}:1:15: defaults: there is no file \"nowhere\" or nowhere.yaml", lost));
  std::string many = "defaults: [";
  for (int i = 0; i < 70; ++i) many += "a, ";
  const std::string wide = dir.write("wide.yaml", many + "a]");
  EXPECT_EQ(refusal_of([&] { load_config(wide, {}, kSearch); }),
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
  EXPECT_NE(text.find("global_batch_size: {start: 3072, end: 15360, over: 469000000000, increment: 128}"),
            std::string::npos);
  EXPECT_NE(text.find("differs from the preset deepseek_v3: model.max_position_embeddings is 4096, there 163840"),
            std::string::npos);
  EXPECT_NE(text.find("# parameters: 671,026,419,200 (gate biases 14,848)"), std::string::npos) << text;
  // What show prints is a configuration.
  check_config(load(text));
  const LoadedConfig loaded = load_config("experiments/deepseek_v3", {}, kSearch);
  EXPECT_TRUE(refusal_of([&] {
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
