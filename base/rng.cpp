#include "base/rng.hpp"

#include <cmath>
#include <numbers>

namespace tael {

namespace {

uint64_t fnv1a(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (unsigned char c : text) h = (h ^ c) * 0x100000001b3u;
  return h;
}

double to_unit(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace

Rng::Rng(uint64_t seed, std::string_view purpose) {
  const uint64_t p = fnv1a(purpose);
  key_ = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  purpose_ = {static_cast<uint32_t>(p), static_cast<uint32_t>(p >> 32)};
}

std::array<uint32_t, 4> Rng::block(uint64_t index) const {
  std::array<uint32_t, 4> c = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), purpose_[0],
                               purpose_[1]};
  uint32_t k0 = key_[0], k1 = key_[1];
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

uint64_t Rng::bits(uint64_t index) const {
  const auto w = block(index);
  return w[0] | uint64_t{w[1]} << 32;
}

double Rng::uniform(uint64_t index) const { return to_unit(bits(index)); }

double Rng::normal(uint64_t index) const {
  const auto w = block(index);
  // 1 - u lies in (0, 1], so the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - to_unit(w[0] | uint64_t{w[1]} << 32)));
  return radius * std::cos(2.0 * std::numbers::pi * to_unit(w[2] | uint64_t{w[3]} << 32));
}

uint64_t Rng::below(uint64_t index, uint64_t bound) const {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits(index)) * bound) >> 64);
}

}  // namespace tael
