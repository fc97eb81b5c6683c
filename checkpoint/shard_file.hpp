// One shard of a checkpoint: an HDF5 file whose layout the HDF5 library makes and whose numbers are ours, written with
// pwrite at the offsets that the layout gives, so that a full disk is one clean error (parallel and even serial HDF5
// were measured to report success while losing data).
//
// In the file, for any HDF5 tool: one contiguous dataset a box at Box::path(), with attributes dtype, logical_shape
// and, for a part, box_offset; attributes format, format_version, step, tokens, samples, shard and shards of the root.
// bfloat16, which HDF5 1.10 has no type for, is stored as uint16.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/manifest.hpp"

namespace tael {

struct BoxData {
  Box box;
  const void* data = nullptr;  // box.bytes() of it
};

struct ShardLabel {
  int64_t step = 0, tokens = 0, samples = 0;
  int64_t shard = 0, shards = 1;
};
std::string shard_name(int64_t shard);  // "shard-00003.h5"

// Writes DIRECTORY/shard_name and forces it to the disk. The file must not exist. Equal arguments give equal bytes.
// Returns its file and boxes. Error(io): the system refuses; the file is then worthless and the caller removes it.
Manifest write_shard(const std::string& directory, const ShardLabel& label, const std::vector<BoxData>& boxes);

}  // namespace tael
