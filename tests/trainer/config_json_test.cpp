// A model's config.json pasted into a configuration: the key sets and spellings of released models, of transformers 4
// and 5 and of torchtitan.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/harness/configuration.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "trainer/config.hpp"
#include "trainer/config_rules.hpp"

namespace tael {
namespace {

namespace fs = std::filesystem;
using testing::kSearch;
using testing::load;
using testing::refusal_of;
using testing::ScratchDirectory;

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

TEST(ConfigJson, AReleasedConfigJsonIsPastedUnchanged) {
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

// All that transformers 4.51 knows of a model, its own defaults included; sampling's top_k is 50.
TEST(ConfigJson, AFullDumpIsPastedUnchanged) {
  std::ifstream in(TAEL_SOURCE_DIR "/tests/golden/config_json/transformers_4.51.3_full.json");
  const std::string json((std::istreambuf_iterator<char>(in)), {});
  const LoadedConfig loaded = load("model: " + json);
  EXPECT_EQ(loaded.config.model.shape.num_experts_per_tok, 3);
  Reading reading;
  const ModelFields alone = read_model_json(json, "config.json", reading);
  ModelFields within = loaded.config.model;
  EXPECT_TRUE(differences(write_fields(alone), write_fields(within)).empty());
  EXPECT_EQ(reading.ignored.size(), 57u);
  EXPECT_EQ(loaded.reading.ignored.size(), 57u);
  for (const char* key : {"_attn_implementation_autoset", "temperature", "top_k", "is_decoder"}) {
    EXPECT_EQ(std::ranges::count(reading.ignored, key), 1) << key;
    EXPECT_EQ(std::ranges::count(loaded.reading.ignored, std::string("model.") + key), 1) << key;
  }
  // Alone it is torchtitan's name.
  EXPECT_EQ(load("model: {preset: deepseek_v3_tiny, top_k: 2}").config.model.shape.num_experts_per_tok, 2);
}

// transformers 5 and torchtitan say num_mtp_layers.
TEST(ConfigJson, TheOtherNameOfTheMtpDepthIsAnAlias) {
  const ScratchDirectory dir;
  const std::string file = dir.write("run.yaml", "model: {preset: deepseek_v3_tiny, num_mtp_layers: 2}");
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
  EXPECT_EQ(refusal_of([&] { depth(R"("num_mtp_layers": 2,)"); }),
            "78: config.json:1:20: num_mtp_layers: 2 differs from num_nextn_predict_layers 1");
  std::string renamed(kReleasedJson);
  renamed.replace(renamed.find("num_nextn_predict_layers"), 24, "num_mtp_layers");
  Reading reading;
  EXPECT_EQ(read_model_json(renamed, "config.json", reading).shape.num_nextn_predict_layers, 1);
}

TEST(ConfigJson, EveryGoldenConfigJsonIsPastedUnchanged) {
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

TEST(ConfigJson, Transformers5SpellingOfTheRotation) {
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
  EXPECT_EQ(refusal_of([&] { read_model_json(json, "config.json", first); }),
            "78: config.json:37:3: rope_parametes: unknown key; the nearest known one is rope_parameters");
  replace("\"rope_parametes\": {", "\"rope_scaling\": null, \"id2label\": {");
  Reading reading;
  const ModelFields fields = read_model_json(json, "config.json", reading);
  EXPECT_FALSE(fields.shape.rope_scaling.has_value());
  EXPECT_EQ(fields.shape.rope_theta, 50000);
}

// rope_scaling and rope_parameters are two places for one thing: null says nothing, and they may not differ.
TEST(ConfigJson, TwoPlacesForTheRotationAgree) {
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
    EXPECT_EQ(refusal_of([&] { with("\"rope_parameters\": " + other + ","); }), differs);
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
TEST(ConfigJson, TheRotationOfALaterLayerWins) {
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
  EXPECT_EQ(refusal_of([&] { load(model + "rope_theta: 1000, rope_parameters: " + yarn + "}"); }),
            "78: t.yaml:1:215: model.rope_theta: 1000 differs from the 20000 beside the scaling");
  EXPECT_EQ(refusal_of([&] {
              load(model +
                   "rope_scaling: {type: yarn, rope_type: default, factor: 40, "
                   "original_max_position_embeddings: 4096}}");
            }),
            "78: t.yaml:1:241: model.rope_scaling: expected what type beside it says (one code reads the one, one the "
            "other), got default");
  EXPECT_EQ(refusal_of([&] { load(model + "rope_scaling: {rope_type: default}, rope_parameters: " + yarn + "}"); }),
            "78: t.yaml:1:256: model.rope_parameters: expected nothing beside a rope_scaling; give one of the two, got "
            "a map");
}

TEST(ConfigJson, VersionThreeHasItsClassesDefaults) {
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
  // As transformers writes it out; another number is somebody's mistake.
  const std::string written = "model: {preset: deepseek_v3_tiny, num_hidden_layers: 2, num_nextn_predict_layers: 1, ";
  const ModelFields pasted = load(written + "first_k_dense_replace: 3}").config.model;
  EXPECT_EQ(pasted.shape.first_k_dense_replace, 2);
  EXPECT_EQ(pasted.shape.num_nextn_predict_layers, 0);
  EXPECT_TRUE(pasted.mtp_left_out);
  EXPECT_FALSE(loaded.config.model.mtp_left_out);
  // Where there are weights, they say whether there are MTP modules.
  const std::string alone =
      "{vocab_size: 259, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 3, num_attention_heads: 2, "
      "q_lora_rank: null, kv_lora_rank: 4, qk_nope_head_dim: 4, qk_rope_head_dim: 2, v_head_dim: 4, "
      "first_k_dense_replace: 3, num_nextn_predict_layers: 1}";
  for (const bool with_mtp : {true, false}) {
    Reading reading;
    EXPECT_EQ(read_model_json(alone, "config.json", reading, with_mtp).shape.num_nextn_predict_layers, with_mtp);
  }
  EXPECT_EQ(refusal_of([&] { load(written + "first_k_dense_replace: 4}"); }),
            "78: t.yaml:1:109: model.first_k_dense_replace: 4 dense layers of num_hidden_layers 2");
}

TEST(ConfigJson, VersionTwoHasItsOwnDefaults) {
  const LoadedConfig loaded = load(
      "model: {model_type: deepseek_v2, vocab_size: 259, hidden_size: 8, intermediate_size: 8, moe_intermediate_size: "
      "8, "
      "num_hidden_layers: 2, num_attention_heads: 2, q_lora_rank: null, kv_lora_rank: 4, qk_nope_head_dim: 4, "
      "qk_rope_head_dim: 2, v_head_dim: 4, n_routed_experts: 4, num_experts_per_tok: 2, n_group: null}");
  EXPECT_EQ(loaded.config.model.shape.scoring_func, ScoringFunc::softmax);
  EXPECT_EQ(loaded.config.model.shape.topk_method, TopkMethod::greedy);
  EXPECT_FALSE(loaded.config.model.shape.norm_topk_prob);
}

}  // namespace
}  // namespace tael
