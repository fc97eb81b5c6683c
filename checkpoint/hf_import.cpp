#include "checkpoint/hf_import.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <unordered_set>

#include "base/json.hpp"
#include "model/shape_fields.hpp"

namespace tael {

namespace {

constexpr int64_t kNamesListed = 3;
constexpr int64_t kComparedAtOnce = 1 << 18;  // numbers

bool is_rotary_buffer(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

std::vector<int64_t> shape_of(const ParamSpec& param) {
  return param.dims == 1 ? std::vector{param.cols} : std::vector{param.rows, param.cols};
}

class Checker {
 public:
  explicit Checker(const ModelFiles& files) : files_(files) {}

  void formats() const {
    for (const TensorSpec* tensor : files_.weights()) {
      if (tensor->dtype == DType::f8_e4m3 || tensor->dtype == DType::f8_e5m2)
        fail(Exit::bad_config, "{}: tensor {}: FP8 checkpoints are not built yet", files_.file_of(*tensor),
             quoted_name(tensor->name));
    }
  }

  void needs(const std::string& name, const std::vector<int64_t>& shape) {
    known_.insert(name);
    const TensorSpec* tensor = files_.weight(name);
    if (tensor == nullptr) {
      if (missing_++ == 0) first_missing_ = fmt::format("{} {}", quoted_name(name), shape_text(shape));
      return;
    }
    check(*tensor, shape);
  }

  void allows(const HfCopy& copy, const std::vector<int64_t>& shape) {
    known_.insert(copy.name);
    if (const TensorSpec* tensor = files_.weight(copy.name)) check(*tensor, shape);
  }

  // `mtp_prefix`: what names of the first MTP module begin with.
  void finish(const std::string& mtp_prefix) const {
    if (missing_ > 0)
      fail(Exit::bad_data, "{}: tensor {} is missing{}{}", files_.path(), first_missing_,
           missing_ > 1 ? fmt::format(" (and {} more)", missing_ - 1) : "",
           first_missing_.starts_with("\"" + mtp_prefix) ? "; without its MTP modules it serves a model of "
                                                           "num_nextn_predict_layers 0"
                                                         : "");
    int64_t extra = 0;
    std::string names;
    for (const TensorSpec* tensor : files_.weights()) {
      if (known_.contains(tensor->name) || is_rotary_buffer(tensor->name)) continue;
      if (tensor->elements() == 0) continue;  // transformers stores shared experts of width 0
      if (extra++ < kNamesListed) names += (names.empty() ? "" : ", ") + quoted_name(tensor->name);
    }
    if (extra > 0)
      fail(Exit::bad_data, "{}: {} that the model of its config.json does not have: {}{}", files_.path(),
           extra == 1 ? "a tensor" : fmt::format("{} tensors", extra), names, extra > kNamesListed ? ", ..." : "");
  }

 private:
  void check(const TensorSpec& tensor, const std::vector<int64_t>& shape) const {
    if (tensor.shape != shape)
      fail(Exit::bad_data, "{}: tensor {}: shape {}, the model needs {}", files_.file_of(tensor),
           quoted_name(tensor.name), shape_text(tensor.shape), shape_text(shape));
    const DType type = tensor.dtype;
    if (type != DType::f32 && type != DType::bf16 && type != DType::f16)
      fail(Exit::bad_data, "{}: tensor {}: {} numbers are no weights", files_.file_of(tensor), quoted_name(tensor.name),
           safetensors_name(type));
  }

  const ModelFiles& files_;
  std::unordered_set<std::string_view> known_;  // of names that outlive the checker
  int64_t missing_ = 0;
  std::string first_missing_;
};

void check_copy(const ModelFiles& files, const TensorSpec& copy, const TensorSpec& original) {
  const int64_t total = original.elements();
  const auto a = std::make_unique<float[]>(kComparedAtOnce), b = std::make_unique<float[]>(kComparedAtOnce);
  for (int64_t done = 0; done < total; done += kComparedAtOnce) {
    const int64_t n = std::min(kComparedAtOnce, total - done);
    read_floats(files, copy, done, n, a.get());
    read_floats(files, original, done, n, b.get());
    if (std::memcmp(a.get(), b.get(), static_cast<size_t>(n) * sizeof(float)) != 0)
      fail(Exit::bad_data, "{}: tensor {}: differs from {}, which it must repeat", files.file_of(copy),
           quoted_name(copy.name), quoted_name(original.name));
  }
}

bool same_tensors(const ParamTable& a, const ParamTable& b) {
  return std::ranges::equal(a.params, b.params,
                            [](const ParamSpec& one, const ParamSpec& other) {
                              return one.name == other.name && shape_of(one) == shape_of(other);
                            }) &&
         std::ranges::equal(a.gate_biases, b.gate_biases, [](const GateBiasSpec& one, const GateBiasSpec& other) {
           return one.name == other.name && one.experts == other.experts;
         });
}

std::string_view name_of(TopkMethod method) { return method == TopkMethod::noaux_tc ? "noaux_tc" : "without bias"; }

// The keys of config.json that give models other tensors: "vocab_size 272 (needed: 300), ...".
std::string differing_keys(const ModelShape& has, const ModelShape& needs) {
  std::string text;
  const auto say = [&](std::string_view key, const auto& there, const auto& needed) {
    if (there == needed) return;
    text += fmt::format("{}{} {} (needed: {})", text.empty() ? "" : ", ", key, there, needed);
  };
  const auto whole = [&](std::string_view key, int64_t ModelShape::*member) { say(key, has.*member, needs.*member); };
  const auto or_null = [](const std::optional<int64_t>& value) { return value ? std::to_string(*value) : "null"; };
  whole("vocab_size", &ModelShape::vocab_size);
  whole("hidden_size", &ModelShape::hidden_size);
  whole("num_hidden_layers", &ModelShape::num_hidden_layers);
  whole("num_nextn_predict_layers", &ModelShape::num_nextn_predict_layers);
  say("tie_word_embeddings", has.tie_word_embeddings, needs.tie_word_embeddings);
  whole("num_attention_heads", &ModelShape::num_attention_heads);
  say("q_lora_rank", or_null(has.q_lora_rank), or_null(needs.q_lora_rank));
  whole("kv_lora_rank", &ModelShape::kv_lora_rank);
  whole("qk_nope_head_dim", &ModelShape::qk_nope_head_dim);
  whole("qk_rope_head_dim", &ModelShape::qk_rope_head_dim);
  whole("v_head_dim", &ModelShape::v_head_dim);
  whole("intermediate_size", &ModelShape::intermediate_size);
  whole("moe_intermediate_size", &ModelShape::moe_intermediate_size);
  whole("n_routed_experts", &ModelShape::n_routed_experts);
  whole("n_shared_experts", &ModelShape::n_shared_experts);
  whole("first_k_dense_replace", &ModelShape::first_k_dense_replace);
  whole("moe_layer_freq", &ModelShape::moe_layer_freq);
  if (has.has_gate_bias() != needs.has_gate_bias())
    say("topk_method", name_of(has.topk_method), name_of(needs.topk_method));
  return text;
}

// Files may be whole and of another model: then not they are wrong, but the wish to have them here.
void require_model(const ModelFiles& files, const ParamTable& table) {
  const ParamTable found = make_param_table(read_hf_shape(files));
  if (same_tensors(found, table)) return;
  const bool lacks_mtp = found.shape.num_nextn_predict_layers == 0 && table.shape.num_nextn_predict_layers > 0;
  fail(Exit::bad_config, "{}: holds another model: {}{}", files.path(), differing_keys(found.shape, table.shape),
       lacks_mtp ? "; it has no tensor of an MTP module" : "");
}

}  // namespace

ModelShape read_hf_shape(const ModelFiles& files) {
  // First as JSON: the reader of configurations takes YAML, of which JSON is a part.
  JsonDocument::parse(files.config_text(), files.config_path()).root().members();
  // transformers keeps the number of MTP modules in config.json and drops their tensors. Modules at another place than
  // config.json says are damage.
  const int64_t layers = [&] {
    Reading ignored;
    return read_model_json(files.config_text(), files.config_path(), ignored, false).shape.num_hidden_layers;
  }();
  const std::string first_mtp = fmt::format("model.layers.{}.", layers);
  const bool has_mtp = std::ranges::any_of(files.weights(), [&](const TensorSpec* tensor) {
    return tensor->name.starts_with(first_mtp) || tensor->name.ends_with(".eh_proj.weight");
  });
  Reading reading;
  const ModelFields fields = read_model_json(files.config_text(), files.config_path(), reading, has_mtp);
  if (fields.fp8_weights) fail(Exit::bad_config, "{}: FP8 checkpoints are not built yet", files.config_path());
  return fields.shape;
}

std::vector<HfCopy> hf_copies(const ParamTable& table) {
  const std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";
  const std::string head_original = table.shape.tie_word_embeddings ? embedding : head;
  std::vector<HfCopy> copies;
  if (table.shape.tie_word_embeddings) copies.push_back({head, embedding});
  for (int64_t k = 0; k < table.shape.num_nextn_predict_layers; ++k) {
    const std::string prefix = fmt::format("model.layers.{}.", table.shape.num_hidden_layers + k);
    copies.push_back({prefix + "embed_tokens.weight", embedding});
    copies.push_back({prefix + "shared_head.head.weight", head_original});
  }
  return copies;
}

void check_hf_tensors(const ModelFiles& files, const ParamTable& table) {
  const std::vector<HfCopy> copies = hf_copies(table);
  const std::vector<int64_t> table_shape = {table.shape.vocab_size, table.shape.hidden_size};
  Checker checker(files);
  checker.formats();
  require_model(files, table);
  for (const ParamSpec& param : table.params) checker.needs(param.name, shape_of(param));
  for (const GateBiasSpec& bias : table.gate_biases) checker.needs(bias.name, {bias.experts});
  for (const HfCopy& copy : copies) checker.allows(copy, table_shape);
  checker.finish(fmt::format("model.layers.{}.", table.shape.num_hidden_layers));
  for (const HfCopy& copy : copies)
    if (const TensorSpec* tensor = files.weight(copy.name)) check_copy(files, *tensor, *files.weight(copy.original));
}

void import_parameters(const ModelFiles& files, const ParamTable& table, Vec<float> params, Vec<float> gate_biases) {
  CHECK(params.size() == table.size() && gate_biases.size() == table.bias_size());
  check_hf_tensors(files, table);
  for (const ParamSpec& param : table.params)
    read_floats(files, *files.weight(param.name), 0, param.size(), params.data + param.offset);
  for (const GateBiasSpec& bias : table.gate_biases)
    read_floats(files, *files.weight(bias.name), 0, bias.experts, gate_biases.data + bias.offset);
}

}  // namespace tael
