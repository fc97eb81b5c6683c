// The seal of a token shard: the first 64 KiB of the file (HDF5's user block), from which every byte of the file can be
// checked before anybody parses it.
//
// Behind the seal the file is cut into blocks of equal size; the seal holds the XXH3-128 of each block, the length of
// the file, and the XXH3-128 of itself. So its own digest stands for the whole file, a changed bit or a cut is found
// wherever it is, and a reader that wants a part checks the blocks of that part only. `bulk` is the part of the file
// that may be checked late (the tokens); all else is checked before HDF5 sees the file.
//
// Layout, little-endian: 0 magic[24], 24 u32 version, 28 u32 bytes of the seal, 32 u64 file bytes, 40 u64 block bytes,
// 48 u64 blocks, 56 u64 bulk begin, 64 u64 bulk end, 72 u64[2] digest of the seal (low, high; computed with these
// sixteen bytes zero), zeros, 128 u64[2] per block, zeros up to 65,536.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/file.hpp"
#include "base/hash.hpp"

namespace tael {

class ShardSeal {
 public:
  static constexpr uint64_t kBytes = 65536;
  static constexpr uint64_t kSmallestBlock = 65536;

  // Hashes a file that is complete behind its first kBytes bytes and writes the seal there.
  static ShardSeal write(const File& file, uint64_t bulk_begin, uint64_t bulk_end);
  // Reads and checks the seal itself and the file's length. Throws Error(bad_data) with file and place.
  static ShardSeal read(const File& file);

  // Checks one block against the file. `hash` is scratch, `buffer` too (any size above zero).
  void check_block(const File& file, uint64_t block, Xxh3& hash, std::vector<std::byte>& buffer) const;
  void check_all(const File& file) const;
  void check_outside_bulk(const File& file) const;

  uint64_t blocks() const { return hashes_.size(); }
  uint64_t block_of(uint64_t offset) const { return (offset - kBytes) / block_bytes_; }  // REQUIRES offset >= kBytes
  uint64_t bulk_begin() const { return bulk_begin_; }
  uint64_t bulk_end() const { return bulk_end_; }
  uint64_t file_bytes() const { return file_bytes_; }
  const Hash128& digest() const { return digest_; }  // stands for every byte of the file

 private:
  ShardSeal() = default;
  Hash128 hash_block(const File& file, uint64_t block, Xxh3& hash, std::vector<std::byte>& buffer) const;

  uint64_t file_bytes_ = 0, block_bytes_ = 0, bulk_begin_ = 0, bulk_end_ = 0;
  std::vector<Hash128> hashes_;
  Hash128 digest_;
};

}  // namespace tael
