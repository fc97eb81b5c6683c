// A Hugging Face model directory: config.json and the tensors of model.safetensors, or of several shards that
// model.safetensors.index.json lists. Knows files and tensors, not models: hf_import.hpp and hf_export.hpp do.
//
// Reading holds headers only; numbers are read on demand. The index and the shards must agree: a tensor that one has
// and the other has not is Error(bad_data), and names of shards are names of files in the directory, nothing else.
// Writing makes the directory under another name and renames it, so that it is complete or absent.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "checkpoint/model_files.hpp"

namespace tael {

struct HfTensor {
  const SafetensorsFile* file = nullptr;  // of the directory, as long as that lives
  const SafetensorsFile::Tensor* spec = nullptr;

  const std::string& name() const { return spec->name; }
};

class HfDirectory final : public ModelFiles {
 public:
  static constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
  static constexpr uint64_t kMaxTextBytes = uint64_t{64} << 20;  // tokenizers of large vocabularies take about 10 MB

  static HfDirectory open(const std::string& path);

  const std::string& path() const override { return path_; }
  std::string config_path() const override { return path_ + "/config.json"; }
  const std::string& config_text() const override { return config_text_; }
  std::optional<std::string> text(const std::string& name) const override;
  std::vector<const TensorSpec*> weights() const override;
  const TensorSpec* weight(std::string_view name) const override;
  std::string file_of(const TensorSpec& weight) const override;
  void read(const TensorSpec& weight, uint64_t begin, void* out, size_t bytes) const override;
  void forget(const TensorSpec& weight, uint64_t begin, uint64_t bytes) const override;

  const std::vector<HfTensor>& tensors() const { return tensors_; }  // in natural_less order of their names
  const HfTensor* find(std::string_view name) const;

 private:
  void read_index(const std::string& index_path);

  std::string path_;
  std::string config_text_;
  std::vector<SafetensorsFile> files_;
  std::vector<HfTensor> tensors_;
  std::unordered_map<std::string_view, size_t> index_;
};

struct HfShard {
  std::string file;  // "model.safetensors" or "model-00001-of-00003.safetensors"
  std::vector<TensorSpec> tensors;
};
// Which tensor goes to which file: natural order of names, files of at most 5 GB (10^9), no tensor split. Depends on
// the tensors only.
inline constexpr uint64_t kMaxShardBytes = 5'000'000'000;
std::vector<HfShard> plan_shards(std::vector<TensorSpec> tensors, uint64_t max_shard_bytes = kMaxShardBytes);

struct HfContent {
  std::vector<std::pair<std::string, std::string>> texts;  // file name, content: config.json and its like
  std::vector<TensorSpec> tensors;
  uint64_t max_shard_bytes = kMaxShardBytes;
};

// Refuses what could not be written, before anything is: a path that exists is Error(bad_config), too little space on
// the disk Error(io). Returns the bytes of all files.
uint64_t check_hf_target(const std::string& path, const HfContent& content);
// check_hf_target, then writes. Parents of `path` are created. After a failure nothing is left.
void write_hf_directory(const std::string& path, const HfContent& content, const TensorSource& source);

}  // namespace tael
