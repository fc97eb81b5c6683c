#include "kernels/fma_peak.hpp"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/kernels/isa_cases.hpp"

namespace tael {
namespace {

class FmaPeakTest : public testing::IsaTest {};

TEST_P(FmaPeakTest, IsAPlausibleRate) {
  double peak = 0;
  fma_peak(stream(), {.flops_per_second = &peak, .seconds = 0.002, .repeats = 3});
  EXPECT_GT(peak, 1e8);  // under a sanitizer and on a busy machine
  // 2 multiply-adds of 16 lanes a cycle at 10 GHz: no core does more, so more is a loop that the compiler removed.
  EXPECT_LT(peak, 2 * 2 * 16 * 1e10);
}

TEST_P(FmaPeakTest, TakesAboutTheTimeItSays) {
  double peak = 0;
  const auto start = std::chrono::steady_clock::now();
  fma_peak(stream(), {.flops_per_second = &peak, .seconds = 0.001, .repeats = 5});
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(5));
}

INSTANTIATE_FOR_EVERY_ISA(FmaPeakTest);

}  // namespace
}  // namespace tael
