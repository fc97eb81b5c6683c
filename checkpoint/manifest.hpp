// The manifest of a checkpoint: which boxes lie where in which shard file, the CRC32C of every byte of every file, and
// what the run knew at that step. It is one JSON object, and its first member is the XXH3-128 of all that follows, so a
// changed byte of it is found as well. Nothing of a shard is parsed or used before it agrees with the manifest.
//
// A shard's bytes are the boxes' numbers, checked in blocks of kBlockBytes from each box's start, and the gaps between
// them (HDF5's own structure and padding), checked whole.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/box.hpp"

namespace tael {

inline constexpr uint64_t kBlockBytes = uint64_t{1} << 20;
inline constexpr std::string_view kManifestName = "manifest.json";

struct StoredBox {
  Box box;
  size_t file = 0;               // index in Manifest::files
  uint64_t offset = 0;           // of its first byte in that file
  std::vector<uint32_t> crc32c;  // per block
};

struct Gap {
  uint64_t offset = 0, bytes = 0;
  uint32_t crc32c = 0;
};

struct StoredFile {
  std::string name;
  uint64_t bytes = 0;
  std::vector<Gap> gaps;  // what the boxes leave, ascending
};

// What is not a tensor. Texts are small; larger ones are boxes of kind text.
struct RunState {
  bool training = false;  // false: weights alone; what follows then means nothing
  int64_t step = 0;
  int64_t samples = 0;  // sequences consumed: the data cursor
  int64_t tokens = 0;   // consumed: the position of every schedule
  int64_t attempt = 0;
  bool milestone = false;  // stays for ever, whatever later starts say of milestones
  int64_t seed = 0;
  int64_t reduction_lanes = 0;  // 0: the fast reduction
  int64_t reduction_segments = 0;
  int64_t sample_order = 0;  // kSampleOrder of the sampler
  std::string tokenizer = {};
  std::vector<std::string> data = {};         // digests of the training shards, in order
  std::map<std::string, double> ledger = {};  // device-seconds by kind, all attempts, up to this step
  std::string software = {};                  // version, build and commit of the writer

  bool operator==(const RunState&) const = default;
};

// Of a whole checkpoint, or of one shard on its way to rank 0.
struct Manifest {
  enum class Extent : uint8_t { checkpoint, shard };

  RunState state;
  std::vector<StoredFile> files;
  std::vector<StoredBox> boxes;  // in the order of files and offsets

  std::string text() const;
  // Throws Error(bad_data) with the path for anything that is not as text() wrote it: the digest, the structure, boxes
  // and gaps that do not make up their files, and, of a checkpoint, boxes that do not tile their tensors.
  static Manifest parse(const std::string& text, const std::string& path, Extent extent = Extent::checkpoint);
  // The state alone, of a text whose digest agrees; the same errors. A hundredth of the memory.
  static RunState parse_state(const std::string& text, const std::string& path);
  // Takes in the files and boxes of another shard.
  void append(Manifest shard);
};

}  // namespace tael
