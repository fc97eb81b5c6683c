// A pseudo-random order of [0, size) that is computed, not stored: at(i) costs the same for any size and no memory.
//
// A Feistel network of six rounds over the next even number of bits, its round function Philox; results outside the
// range are sent through again until they fall inside (cycle walking: at most four times on average).
#pragma once

#include <cstdint>

#include "base/rng.hpp"

namespace tael {

class Permutation {
 public:
  // REQUIRES 1 <= size <= 2^62. Equal keys give equal orders.
  Permutation(uint64_t size, const Rng& key);
  uint64_t at(uint64_t i) const;  // REQUIRES i < size. One-to-one onto [0, size).

 private:
  uint64_t size_;
  int half_bits_;
  Rng key_;
};

}  // namespace tael
