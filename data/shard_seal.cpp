#include "data/shard_seal.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "base/number_text.hpp"

namespace tael {

namespace {

static_assert(std::endian::native == std::endian::little, "the seal is written as it lies in memory");

constexpr char kMagic[24] = "tael token shard\n";
constexpr uint32_t kVersion = 1;
constexpr size_t kTableOffset = 128;
constexpr uint64_t kMaxBlocks = (ShardSeal::kBytes - kTableOffset) / sizeof(Hash128);
constexpr size_t kBufferBytes = size_t{1} << 20;

struct Head {
  char magic[24];
  uint32_t version, seal_bytes;
  uint64_t file_bytes, block_bytes, blocks, bulk_begin, bulk_end;
  Hash128 digest;
};
static_assert(sizeof(Head) == 88 && sizeof(Head) <= kTableOffset && std::is_trivially_copyable_v<Head>);

// The digest of a seal whose digest field is zero.
Hash128 digest_of(const std::vector<std::byte>& seal) { return xxh3_128(seal.data(), seal.size()); }

uint64_t block_size_for(uint64_t bytes) {
  uint64_t block = ShardSeal::kSmallestBlock;
  while ((bytes + block - 1) / block > kMaxBlocks) block *= 2;
  return block;
}

}  // namespace

Hash128 ShardSeal::hash_block(const File& file, uint64_t block, Xxh3& hash, std::vector<std::byte>& buffer) const {
  uint64_t offset = kBytes + block * block_bytes_;
  const uint64_t end = std::min(offset + block_bytes_, file_bytes_);
  hash.reset();
  while (offset < end) {
    const size_t piece = std::min<uint64_t>(buffer.size(), end - offset);
    file.read_at(offset, buffer.data(), piece);
    hash.update(buffer.data(), piece);
    offset += piece;
  }
  return hash.digest_128();
}

ShardSeal ShardSeal::write(const File& file, uint64_t bulk_begin, uint64_t bulk_end) {
  ShardSeal s;
  s.file_bytes_ = file.size();
  CHECK(kBytes < s.file_bytes_ && kBytes <= bulk_begin && bulk_begin <= bulk_end && bulk_end <= s.file_bytes_);
  s.block_bytes_ = block_size_for(s.file_bytes_ - kBytes);
  s.bulk_begin_ = bulk_begin;
  s.bulk_end_ = bulk_end;
  s.hashes_.resize((s.file_bytes_ - kBytes + s.block_bytes_ - 1) / s.block_bytes_);
  Xxh3 hash;
  std::vector<std::byte> buffer(kBufferBytes);
  for (uint64_t block = 0; block < s.blocks(); ++block) s.hashes_[block] = s.hash_block(file, block, hash, buffer);

  std::vector<std::byte> seal(kBytes);
  Head head{};
  std::memcpy(head.magic, kMagic, sizeof kMagic);
  head.version = kVersion;
  head.seal_bytes = kBytes;
  head.file_bytes = s.file_bytes_;
  head.block_bytes = s.block_bytes_;
  head.blocks = s.blocks();
  head.bulk_begin = bulk_begin;
  head.bulk_end = bulk_end;
  std::memcpy(seal.data(), &head, sizeof head);
  std::memcpy(seal.data() + kTableOffset, s.hashes_.data(), s.blocks() * sizeof(Hash128));
  s.digest_ = head.digest = digest_of(seal);
  std::memcpy(seal.data(), &head, sizeof head);
  file.write_at(0, seal.data(), seal.size());
  return s;
}

ShardSeal ShardSeal::read(const File& file) {
  const std::string& path = file.path();
  const uint64_t size = file.size();
  if (size == 0) fail(Exit::bad_data, "{}: empty file, expected a token shard", path);
  Head head{};
  file.read_at(0, &head, std::min<uint64_t>(size, sizeof head));
  if (std::memcmp(head.magic, kMagic, sizeof kMagic) != 0) {
    if (std::string_view(head.magic, 4) == "\x89HDF")
      fail(Exit::bad_data, "{}: an HDF5 file, but not a token shard: it does not begin with a seal", path);
    fail(Exit::bad_data, "{}: not a token shard: it does not begin with 'tael token shard' (byte 0)", path);
  }
  if (size <= kBytes) fail(Exit::bad_data, "{}: damaged: cut at byte {}, the seal alone has {}", path, size, kBytes);

  std::vector<std::byte> seal(kBytes);
  file.read_at(0, seal.data(), seal.size());
  std::memcpy(&head, seal.data(), sizeof head);
  const Hash128 said = head.digest;
  head.digest = {};
  std::memcpy(seal.data(), &head, sizeof head);
  if (digest_of(seal) != said)
    fail(Exit::bad_data, "{}: damaged between byte 0 and {}: the seal does not match its own digest", path, kBytes);
  if (head.version != kVersion)
    fail(Exit::bad_data, "{}: seal version {}, this program reads version {}", path, head.version, kVersion);
  if (size < head.file_bytes) fail(Exit::bad_data, "{}: damaged: cut at byte {} of {}", path, size, head.file_bytes);
  if (size > head.file_bytes)
    fail(Exit::bad_data, "{}: damaged: its end is at byte {}, and {} too many", path, head.file_bytes,
         count_of(static_cast<int64_t>(size - head.file_bytes), "byte"));
  // From here on the numbers are those of the writer, unless somebody means harm; then the sizes still must fit.
  if (head.seal_bytes != kBytes || head.block_bytes < kSmallestBlock || !std::has_single_bit(head.block_bytes) ||
      head.blocks > kMaxBlocks || head.blocks != (size - kBytes - 1) / head.block_bytes + 1 ||
      head.bulk_begin < kBytes || head.bulk_begin > head.bulk_end || head.bulk_end > size)
    fail(Exit::bad_data, "{}: the seal contradicts itself", path);

  ShardSeal s;
  s.file_bytes_ = size;
  s.block_bytes_ = head.block_bytes;
  s.bulk_begin_ = head.bulk_begin;
  s.bulk_end_ = head.bulk_end;
  s.hashes_.resize(head.blocks);
  std::memcpy(s.hashes_.data(), seal.data() + kTableOffset, head.blocks * sizeof(Hash128));
  s.digest_ = said;
  return s;
}

void ShardSeal::check_block(const File& file, uint64_t block, Xxh3& hash, std::vector<std::byte>& buffer) const {
  CHECK(block < blocks() && !buffer.empty());
  if (hash_block(file, block, hash, buffer) == hashes_[block]) return;
  const uint64_t begin = kBytes + block * block_bytes_;
  fail(Exit::bad_data, "{}: damaged between byte {} and {}: block {} of {} does not match the seal", file.path(), begin,
       std::min(begin + block_bytes_, file_bytes_), block + 1, blocks());
}

void ShardSeal::check_all(const File& file) const {
  Xxh3 hash;
  std::vector<std::byte> buffer(kBufferBytes);
  for (uint64_t block = 0; block < blocks(); ++block) check_block(file, block, hash, buffer);
}

void ShardSeal::check_outside_bulk(const File& file) const {
  Xxh3 hash;
  std::vector<std::byte> buffer(kBufferBytes);
  for (uint64_t block = 0; block < blocks(); ++block) {
    const uint64_t begin = kBytes + block * block_bytes_;
    const uint64_t end = std::min(begin + block_bytes_, file_bytes_);
    if (begin < bulk_begin_ || end > bulk_end_) check_block(file, block, hash, buffer);
  }
}

}  // namespace tael
