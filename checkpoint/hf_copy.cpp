#include "checkpoint/hf_copy.hpp"

#include <algorithm>
#include <vector>

#include "base/json.hpp"

namespace tael {

namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{64} << 20;  // tokenizers of large vocabularies take about 10 MB
constexpr const char* kCompanions[] = {"generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                       "special_tokens_map.json"};

// What the copy of a tensor is stored as.
DType target_of(const SafetensorsFile::Tensor& tensor, std::optional<DType> dtype) {
  if (!dtype || tensor.name.ends_with("rotary_emb.inv_freq")) return tensor.dtype;
  if (tensor.name.ends_with("e_score_correction_bias") && size_of(*dtype) < size_of(tensor.dtype)) return tensor.dtype;
  return *dtype;
}

// The text of config.json with the new format in it, everything else as it was.
std::string with_dtype(const HfDirectory& directory, DType dtype) {
  const auto document = JsonDocument::parse(directory.config_text(), directory.config_path());
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

}  // namespace

HfContent plan_hf_copy(const HfDirectory& directory, std::optional<DType> dtype) {
  CHECK(!dtype || *dtype == DType::f32 || *dtype == DType::bf16);
  HfContent content;
  content.texts.emplace_back("config.json", dtype ? with_dtype(directory, *dtype) : directory.config_text());
  for (const char* name : kCompanions) {
    const std::string path = directory.path() + "/" + name;
    if (path_exists(path)) content.texts.emplace_back(name, read_file(path, kMaxTextBytes, Exit::bad_data));
  }
  for (const HfTensor& tensor : directory.tensors())
    content.tensors.push_back({tensor.name(), target_of(*tensor.spec, dtype), tensor.spec->shape});
  return content;
}

void copy_hf_directory(const HfDirectory& directory, const std::string& path, std::optional<DType> dtype) {
  std::vector<float> wide;  // one piece of a tensor that is narrowed
  write_hf_directory(
      path, plan_hf_copy(directory, dtype), [&](const TensorSpec& to, uint64_t begin, void* out, size_t bytes) {
        const HfTensor& from = *directory.find(to.name);
        const size_t from_width = size_of(from.spec->dtype), to_width = size_of(to.dtype);
        const uint64_t first = begin / to_width, count = bytes / to_width;
        if (from.spec->dtype == to.dtype) {
          from.file->read(*from.spec, begin, out, bytes);
        } else if (to.dtype == DType::f32) {
          read_floats(from, static_cast<int64_t>(first), static_cast<int64_t>(count), static_cast<float*>(out));
        } else {
          wide.resize(std::max<size_t>(wide.size(), count));
          read_floats(from, static_cast<int64_t>(first), static_cast<int64_t>(count), wide.data());
          std::transform(wide.begin(), wide.begin() + static_cast<int64_t>(count), static_cast<bf16*>(out),
                         [](float x) { return to_bf16(x); });
        }
        from.file->forget(*from.spec, first * from_width, count * from_width);
      });
}

}  // namespace tael
