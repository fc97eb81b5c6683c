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
  explicit Checker(const HfDirectory& directory) : directory_(directory) {}

  void formats() const {
    for (const HfTensor& tensor : directory_.tensors()) {
      const DType type = tensor.spec->dtype;
      if (type == DType::f8_e4m3 || type == DType::f8_e5m2)
        fail(Exit::bad_config, "{}: tensor {}: FP8 checkpoints are not built yet", tensor.file->path(),
             quoted_name(tensor.name()));
    }
  }

  void needs(const std::string& name, const std::vector<int64_t>& shape) {
    known_.insert(name);
    const HfTensor* tensor = directory_.find(name);
    if (tensor == nullptr) {
      if (missing_++ == 0) first_missing_ = fmt::format("{} {}", quoted_name(name), shape_text(shape));
      return;
    }
    check(*tensor, shape);
  }

  void allows(const HfCopy& copy, const std::vector<int64_t>& shape) {
    known_.insert(copy.name);
    if (const HfTensor* tensor = directory_.find(copy.name)) check(*tensor, shape);
  }

  // `mtp_prefix`: what names of the first MTP module begin with.
  void finish(const std::string& mtp_prefix) const {
    if (missing_ > 0)
      fail(Exit::bad_data, "{}: tensor {} is missing{}{}", directory_.path(), first_missing_,
           missing_ > 1 ? fmt::format(" (and {} more)", missing_ - 1) : "",
           first_missing_.starts_with("\"" + mtp_prefix) ? "; without its MTP modules it serves a model of "
                                                           "num_nextn_predict_layers 0"
                                                         : "");
    int64_t extra = 0;
    std::string names;
    for (const HfTensor& tensor : directory_.tensors()) {
      if (known_.contains(tensor.name()) || is_rotary_buffer(tensor.name())) continue;
      if (tensor.spec->elements() == 0) continue;  // transformers stores shared experts of width 0
      if (extra++ < kNamesListed) names += (names.empty() ? "" : ", ") + quoted_name(tensor.name());
    }
    if (extra > 0)
      fail(Exit::bad_data, "{}: {} that the model of its config.json does not have: {}{}", directory_.path(),
           extra == 1 ? "a tensor" : fmt::format("{} tensors", extra), names, extra > kNamesListed ? ", ..." : "");
  }

 private:
  static void check(const HfTensor& tensor, const std::vector<int64_t>& shape) {
    if (tensor.spec->shape != shape)
      fail(Exit::bad_data, "{}: tensor {}: shape {}, the model needs {}", tensor.file->path(),
           quoted_name(tensor.name()), shape_text(tensor.spec->shape), shape_text(shape));
    const DType type = tensor.spec->dtype;
    if (type != DType::f32 && type != DType::bf16 && type != DType::f16)
      fail(Exit::bad_data, "{}: tensor {}: {} numbers are no weights", tensor.file->path(), quoted_name(tensor.name()),
           safetensors_name(type));
  }

  const HfDirectory& directory_;
  std::unordered_set<std::string_view> known_;  // of names that outlive the checker
  int64_t missing_ = 0;
  std::string first_missing_;
};

void check_copy(const HfTensor& copy, const HfTensor& original) {
  const int64_t total = original.spec->elements();
  const auto a = std::make_unique<float[]>(kComparedAtOnce), b = std::make_unique<float[]>(kComparedAtOnce);
  for (int64_t done = 0; done < total; done += kComparedAtOnce) {
    const int64_t n = std::min(kComparedAtOnce, total - done);
    read_floats(copy, done, n, a.get());
    read_floats(original, done, n, b.get());
    if (std::memcmp(a.get(), b.get(), static_cast<size_t>(n) * sizeof(float)) != 0)
      fail(Exit::bad_data, "{}: tensor {}: differs from {}, which it must repeat", copy.file->path(),
           quoted_name(copy.name()), quoted_name(original.name()));
  }
}

}  // namespace

ModelShape read_hf_shape(const HfDirectory& directory) {
  // First as JSON: the reader of configurations takes YAML, of which JSON is a part.
  JsonDocument::parse(directory.config_text(), directory.config_path()).root().members();
  // transformers keeps the number of MTP modules in config.json and drops their tensors. Modules at another place than
  // config.json says are damage.
  const int64_t layers = [&] {
    Reading ignored;
    return read_model_json(directory.config_text(), directory.config_path(), ignored, false).shape.num_hidden_layers;
  }();
  const std::string first_mtp = fmt::format("model.layers.{}.", layers);
  const bool has_mtp = std::ranges::any_of(directory.tensors(), [&](const HfTensor& tensor) {
    return tensor.name().starts_with(first_mtp) || tensor.name().ends_with(".eh_proj.weight");
  });
  Reading reading;
  const ModelFields fields = read_model_json(directory.config_text(), directory.config_path(), reading, has_mtp);
  if (fields.fp8_weights) fail(Exit::bad_config, "{}: FP8 checkpoints are not built yet", directory.config_path());
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

void check_hf_tensors(const HfDirectory& directory, const ParamTable& table) {
  const std::vector<HfCopy> copies = hf_copies(table);
  const std::vector<int64_t> table_shape = {table.shape.vocab_size, table.shape.hidden_size};
  Checker checker(directory);
  checker.formats();
  for (const ParamSpec& param : table.params) checker.needs(param.name, shape_of(param));
  for (const GateBiasSpec& bias : table.gate_biases) checker.needs(bias.name, {bias.experts});
  for (const HfCopy& copy : copies) checker.allows(copy, table_shape);
  checker.finish(fmt::format("model.layers.{}.", table.shape.num_hidden_layers));
  for (const HfCopy& copy : copies)
    if (const HfTensor* tensor = directory.find(copy.name)) check_copy(*tensor, *directory.find(copy.original));
}

void import_parameters(const HfDirectory& directory, const ParamTable& table, Vec<float> params,
                       Vec<float> gate_biases) {
  CHECK(params.size() == table.size() && gate_biases.size() == table.bias_size());
  check_hf_tensors(directory, table);
  for (const ParamSpec& param : table.params)
    read_floats(*directory.find(param.name), 0, param.size(), params.data + param.offset);
  for (const GateBiasSpec& bias : table.gate_biases)
    read_floats(*directory.find(bias.name), 0, bias.experts, gate_biases.data + bias.offset);
}

}  // namespace tael
