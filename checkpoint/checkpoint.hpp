// A checkpoint on disk, for reading: a directory with a manifest and shards.
//
// Opening reads the manifest only: its digest, its structure, that the shards are there with the right length, and that
// the boxes tile every tensor. Numbers are used only after the CRC32C of their block agreed. HDF5 is not involved.
// Damage is Error(bad_data) naming the file and what lies at the damaged place: a tensor, a file that travels along, or
// HDF5's own structure. Many threads may read at once.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/file.hpp"
#include "checkpoint/manifest.hpp"

namespace tael {

inline constexpr const char* kModelText = "config.json";  // the model as Hugging Face describes it, a box of kind text

class Checkpoint {
 public:
  static Checkpoint open(const std::string& path);
  // What it holds beside tensors, without a look at these. The same errors, but for what open() says of shards.
  static RunState read_state(const std::string& path);
  // Whether the directory looks like one: it has a manifest.
  static bool is_at(const std::string& path);

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  const RunState& state() const { return manifest_.state; }

  // The logical tensors, each once and whole, in the order of the manifest.
  const std::vector<Box>& tensors() const { return tensors_; }
  const Box* find(StateKind kind, const std::string& name) const;  // nullptr: not there

  // Fills `out` with the numbers of `box`, a part of one of the tensors. Reads whole blocks, those of its rows only.
  void read(const Box& box, void* out) const;
  // Numbers [first, first + count) of a whole tensor, row by row.
  void read_range(const Box& tensor, int64_t first, int64_t count, void* out) const;
  std::string read_text(const std::string& name) const;  // of kind text; Error(bad_data) when it is not there

  // Every byte of every file. `progress` receives the bytes done, now and then.
  void verify(const std::function<void(uint64_t)>& progress = {}) const;
  // Those that belong to no tensor: for who has read all tensors.
  void verify_beside_tensors() const;
  uint64_t bytes() const;  // of all shards

 private:
  File open_shard(size_t file) const;
  std::string place_in_words(size_t file, uint64_t at) const;  // what lies at that byte
  void read_block(const StoredBox& stored, uint64_t block, std::byte* out) const;
  void verify_box(const StoredBox& stored, std::vector<std::byte>& scratch) const;
  void verify_gap(size_t file, const Gap& gap, std::vector<std::byte>& scratch) const;

  std::string path_;
  Manifest manifest_;
  std::vector<File> files_;
  std::vector<Box> tensors_;
  std::vector<std::vector<size_t>> parts_;           // of each tensor: indices of its boxes
  std::unordered_map<std::string, size_t> by_path_;  // Box::path() to the tensor
};

}  // namespace tael
