#include "base/rng.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace tael {
namespace {

TEST(Rng, MomentsOfUniformAndNormal) {
  const Rng rng(7, "moments");
  double mean = 0, square = 0, uniform = 0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) {
    const double x = rng.normal(static_cast<uint64_t>(i));
    mean += x;
    square += x * x;
    uniform += rng.uniform(static_cast<uint64_t>(i));
  }
  EXPECT_LT(std::abs(mean / n), 4 / std::sqrt(n));
  EXPECT_LT(std::abs(square / n - 1), 4 * std::sqrt(2.0 / n));
  EXPECT_LT(std::abs(uniform / n - 0.5), 4 * std::sqrt(1.0 / 12 / n));
}

TEST(Rng, DependsOnSeedPurposeAndIndexOnly) {
  EXPECT_EQ(Rng(1, "a").bits(5), Rng(1, "a").bits(5));
  EXPECT_NE(Rng(1, "a").bits(5), Rng(2, "a").bits(5));
  EXPECT_NE(Rng(1, "a").bits(5), Rng(1, "b").bits(5));
  EXPECT_NE(Rng(1, "a").bits(5), Rng(1, "a").bits(6));
  for (uint64_t i = 0; i < 1000; ++i) EXPECT_LT(Rng(1, "below").below(i, 7), 7u);
}

}  // namespace
}  // namespace tael
