#include "data/permutation.hpp"

#include <algorithm>
#include <bit>

#include "base/check.hpp"

namespace tael {

namespace {
constexpr uint64_t kRounds = 6;
}

Permutation::Permutation(uint64_t size, const Rng& key)
    : size_(size), half_bits_(std::max(1, (static_cast<int>(std::bit_width(size - 1)) + 1) / 2)), key_(key) {
  CHECK(size >= 1 && size <= uint64_t{1} << 62, "size {}", size);
}

uint64_t Permutation::at(uint64_t i) const {
  DCHECK(i < size_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = i >> half_bits_, right = i & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t mixed = left ^ (key_.bits(round << 32 | right) & mask);  // right has at most 31 bits
      left = right;
      right = mixed;
    }
    i = left << half_bits_ | right;
  } while (i >= size_);
  return i;
}

}  // namespace tael
