// Test data: one seeded sequence of numbers (base/rng.hpp), the same on every machine.
#pragma once

#include <cstdint>
#include <vector>

#include "base/rng.hpp"

namespace tael::testing {

class Random {
 public:
  explicit Random(uint64_t seed) : rng_(seed, "test") {}

  double normal() { return rng_.normal(next_++); }
  double uniform(double low, double high) { return low + (high - low) * rng_.uniform(next_++); }
  int64_t below(int64_t bound) { return static_cast<int64_t>(rng_.below(next_++, static_cast<uint64_t>(bound))); }

  // n numbers of mean 0 and the given deviation, rounded to T.
  template <class T = float>
  std::vector<T> normals(int64_t n, double deviation = 1.0) {
    std::vector<T> out(static_cast<size_t>(n));
    for (T& x : out) x = static_cast<T>(deviation * normal());
    return out;
  }
  template <class T = float>
  std::vector<T> uniforms(int64_t n, double low, double high) {
    std::vector<T> out(static_cast<size_t>(n));
    for (T& x : out) x = static_cast<T>(uniform(low, high));
    return out;
  }
  std::vector<int32_t> integers(int64_t n, int64_t bound) {
    std::vector<int32_t> out(static_cast<size_t>(n));
    for (int32_t& x : out) x = static_cast<int32_t>(below(bound));
    return out;
  }

 private:
  Rng rng_;
  uint64_t next_ = 0;
};

}  // namespace tael::testing
