#include "checkpoint/hf_copy.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "base/json.hpp"
#include "checkpoint/hf_export.hpp"
#include "checkpoint/hf_import.hpp"

namespace tael {

namespace {

// What the copy of a tensor is stored as.
DType target_of(const TensorSpec& tensor, std::optional<DType> dtype) {
  if (!dtype || tensor.name.ends_with("rotary_emb.inv_freq")) return tensor.dtype;
  if (tensor.name.ends_with("e_score_correction_bias") && size_of(*dtype) < size_of(tensor.dtype)) return tensor.dtype;
  return *dtype;
}

// The text of config.json with the new format in it, everything else as it was.
std::string with_dtype(const ModelFiles& files, DType dtype) {
  const auto document = JsonDocument::parse(files.config_text(), files.config_path());
  const char* name = dtype == DType::f32 ? "float32" : "bfloat16";
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object();
  bool written = false;
  for (const JsonMember& member : document.root().members()) {
    const bool is_dtype = member.key == "torch_dtype" || member.key == "dtype";
    if (is_dtype) {
      json.field(member.key, name);
    } else {
      json.field(member.key, member.value);
    }
    written = written || is_dtype;
  }
  if (!written) json.field("torch_dtype", name);
  return json.end_object().text() + "\n";
}

// Tensors of MTP layers that repeat another one, where the files leave them out: name to the original.
std::unordered_map<std::string, const TensorSpec*> left_out(const ModelFiles& files, const ParamTable& table) {
  std::unordered_map<std::string, const TensorSpec*> copies;
  if (!files.of_training()) return copies;
  for (const HfCopy& copy : hf_copies(table))
    if (copy.name != "lm_head.weight" && files.weight(copy.name) == nullptr)
      copies.emplace(copy.name, files.weight(copy.original));
  return copies;
}

}  // namespace

HfContent plan_model_copy(const ModelFiles& files, const ParamTable& table, std::optional<DType> dtype) {
  CHECK(!dtype || *dtype == DType::f32 || *dtype == DType::bf16);
  HfContent content;
  content.texts.emplace_back("config.json", dtype ? with_dtype(files, *dtype) : files.config_text());
  for (const std::string name : kCompanions) {
    if (std::optional<std::string> text = files.text(name)) {
      content.texts.emplace_back(name, *std::move(text));
    } else if (files.of_training() && name == "generation_config.json") {
      content.texts.emplace_back(name, hf_generation_config_text(table.shape));
    }
  }
  for (const TensorSpec* tensor : files.weights())
    content.tensors.push_back({tensor->name, target_of(*tensor, dtype), tensor->shape});
  for (const auto& [name, original] : left_out(files, table))
    content.tensors.push_back({name, target_of(*original, dtype), original->shape});
  return content;
}

void copy_model(const ModelFiles& files, const ParamTable& table, const std::string& path, std::optional<DType> dtype) {
  const std::unordered_map<std::string, const TensorSpec*> copies = left_out(files, table);
  std::vector<float> wide;  // one piece of a tensor that is narrowed
  write_hf_directory(
      path, plan_model_copy(files, table, dtype), [&](const TensorSpec& to, uint64_t begin, void* out, size_t bytes) {
        const auto copy = copies.find(to.name);
        const TensorSpec& from = copy == copies.end() ? *files.weight(to.name) : *copy->second;
        const size_t from_width = size_of(from.dtype), to_width = size_of(to.dtype);
        const auto first = static_cast<int64_t>(begin / to_width), count = static_cast<int64_t>(bytes / to_width);
        if (from.dtype == to.dtype) {
          files.read(from, begin, out, bytes);
        } else if (to.dtype == DType::f32) {
          read_floats(files, from, first, count, static_cast<float*>(out));
        } else {
          wide.resize(std::max(wide.size(), static_cast<size_t>(count)));
          read_floats(files, from, first, count, wide.data());
          std::transform(wide.begin(), wide.begin() + count, static_cast<bf16*>(out),
                         [](float x) { return to_bf16(x); });
        }
        files.forget(from, static_cast<uint64_t>(first) * from_width, static_cast<uint64_t>(count) * from_width);
      });
}

}  // namespace tael
