// How far a computed number may lie from the exact one, derived from the format and the number of roundings, never
// fitted to what the code happens to give.
//
// Basis (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1): k roundings of relative size u
// each change a product or a sum of terms t_i by at most rounding_bound(k) * sum |t_i|, k u / (1 - k u). For a sum of n
// terms in any order k is at most the longest chain, plus the roundings inside a term.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/dtype.hpp"

namespace tael::testing {

inline constexpr double kRoundF32 = 0x1p-24;  // unit roundoff: half a unit in the last place of 1
inline constexpr double kRoundBf16 = 0x1p-8;
inline constexpr double kRoundF64 = 0x1p-53;
inline constexpr double kTinyF32 = 0x1p-126;  // below it relative bounds end: the spacing is constant

// The largest relative effect of k roundings.
inline double rounding_bound(double k, double unit = kRoundF32) { return k * unit / (1 - k * unit); }

// The longest chain of the fixed row sum (16 interleaved chains, then a tree of 4 levels), in roundings.
inline double row_sum_steps(int64_t n) { return static_cast<double>((n + 15) / 16) + 4; }

inline uint32_t bits_of(float x) { return std::bit_cast<uint32_t>(x); }

// |actual - expected| <= bound; both NaN or the same infinity are equal.
inline bool within(double actual, double expected, double bound) {
  if (std::isnan(expected)) return std::isnan(actual);
  if (std::isinf(expected)) return actual == expected;
  return std::abs(actual - expected) <= bound;
}

// Every element within rounding_bound(steps) of magnitude[i], the sum of the absolute values of what was added up to
// make it.
template <class A, class E>
::testing::AssertionResult close(const std::vector<A>& actual, const std::vector<E>& expected,
                                 const std::vector<double>& magnitude, double steps, double unit = kRoundF32) {
  if (actual.size() != expected.size() || actual.size() != magnitude.size())
    return ::testing::AssertionFailure() << "sizes differ: " << actual.size() << ", " << expected.size() << ", "
                                         << magnitude.size();
  for (size_t i = 0; i < actual.size(); ++i) {
    const double a = static_cast<double>(actual[i]), e = static_cast<double>(expected[i]);
    const double bound = rounding_bound(steps, unit) * std::abs(magnitude[i]) + kTinyF32;
    if (!within(a, e, bound))
      return ::testing::AssertionFailure() << "element " << i << ": " << a << " instead of " << e << ", difference "
                                           << a - e << ", allowed " << bound;
  }
  return ::testing::AssertionSuccess();
}

// As above with one magnitude for all elements, or with each element's own value (pass 0): a purely relative bound.
template <class A, class E>
::testing::AssertionResult close(const std::vector<A>& actual, const std::vector<E>& expected, double steps,
                                 double magnitude = 0, double unit = kRoundF32) {
  std::vector<double> m(expected.size());
  for (size_t i = 0; i < m.size(); ++i) m[i] = std::max(magnitude, std::abs(static_cast<double>(expected[i])));
  return close(actual, expected, m, steps, unit);
}

// Equal bit for bit (NaN equals itself, 0 differs from -0).
template <class T>
::testing::AssertionResult same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << "sizes differ: " << a.size() << ", " << b.size();
  for (size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof(T)) != 0)
      return ::testing::AssertionFailure() << "element " << i << ": " << +a[i] << " and " << +b[i];
  return ::testing::AssertionSuccess();
}

}  // namespace tael::testing
