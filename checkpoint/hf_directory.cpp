#include "checkpoint/hf_directory.hpp"

#include <algorithm>
#include <filesystem>

#include "base/json.hpp"
#include "base/number_text.hpp"

namespace tael {

namespace {

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr uint64_t kMaxIndexBytes = uint64_t{64} << 20;

void check_shard_name(const Json& place, const std::string& name) {
  constexpr std::string_view kEnd = ".safetensors";
  const bool plain = name.find('/') == std::string::npos && name.find('\\') == std::string::npos &&
                     name.find('\0') == std::string::npos && !name.starts_with('.');
  if (!plain || name.size() <= kEnd.size() || !name.ends_with(kEnd))
    place.fail_here("{} is not the name of a shard in this directory", quoted_name(name));
}

std::string index_text(const std::vector<HfShard>& shards) {
  uint64_t bytes = 0;
  std::vector<std::pair<std::string, const std::string*>> map;
  for (const HfShard& shard : shards)
    for (const TensorSpec& tensor : shard.tensors) {
      bytes += tensor.bytes();
      map.emplace_back(tensor.name, &shard.file);
    }
  std::sort(map.begin(), map.end());
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object().key("metadata").begin_object().field("total_size", bytes).end_object();
  json.key("weight_map").begin_object();
  for (const auto& [name, file] : map) json.field(name, *file);
  json.end_object().end_object();
  return json.text() + "\n";
}

void write_new_file(const std::string& path, const std::string& content) {
  File file = File::create(path);
  file.write_at(0, content.data(), content.size());
  file.sync();
  file.close();
}

}  // namespace

HfDirectory HfDirectory::open(const std::string& path) {
  HfDirectory directory;
  directory.path_ = path;
  if (!path_exists(path)) fail(Exit::bad_data, "{}: no such directory", path);
  if (!is_directory(path)) fail(Exit::bad_data, "{}: is not a directory", path);
  directory.config_text_ = read_file(directory.config_path(), kMaxConfigBytes, Exit::bad_data);
  const std::string index_path = fmt::format("{}/{}", path, kIndexFile),
                    single = fmt::format("{}/{}", path, kSingleFile);
  if (path_exists(index_path)) {
    directory.read_index(index_path);
  } else if (path_exists(single)) {
    directory.files_.push_back(SafetensorsFile::open(single));
  } else {
    fail(Exit::bad_data, "{}: neither {} nor {} is there", path, kSingleFile, kIndexFile);
  }
  for (const SafetensorsFile& file : directory.files_)
    for (const SafetensorsFile::Tensor& tensor : file.tensors()) directory.tensors_.push_back({&file, &tensor});
  std::sort(directory.tensors_.begin(), directory.tensors_.end(),
            [](const HfTensor& a, const HfTensor& b) { return natural_less(a.name(), b.name()); });
  for (size_t i = 0; i < directory.tensors_.size(); ++i) directory.index_.emplace(directory.tensors_[i].name(), i);
  return directory;
}

void HfDirectory::read_index(const std::string& index_path) {
  const std::string text = read_file(index_path, kMaxIndexBytes, Exit::bad_data);
  const auto document = JsonDocument::parse(text, index_path, {.max_bytes = kMaxIndexBytes, .max_depth = 8});
  const Json& map = document.root().at("weight_map");
  std::unordered_map<std::string_view, std::string_view> file_of;  // tensor to file
  std::vector<std::string> names;
  for (const JsonMember& member : map.members()) {
    const std::string& file = member.value.as_string();
    check_shard_name(member.value, file);
    file_of.emplace(member.key, file);
    names.push_back(file);
  }
  if (names.empty()) map.fail_here("\"weight_map\" names no tensor");
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  if (path_exists(fmt::format("{}/{}", path_, kSingleFile)) &&
      !std::binary_search(names.begin(), names.end(), std::string(kSingleFile)))
    fail(Exit::bad_data, "{}: {} is there, and {} lists other files: one of them is stale", path_, kSingleFile,
         kIndexFile);

  files_.reserve(names.size());
  for (const std::string& name : names) {
    const std::string file_path = path_ + "/" + name;
    if (!path_exists(file_path)) fail(Exit::bad_data, "{}: no such file, but {} lists it", file_path, kIndexFile);
    files_.push_back(SafetensorsFile::open(file_path));
    for (const SafetensorsFile::Tensor& tensor : files_.back().tensors()) {
      const auto listed = file_of.find(tensor.name);
      if (listed == file_of.end())
        fail(Exit::bad_data, "{}: tensor {}: {} does not list it", file_path, quoted_name(tensor.name), kIndexFile);
      if (listed->second != name)
        fail(Exit::bad_data, "{}: tensor {}: {} says that it is in {}", file_path, quoted_name(tensor.name), kIndexFile,
             listed->second);
    }
  }
  for (const JsonMember& member : map.members()) {
    const auto file = std::lower_bound(names.begin(), names.end(), member.value.as_string());
    if (files_[static_cast<size_t>(file - names.begin())].find(member.key) == nullptr)
      member.value.fail_here("tensor {} is not in {}", quoted_name(member.key), *file);
  }
}

const HfTensor* HfDirectory::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

std::optional<std::string> HfDirectory::text(const std::string& name) const {
  const std::string file = path_ + "/" + name;
  if (!path_exists(file)) return std::nullopt;
  return read_file(file, kMaxTextBytes, Exit::bad_data);
}

std::vector<const TensorSpec*> HfDirectory::weights() const {
  std::vector<const TensorSpec*> weights;
  for (const HfTensor& tensor : tensors_) weights.push_back(tensor.spec);
  return weights;
}

const TensorSpec* HfDirectory::weight(std::string_view name) const {
  const HfTensor* tensor = find(name);
  return tensor == nullptr ? nullptr : tensor->spec;
}

std::string HfDirectory::file_of(const TensorSpec& weight) const { return find(weight.name)->file->path(); }

void HfDirectory::read(const TensorSpec& weight, uint64_t begin, void* out, size_t bytes) const {
  const HfTensor& tensor = *find(weight.name);
  tensor.file->read(*tensor.spec, begin, out, bytes);
}

void HfDirectory::forget(const TensorSpec& weight, uint64_t begin, uint64_t bytes) const {
  const HfTensor& tensor = *find(weight.name);
  tensor.file->forget(*tensor.spec, begin, bytes);
}

std::vector<HfShard> plan_shards(std::vector<TensorSpec> tensors, uint64_t max_shard_bytes) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorSpec& a, const TensorSpec& b) { return natural_less(a.name, b.name); });
  std::vector<HfShard> shards(1);
  uint64_t bytes = 0;
  for (TensorSpec& tensor : tensors) {
    const uint64_t more = tensor.bytes();
    if (!shards.back().tensors.empty() && (bytes > max_shard_bytes || more > max_shard_bytes - bytes)) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += more;
    shards.back().tensors.push_back(std::move(tensor));
  }
  for (size_t i = 0; i < shards.size(); ++i)
    shards[i].file = shards.size() == 1 ? std::string(kSingleFile)
                                        : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  return shards;
}

uint64_t check_hf_target(const std::string& path, const HfContent& content) {
  if (path_exists(path)) fail(Exit::bad_config, "{}: exists already; nothing is overwritten", path);
  const std::vector<HfShard> shards = plan_shards(content.tensors, content.max_shard_bytes);
  uint64_t bytes = shards.size() > 1 ? index_text(shards).size() : 0;
  for (const HfShard& shard : shards) bytes += safetensors_file_bytes(shard.tensors);
  for (const auto& [name, text] : content.texts) bytes += text.size();
  const uint64_t available = free_bytes(path);
  if (bytes > available)
    fail(Exit::io, "{}: needs {}, the disk has {} left", path, size_text(bytes), size_text(available));
  return bytes;
}

void write_hf_directory(const std::string& path, const HfContent& content, const TensorSource& source) {
  check_hf_target(path, content);
  make_whole_directory(path, [&](const std::string& partial) {
    const std::vector<HfShard> shards = plan_shards(content.tensors, content.max_shard_bytes);
    for (const HfShard& shard : shards) write_safetensors(partial + "/" + shard.file, shard.tensors, source);
    if (shards.size() > 1) write_new_file(fmt::format("{}/{}", partial, kIndexFile), index_text(shards));
    for (const auto& [name, text] : content.texts) write_new_file(partial + "/" + name, text);
  });
}

}  // namespace tael
