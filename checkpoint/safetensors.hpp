// One file of the safetensors format: named tensors in one flat file, read with suspicion and written
// deterministically.
//
// Layout: 8 bytes little-endian N; N bytes of JSON, {"name": {"dtype", "shape", "data_offsets": [begin, end)}, ...,
// "__metadata__": {text: text}}; then the tensors' bytes, row-major, little-endian, without holes, to the end of the
// file. Source: huggingface/safetensors, README and safetensors/src/tensor.rs.
//
// The reader trusts nothing: every size is checked against every other before a byte of a tensor is read. What is wrong
// is Error(bad_data) naming file and tensor. Names are never used as paths.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/dtype.hpp"
#include "base/file.hpp"

namespace tael {

// What a tensor is, without its numbers.
struct TensorSpec {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;  // row-major; empty: one number

  int64_t elements() const;  // REQUIRES: does not overflow, which every reader here has checked
  uint64_t bytes() const { return static_cast<uint64_t>(elements()) * size_of(dtype); }
};
std::string shape_text(std::span<const int64_t> shape);  // "[48, 96]"
std::string quoted_name(std::string_view name);  // in quotes, control characters escaped, cut to a readable length

class SafetensorsFile {
 public:
  struct Tensor : TensorSpec {
    uint64_t offset = 0;  // of its first byte in the file
  };

  static constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
  static constexpr int64_t kMaxTensors = 400'000;
  static constexpr size_t kMaxRank = 8;

  // Reads the header only. A path that does not exist is Error(bad_data).
  static SafetensorsFile open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<Tensor>& tensors() const { return tensors_; }  // in the order of their bytes
  const Tensor* find(std::string_view name) const;                 // nullptr: no such tensor

  // Bytes [begin, begin + bytes) of the tensor. REQUIRES: inside it. Many threads may read at once.
  void read(const Tensor& tensor, uint64_t begin, void* out, size_t bytes) const;
  // Says that these bytes will not be read again soon: a stream through a large file need not fill the page cache.
  void forget(const Tensor& tensor, uint64_t begin, uint64_t bytes) const;

 private:
  File file_;
  std::vector<Tensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

// Numbers on demand: fills out[0, bytes) with bytes [begin, begin + bytes) of the tensor, whole elements. Called in
// order of the file, each tensor from its start to its end, at most kStreamBytes at a time, so memory is bounded.
inline constexpr size_t kStreamBytes = size_t{4} << 20;
using TensorSource = std::function<void(const TensorSpec& tensor, uint64_t begin, void* out, size_t bytes)>;

// Sorts as the format's usual writer does (wide elements first, then by name, byte by byte), so that a file depends on
// its tensors only, and every tensor is aligned to its element.
void sort_for_safetensors(std::vector<TensorSpec>& tensors);

// Bytes that write_safetensors will put in the file.
uint64_t safetensors_file_bytes(std::vector<TensorSpec> tensors);

// Writes a new file (the path must not exist) and syncs it. Names must differ. Metadata is {"format": "pt"}, without
// which some readers refuse a file.
void write_safetensors(const std::string& path, std::vector<TensorSpec> tensors, const TensorSource& source);

}  // namespace tael
