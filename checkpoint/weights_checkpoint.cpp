#include "checkpoint/weights_checkpoint.hpp"

#include <cstring>
#include <filesystem>

#include "base/file.hpp"
#include "base/number_text.hpp"
#include "checkpoint/hf_copy.hpp"
#include "checkpoint/manifest.hpp"
#include "checkpoint/shard_file.hpp"

namespace tael {

namespace {

constexpr uint64_t kStructure = uint64_t{4} << 20;  // manifest and HDF5's own structure

std::vector<std::pair<std::string, std::string>> texts_of(const HfDirectory& directory) {
  std::vector<std::pair<std::string, std::string>> texts = {{"config.json", directory.config_text()}};
  for (const char* name : kCompanions)
    if (std::optional<std::string> text = directory.text(name)) texts.emplace_back(name, *std::move(text));
  return texts;
}

}  // namespace

std::vector<Box> plan_weights_checkpoint(const HfDirectory& directory) {
  std::vector<Box> boxes;
  for (const TensorSpec* tensor : directory.weights()) {
    const bool held =
        !tensor->shape.empty() && tensor->shape.size() <= 2 && tensor->name.find('/') == std::string::npos;
    if (!held)
      fail(Exit::bad_data, "{}: tensor {} of shape {}: a checkpoint holds vectors and matrices, without / in the name",
           directory.file_of(*tensor), quoted_name(tensor->name), shape_text(tensor->shape));
    boxes.push_back(Box::whole(StateKind::weight, tensor->name, tensor->dtype, tensor->shape));
  }
  for (const auto& [name, text] : texts_of(directory))
    boxes.push_back(Box::whole(StateKind::text, name, DType::u8, {static_cast<int64_t>(text.size())}));
  return boxes;
}

uint64_t check_checkpoint_target(const std::string& path, const std::vector<Box>& boxes) {
  std::error_code ignored;
  if (std::filesystem::exists(std::filesystem::symlink_status(path, ignored)))
    fail(Exit::bad_config, "{}: exists already; nothing is overwritten", path);
  uint64_t bytes = 0;
  for (const Box& box : boxes) bytes += box.bytes();
  const uint64_t available = free_bytes(path);
  if (available < bytes + kStructure)
    fail(Exit::io, "{}: needs {}, the disk has {} left", path, size_text(bytes + kStructure), size_text(available));
  return bytes;
}

void write_weights_checkpoint(const HfDirectory& directory, const std::string& path, const std::string& software) {
  const std::vector<Box> boxes = plan_weights_checkpoint(directory);
  const std::vector<std::pair<std::string, std::string>> texts = texts_of(directory);
  check_checkpoint_target(path, boxes);
  make_whole_directory(path, [&](const std::string& partial) {
    const size_t tensors = boxes.size() - texts.size();
    Manifest manifest =
        write_shard(partial, ShardLabel{}, boxes, [&](size_t index, uint64_t begin, void* out, size_t bytes) {
          if (index >= tensors) {
            std::memcpy(out, texts[index - tensors].second.data() + begin, bytes);
            return;
          }
          const TensorSpec& tensor = *directory.weight(boxes[index].name);
          directory.read(tensor, begin, out, bytes);
          directory.forget(tensor, begin, bytes);
        });
    manifest.state.software = software;
    replace_file(partial + "/" + std::string(kManifestName), manifest.text());
  });
}

}  // namespace tael
