// Checksums. XXH3 says whether bytes are the same (accidents, not attackers); CRC32C is what other people's formats ask
// for (TensorBoard records). Results do not depend on the machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace tael {

struct Hash128 {
  uint64_t low = 0, high = 0;
  bool operator==(const Hash128&) const = default;
};
// 32 lowercase hexadecimal digits, the high word first (the canonical form of xxhsum -H128).
std::string to_hex(const Hash128& hash);

Hash128 xxh3_128(const void* data, size_t bytes);
uint64_t xxh3_64(const void* data, size_t bytes);
inline uint64_t xxh3_64(std::string_view text) { return xxh3_64(text.data(), text.size()); }

// The same hashes of bytes that arrive in pieces; how they are cut does not matter.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(Xxh3&&) noexcept;
  Xxh3& operator=(Xxh3&&) noexcept;

  void reset();
  void update(const void* data, size_t bytes);
  Hash128 digest_128() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// CRC32C (Castagnoli, reflected; the iSCSI CRC). `previous` continues an earlier piece: crc32c(b, crc32c(a)) is the CRC
// of a and b together. By ISA-L's instruction-set dispatch where the build found it, else by crc32c_portable.
uint32_t crc32c(const void* data, size_t bytes, uint32_t previous = 0);
uint32_t crc32c_portable(const void* data, size_t bytes, uint32_t previous = 0);

}  // namespace tael
