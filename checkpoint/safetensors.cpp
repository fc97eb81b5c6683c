#include "checkpoint/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <memory>
#include <unordered_set>
#include <utility>

#include "base/json.hpp"

namespace tael {

static_assert(std::endian::native == std::endian::little, "tensors are copied to and from files as they lie in memory");

namespace {

constexpr size_t kNameLimit = 160;                    // of a name in an error
constexpr uint64_t kSyncEvery = uint64_t{256} << 20;  // bytes written before they are synced and forgotten
constexpr std::string_view kMetadataKey = "__metadata__";

class HeaderReader {
 public:
  HeaderReader(const std::string& path, uint64_t data_start, uint64_t data_bytes)
      : path_(path), data_start_(data_start), data_bytes_(data_bytes) {}

  SafetensorsFile::Tensor tensor(const std::string& name, const Json& entry) const {
    SafetensorsFile::Tensor tensor;
    tensor.name = name;
    const Json& dtype = member(name, entry, "dtype");
    if (dtype.kind() != Json::Kind::string) refuse(name, "\"dtype\" is not a string");
    if (!dtype_from_safetensors_name(dtype.as_string(), tensor.dtype))
      refuse(name, fmt::format("the format {} is not known here", quoted_name(dtype.as_string())));
    tensor.shape = numbers(name, member(name, entry, "shape"), "shape");
    if (tensor.shape.size() > SafetensorsFile::kMaxRank)
      refuse(name, fmt::format("{} dimensions, at most {} are read", tensor.shape.size(), SafetensorsFile::kMaxRank));
    const std::vector<int64_t> range = numbers(name, member(name, entry, "data_offsets"), "data_offsets");
    if (range.size() != 2 || range[0] > range[1]) refuse(name, "\"data_offsets\" is not [begin, end]");
    uint64_t bytes = size_of(tensor.dtype);
    for (const int64_t d : tensor.shape)
      if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(d), &bytes))
        refuse(name, fmt::format("the size of shape {} overflows", shape_text(tensor.shape)));
    const auto begin = static_cast<uint64_t>(range[0]), end = static_cast<uint64_t>(range[1]);
    if (end > data_bytes_)
      refuse(name, fmt::format("its bytes end at {}, the file has {} after the header", end, data_bytes_));
    if (bytes != end - begin)
      refuse(name, fmt::format("{} {} needs {} bytes, \"data_offsets\" give it {}", dtype.as_string(),
                               shape_text(tensor.shape), bytes, end - begin));
    tensor.offset = data_start_ + begin;
    return tensor;
  }

  // Every byte after the header belongs to exactly one tensor.
  void check_no_holes(const std::vector<SafetensorsFile::Tensor>& tensors) const {
    uint64_t at = data_start_;
    for (const SafetensorsFile::Tensor& tensor : tensors) {
      if (tensor.offset != at)
        refuse(tensor.name, fmt::format("its bytes begin at {}, the tensor before it ends at {}",
                                        tensor.offset - data_start_, at - data_start_));
      at += tensor.bytes();
    }
    if (at != data_start_ + data_bytes_)
      fail(Exit::bad_data, "{}: {} bytes after the last tensor belong to none", path_, data_start_ + data_bytes_ - at);
  }

  [[noreturn]] void refuse(const std::string& name, const std::string& what) const {
    fail(Exit::bad_data, "{}: tensor {}: {}", path_, quoted_name(name), what);
  }

 private:
  const Json& member(const std::string& name, const Json& entry, const char* key) const {
    if (entry.kind() != Json::Kind::object) refuse(name, "its entry in the header is not an object");
    if (const Json* value = entry.find(key)) return *value;
    refuse(name, fmt::format("\"{}\" is missing", key));
  }
  std::vector<int64_t> numbers(const std::string& name, const Json& value, const char* key) const {
    std::vector<int64_t> list;
    if (value.kind() != Json::Kind::array) refuse(name, fmt::format("\"{}\" is not a list", key));
    for (const Json& item : value.items()) {
      if (item.kind() != Json::Kind::integer || item.as_int() < 0)
        refuse(name, fmt::format("\"{}\" holds something that is not a size", key));
      list.push_back(item.as_int());
    }
    return list;
  }

  const std::string& path_;
  uint64_t data_start_, data_bytes_;
};

// The usual writer's order of element types: its enumeration goes from narrow to wide.
int rank_of(DType type) {
  switch (type) {
    case DType::i64: return 0;
    case DType::f64: return 1;
    case DType::f32: return 2;
    case DType::i32: return 3;
    case DType::bf16: return 4;
    case DType::f16: return 5;
    case DType::u16: return 6;
    case DType::f8_e4m3: return 7;
    case DType::f8_e5m2: return 8;
    case DType::u8: return 9;
  }
  CHECK(false, "a type without a rank");
}

// REQUIRES: sorted. Length, JSON and padding: all that stands before the first tensor's bytes.
std::string header_of(const std::vector<TensorSpec>& tensors) {
  JsonWriter json;
  json.begin_object().key(kMetadataKey).begin_object().field("format", "pt").end_object();
  uint64_t at = 0;
  for (const TensorSpec& tensor : tensors) {
    json.key(tensor.name).begin_object().field("dtype", safetensors_name(tensor.dtype)).key("shape").begin_array();
    for (const int64_t d : tensor.shape) json.value(d);
    json.end_array().key("data_offsets").begin_array().value(at).value(at + tensor.bytes()).end_array().end_object();
    at += tensor.bytes();
  }
  json.end_object();
  const uint64_t bytes = (json.text().size() + 7) / 8 * 8;
  std::string header(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  header += json.text();
  header.resize(sizeof bytes + bytes, ' ');
  return header;
}

}  // namespace

int64_t TensorSpec::elements() const {
  int64_t product = 1;
  for (const int64_t d : shape) product *= d;
  return product;
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t d : shape) text += fmt::format("{}{}", text.size() > 1 ? ", " : "", d);
  return text + "]";
}

std::string quoted_name(std::string_view name) {
  std::string text;
  append_json_string(text, name.size() <= kNameLimit ? name : name.substr(0, kNameLimit));
  if (name.size() > kNameLimit) text += "...";
  return text;
}

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  SafetensorsFile result;
  result.file_ = File::open(path, Exit::bad_data);
  const uint64_t size = result.file_.size();
  uint64_t header_bytes = 0;
  if (size < sizeof header_bytes) fail(Exit::bad_data, "{}: {} bytes, too short for a safetensors file", path, size);
  result.file_.read_at(0, &header_bytes, sizeof header_bytes);
  if (header_bytes > kMaxHeaderBytes)
    fail(Exit::bad_data, "{}: the header claims {} bytes, more than the {} that the format allows", path, header_bytes,
         kMaxHeaderBytes);
  const uint64_t data_start = sizeof header_bytes + header_bytes;
  if (data_start > size)
    fail(Exit::bad_data, "{}: the header claims {} bytes, the file has {} after its length", path, header_bytes,
         size - sizeof header_bytes);
  std::string text(header_bytes, '\0');
  result.file_.read_at(sizeof header_bytes, text.data(), text.size());
  if (text.empty() || text.front() != '{') fail(Exit::bad_data, "{}: the header does not begin with '{{'", path);
  const auto document = JsonDocument::parse(
      text, path + " (header)", {.max_bytes = kMaxHeaderBytes, .max_depth = 4, .max_entries = 10 * kMaxTensors});

  const HeaderReader reader(path, data_start, size - data_start);
  for (const JsonMember& member : document.root().members()) {
    if (member.key == kMetadataKey) {
      for (const JsonMember& pair : member.value.members()) pair.value.as_string();  // text to text only
      continue;
    }
    if (static_cast<int64_t>(result.tensors_.size()) == kMaxTensors)
      fail(Exit::bad_data, "{}: more than {} tensors", path, kMaxTensors);
    result.tensors_.push_back(reader.tensor(member.key, member.value));
  }
  // Empty tensors share their place with the tensor that begins there.
  std::stable_sort(result.tensors_.begin(), result.tensors_.end(), [](const Tensor& a, const Tensor& b) {
    return std::pair(a.offset, a.bytes()) < std::pair(b.offset, b.bytes());
  });
  reader.check_no_holes(result.tensors_);
  for (size_t i = 0; i < result.tensors_.size(); ++i) result.index_.emplace(result.tensors_[i].name, i);
  return result;
}

const SafetensorsFile::Tensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void SafetensorsFile::read(const Tensor& tensor, uint64_t begin, void* out, size_t bytes) const {
  CHECK(begin <= tensor.bytes() && bytes <= tensor.bytes() - begin, "{} [{}, +{})", tensor.name, begin, bytes);
  file_.read_at(tensor.offset + begin, out, bytes);
}

void SafetensorsFile::forget(const Tensor& tensor, uint64_t begin, uint64_t bytes) const {
  file_.forget(tensor.offset + begin, bytes);
}

void sort_for_safetensors(std::vector<TensorSpec>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    const int x = rank_of(a.dtype), y = rank_of(b.dtype);
    return x != y ? x < y : a.name < b.name;
  });
}

uint64_t safetensors_file_bytes(std::vector<TensorSpec> tensors) {
  sort_for_safetensors(tensors);
  uint64_t bytes = header_of(tensors).size();
  for (const TensorSpec& tensor : tensors) bytes += tensor.bytes();
  return bytes;
}

void write_safetensors(const std::string& path, std::vector<TensorSpec> tensors, const TensorSource& source) {
  sort_for_safetensors(tensors);
  std::unordered_set<std::string_view> names;
  for (const TensorSpec& tensor : tensors) CHECK(names.insert(tensor.name).second, "two tensors named {}", tensor.name);
  File file = File::create(path);
  const std::string header = header_of(tensors);
  CHECK(header.size() <= SafetensorsFile::kMaxHeaderBytes, "a header of {} bytes", header.size());
  file.write_at(0, header.data(), header.size());
  uint64_t at = header.size(), synced = 0;
  const auto buffer = std::make_unique<std::byte[]>(kStreamBytes);  // a multiple of every element's size
  for (const TensorSpec& tensor : tensors) {
    const uint64_t total = tensor.bytes();
    for (uint64_t done = 0; done < total;) {
      const size_t bytes = std::min<uint64_t>(kStreamBytes, total - done);
      source(tensor, done, buffer.get(), bytes);
      file.write_at(at, buffer.get(), bytes);
      done += bytes;
      at += bytes;
      if (at - synced >= kSyncEvery) {
        file.sync();
        file.forget(synced, at - synced);
        synced = at;
      }
    }
  }
  file.sync();
  file.forget(synced, at - synced);
  file.close();
}

}  // namespace tael
