#include "checkpoint/hf_export.hpp"

#include <cstring>
#include <unordered_map>

#include "base/json.hpp"
#include "checkpoint/hf_import.hpp"

namespace tael {

namespace {

// Written because readers expect one; a version that knows both model types.
constexpr const char* kTransformersVersion = "4.53.0";

std::string_view name_of(TopkMethod method) {
  switch (method) {
    case TopkMethod::noaux_tc: return "noaux_tc";
    case TopkMethod::group_limited_greedy: return "group_limited_greedy";
    case TopkMethod::greedy: return "greedy";
  }
  CHECK(false, "a gate without a name");
}

void rope_scaling(JsonWriter& json, const std::optional<RopeScaling>& scaling) {
  json.key("rope_scaling");
  if (!scaling) {
    json.null();
    return;
  }
  json.begin_object().field("type", "yarn").field("factor", scaling->factor);
  json.field("original_max_position_embeddings", scaling->original_max_position_embeddings);
  json.field("beta_fast", scaling->beta_fast).field("beta_slow", scaling->beta_slow);
  json.field("mscale", scaling->mscale).field("mscale_all_dim", scaling->mscale_all_dim).end_object();
}

// transformers looks at first_k_dense_replace alone to tell which layers are dense.
int64_t first_dense_layers(const ModelShape& s) {
  for (int64_t layer = 0; layer < s.num_hidden_layers; ++layer)
    if (s.is_moe_layer(layer)) return s.first_k_dense_replace;
  return s.num_hidden_layers;
}

}  // namespace

std::string hf_config_text(const ModelShape& s, std::string_view dtype) {
  const bool v3 = s.model_type == ModelType::deepseek_v3;
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object();
  json.key("architectures").begin_array().value(v3 ? "DeepseekV3ForCausalLM" : "DeepseekV2ForCausalLM").end_array();
  json.field("model_type", v3 ? "deepseek_v3" : "deepseek_v2");
  json.field("vocab_size", s.vocab_size).field("hidden_size", s.hidden_size);
  json.field("intermediate_size", s.intermediate_size).field("moe_intermediate_size", s.moe_intermediate_size);
  json.field("num_hidden_layers", s.num_hidden_layers);
  json.field("num_nextn_predict_layers", s.num_nextn_predict_layers);
  json.field("num_attention_heads", s.num_attention_heads).field("num_key_value_heads", s.num_attention_heads);
  json.key("q_lora_rank");
  if (s.q_lora_rank) {
    json.value(*s.q_lora_rank);
  } else {
    json.null();
  }
  json.field("kv_lora_rank", s.kv_lora_rank).field("qk_nope_head_dim", s.qk_nope_head_dim);
  json.field("qk_rope_head_dim", s.qk_rope_head_dim).field("v_head_dim", s.v_head_dim);
  json.field("n_routed_experts", s.n_routed_experts).field("n_shared_experts", s.n_shared_experts);
  json.field("num_experts_per_tok", s.num_experts_per_tok);
  json.field("n_group", s.n_group).field("topk_group", s.topk_group);
  json.field("norm_topk_prob", s.norm_topk_prob).field("routed_scaling_factor", s.routed_scaling_factor);
  // Without these two vLLM routes by softmax and makes no bias.
  json.field("scoring_func", s.scoring_func == ScoringFunc::sigmoid ? "sigmoid" : "softmax");
  json.field("topk_method", name_of(s.topk_method));
  json.field("first_k_dense_replace", first_dense_layers(s)).field("moe_layer_freq", s.moe_layer_freq);
  json.field("hidden_act", "silu").field("rms_norm_eps", s.rms_norm_eps);
  json.field("rope_theta", s.rope_theta).field("rope_interleave", true);
  rope_scaling(json, s.rope_scaling);
  json.field("max_position_embeddings", s.max_position_embeddings);
  json.field("attention_bias", false).field("attention_dropout", 0.0);
  json.field("initializer_range", s.initializer_range).field("tie_word_embeddings", s.tie_word_embeddings);
  json.field("bos_token_id", s.bos_token_id).field("eos_token_id", s.eos_token_id);
  json.field("ep_size", 1).field("pretraining_tp", 1).field("torch_dtype", dtype).field("use_cache", true);
  json.field("transformers_version", kTransformersVersion).end_object();
  return json.text() + "\n";
}

std::string hf_generation_config_text(const ModelShape& shape) {
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object().field("_from_model_config", true);
  json.field("bos_token_id", shape.bos_token_id).field("eos_token_id", shape.eos_token_id);
  json.field("transformers_version", kTransformersVersion).end_object();
  return json.text() + "\n";
}

std::vector<TensorSpec> hf_tensors(const ParamTable& table, DType dtype) {
  std::vector<TensorSpec> tensors;
  for (const ParamSpec& param : table.params)
    tensors.push_back(
        {param.name, dtype, param.dims == 1 ? std::vector{param.cols} : std::vector{param.rows, param.cols}});
  // transformers marks the bias "keep in float32"; it decides by differences that bfloat16 cannot hold.
  for (const GateBiasSpec& bias : table.gate_biases) tensors.push_back({bias.name, DType::f32, {bias.experts}});
  for (const HfCopy& copy : hf_copies(table)) {
    if (copy.name == "lm_head.weight") continue;  // of a tied model: config.json says it
    tensors.push_back({copy.name, dtype, {table.shape.vocab_size, table.shape.hidden_size}});
  }
  return tensors;
}

void export_parameters(const std::string& path, const ParamTable& table, Vec<const float> params,
                       Vec<const float> gate_biases, std::vector<std::pair<std::string, std::string>> more) {
  CHECK(params.size() == table.size() && gate_biases.size() == table.bias_size());
  std::unordered_map<std::string, const float*> numbers;
  for (const ParamSpec& param : table.params) numbers.emplace(param.name, params.data + param.offset);
  for (const GateBiasSpec& bias : table.gate_biases) numbers.emplace(bias.name, gate_biases.data + bias.offset);
  for (const HfCopy& copy : hf_copies(table)) numbers.emplace(copy.name, numbers.at(copy.original));

  HfContent content;
  content.texts.emplace_back("config.json", hf_config_text(table.shape));
  content.texts.emplace_back("generation_config.json", hf_generation_config_text(table.shape));
  for (auto& file : more) content.texts.push_back(std::move(file));
  content.tensors = hf_tensors(table);
  write_hf_directory(path, content, [&](const TensorSpec& tensor, uint64_t begin, void* out, size_t bytes) {
    std::memcpy(out, numbers.at(tensor.name) + begin / sizeof(float), bytes);
  });
}

}  // namespace tael
