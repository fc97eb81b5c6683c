// HDF5 files of the one kind that this program writes: contiguous datasets of plain numbers or fixed-length text, hard
// links, attributes on the root and on datasets. The layout is HDF5's, so any tool can read the files; bulk bytes are
// ours: a dataset is reserved here, and its values go through base/file.hpp at the offset that reserve returns.
//
// The library is hardened first (no plug-ins, no clean-up at exit) and its files are opened without locks. Readers
// refuse every other feature: other layouts, filters, external storage, soft or external links, old superblocks.
// That is a structural check, not a checksum: whoever opens a file has compared its digest before.
//
// One object belongs to one thread; different objects may be used at the same time (the library must be the
// thread-safe build, which is checked). After a failed call of a writer its file is worthless and its handles are
// abandoned: closing them is known to crash inside the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.hpp"

namespace tael {

enum class H5Type : uint8_t { u8, u16, u32, u64, i32, i64, f32, f64 };  // little-endian in the file
size_t size_of(H5Type type);

struct H5Region {
  uint64_t offset = 0, bytes = 0;  // in the file, user block counted
};

class H5Writer {
 public:
  // What the library keeps of a file's layout until it is written: the names of a group are one piece of it, which it
  // would write and read again for every new name where they do not fit (its own limit of 32 MiB: from 150,000 names).
  static constexpr size_t kMostCacheBytes = size_t{128} << 20;

  struct Options {
    uint64_t user_block = 0;  // bytes before HDF5's first: 0 or a power of two, at least `alignment` and 512
    uint64_t alignment = 4096;
    uint64_t align_from = 1;  // objects of fewer bytes are not aligned
    bool in_memory = false;   // no file at all: to learn where things would lie
  };
  // Creates the file, or empties it. Throws Error(io).
  H5Writer(std::string path, const Options& options);
  ~H5Writer();
  H5Writer(const H5Writer&) = delete;

  // Space for a dataset, not written. A file that reserves much is sparse until somebody writes it. Groups that `name`
  // leads through ("exp_avg/model.norm.weight") are made.
  H5Region reserve(const std::string& name, H5Type type, std::span<const uint64_t> dims);
  // Strings of one fixed length, padded by zeros; `values` must not be empty.
  void write_text(const std::string& name, std::span<const std::string> values);

  // Attributes of the root (object "/") or of a dataset that exists.
  void attribute(const std::string& object, const std::string& name, std::string_view text);
  void attribute(const std::string& object, const std::string& name, uint64_t value);
  void attribute(const std::string& object, const std::string& name, int64_t value);
  void attribute(const std::string& object, const std::string& name, double value);

  // Ends the file. Without it the destructor abandons it.
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class H5Reader {
 public:
  struct Dataset {
    H5Type type;
    std::vector<uint64_t> dims;
    H5Region region;  // dims times the size of the type, inside the file
    uint64_t elements = 0;
  };

  // A file on disk; HDF5 finds its beginning behind a user block by itself. Throws Error(`code`) when it is none of
  // ours.
  H5Reader(std::string path, Exit code);
  // The same of a file's bytes in memory (copied); `name` stands for them in errors.
  H5Reader(std::string name, std::span<const std::byte> image, Exit code);
  ~H5Reader();
  H5Reader(const H5Reader&) = delete;

  std::vector<std::string> datasets() const;  // of the root, bytewise sorted; a group or a link in it is refused
  bool has_attribute(const std::string& object, const std::string& name) const;
  Dataset dataset(const std::string& name) const;
  std::vector<std::string> read_text(const std::string& name, uint64_t max_bytes) const;
  std::string text_attribute(const std::string& object, const std::string& name) const;
  uint64_t uint_attribute(const std::string& object, const std::string& name) const;
  int64_t int_attribute(const std::string& object, const std::string& name) const;
  double real_attribute(const std::string& object, const std::string& name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tael
