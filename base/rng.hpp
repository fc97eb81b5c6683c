// Counter-based random numbers (Philox 4x32-10, Salmon et al., SC 2011): a number is a pure function of
// (seed, purpose, index), so no layout, thread or order of use changes it, and nothing needs to be saved to resume.
//
// Keyed by what they are for: Rng(seed, "init model.embed_tokens.weight").normal(i).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tael {

class Rng {
 public:
  Rng(uint64_t seed, std::string_view purpose);

  std::array<uint32_t, 4> block(uint64_t index) const;  // four words; everything below reads from it
  uint64_t bits(uint64_t index) const;
  double uniform(uint64_t index) const;                  // [0, 1), 53 bits
  double normal(uint64_t index) const;                   // mean 0, deviation 1 (Box-Muller)
  uint64_t below(uint64_t index, uint64_t bound) const;  // [0, bound), bias below bound / 2^64; REQUIRES bound > 0

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 2> purpose_;
};

}  // namespace tael
