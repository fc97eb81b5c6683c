#include "base/hash.hpp"

#include <fmt/core.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <new>

#if TAEL_HAVE_ISAL
#include <isa-l/crc.h>
#endif

namespace tael {

std::string to_hex(const Hash128& hash) { return fmt::format("{:016x}{:016x}", hash.high, hash.low); }

Hash128 xxh3_128(const void* data, size_t bytes) {
  const XXH128_hash_t h = XXH3_128bits(data, bytes);
  return {h.low64, h.high64};
}

uint64_t xxh3_64(const void* data, size_t bytes) { return XXH3_64bits(data, bytes); }

struct Xxh3::State {
  State() : xxh(XXH3_createState()) {
    if (xxh == nullptr) throw std::bad_alloc();
  }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  XXH3_state_t* xxh;
};

Xxh3::Xxh3() : state_(std::make_unique<State>()) { reset(); }
Xxh3::~Xxh3() = default;
Xxh3::Xxh3(Xxh3&&) noexcept = default;
Xxh3& Xxh3::operator=(Xxh3&&) noexcept = default;

void Xxh3::reset() { XXH3_128bits_reset(state_->xxh); }
void Xxh3::update(const void* data, size_t bytes) { XXH3_128bits_update(state_->xxh, data, bytes); }
Hash128 Xxh3::digest_128() const {
  const XXH128_hash_t h = XXH3_128bits_digest(state_->xxh);
  return {h.low64, h.high64};
}

namespace {

// Table k holds the CRC of a byte followed by k zero bytes, so eight bytes take eight independent look-ups.
constexpr std::array<std::array<uint32_t, 256>, 8> crc32c_tables() {
  std::array<std::array<uint32_t, 256>, 8> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82F63B78u : 0u);
    table[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k)
    for (size_t byte = 0; byte < 256; ++byte)
      table[k][byte] = (table[k - 1][byte] >> 8) ^ table[0][table[k - 1][byte] & 0xffu];
  return table;
}
constexpr auto kCrc = crc32c_tables();

}  // namespace

uint32_t crc32c_portable(const void* data, size_t bytes, uint32_t previous) {
  const auto* p = static_cast<const unsigned char*>(data);
  uint32_t crc = ~previous;
  for (; bytes >= 8; bytes -= 8, p += 8) {
    const uint32_t low = crc ^ (uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24);
    crc = kCrc[7][low & 0xffu] ^ kCrc[6][(low >> 8) & 0xffu] ^ kCrc[5][(low >> 16) & 0xffu] ^ kCrc[4][low >> 24] ^
          kCrc[3][p[4]] ^ kCrc[2][p[5]] ^ kCrc[1][p[6]] ^ kCrc[0][p[7]];
  }
  for (; bytes > 0; --bytes, ++p) crc = (crc >> 8) ^ kCrc[0][(crc ^ *p) & 0xffu];
  return ~crc;
}

uint32_t crc32c(const void* data, size_t bytes, uint32_t previous) {
#if TAEL_HAVE_ISAL
  // The library counts in int and does not write; its parameter merely lacks the const.
  auto* p = static_cast<unsigned char*>(const_cast<void*>(data));
  uint32_t crc = ~previous;
  for (size_t done = 0; done < bytes;) {
    const size_t piece = std::min<size_t>(bytes - done, size_t{1} << 30);
    crc = crc32_iscsi(p + done, static_cast<int>(piece), crc);
    done += piece;
  }
  return ~crc;
#else
  return crc32c_portable(data, bytes, previous);
#endif
}

}  // namespace tael
