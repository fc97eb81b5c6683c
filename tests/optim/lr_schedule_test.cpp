#include "optim/lr_schedule.hpp"

#include <gtest/gtest.h>

#include "base/check.hpp"

namespace tael {
namespace {

constexpr int64_t kB = 1'000'000'000, kT = 1000 * kB;

// DeepSeek-V3 report 4.2.
const LrSchedule kV3 = {.lr = 2.2e-4,
                        .warmup_steps = 2000,
                        .phases = {{10 * kT, LrShape::constant, 2.2e-4},
                                   {14'300 * kB, LrShape::cosine, 2.2e-5},
                                   {14'633 * kB, LrShape::constant, 2.2e-5},
                                   {14'800 * kB, LrShape::constant, 7.3e-6}}};

TEST(LrSchedule, DeepSeekV3) {
  EXPECT_DOUBLE_EQ(kV3.at(1, 0), 1.1e-7);
  EXPECT_DOUBLE_EQ(kV3.at(1000, 12 * kB), 1.1e-4);
  EXPECT_DOUBLE_EQ(kV3.at(2000, 25 * kB), 2.2e-4);
  EXPECT_DOUBLE_EQ(kV3.at(2001, 25 * kB), 2.2e-4);
  const auto at_tokens = [](int64_t tokens) { return kV3.at(100000, tokens); };
  EXPECT_DOUBLE_EQ(at_tokens(10 * kT - 1), 2.2e-4);
  EXPECT_DOUBLE_EQ(at_tokens(10 * kT), 2.2e-4);
  EXPECT_NEAR(at_tokens(11 * kT), 1.947324e-4, 5e-11);
  EXPECT_NEAR(at_tokens(12'150 * kB), 1.21e-4, 1e-15);  // the middle
  EXPECT_NEAR(at_tokens(14 * kT), 2.436849e-5, 5e-12);
  EXPECT_DOUBLE_EQ(at_tokens(14'300 * kB), 2.2e-5);
  EXPECT_DOUBLE_EQ(at_tokens(14'500 * kB), 2.2e-5);
  EXPECT_DOUBLE_EQ(at_tokens(14'633 * kB - 1), 2.2e-5);
  EXPECT_DOUBLE_EQ(at_tokens(14'633 * kB), 7.3e-6);
  EXPECT_DOUBLE_EQ(at_tokens(14'700 * kB), 7.3e-6);
  EXPECT_DOUBLE_EQ(at_tokens(15 * kT), 7.3e-6);
}

TEST(LrSchedule, WarmUpMultipliesWhatThePhasesSay) {
  const LrSchedule schedule = {.lr = 1.0, .warmup_steps = 10, .phases = {{100, LrShape::cosine, 0.0}}};
  EXPECT_DOUBLE_EQ(schedule.at(5, 50), 0.25);
  EXPECT_DOUBLE_EQ(schedule.at(10, 50), 0.5);
  EXPECT_DOUBLE_EQ(schedule.at(10, 0), 1.0);
}

TEST(LrSchedule, CosineRunsFromTheEndOfWarmUpToTheLastStep) {
  const LrSchedule schedule = {
      .lr = 3e-3, .warmup_steps = 100, .shape = LrShape::cosine, .min_lr = 3e-4, .train_steps = 500};
  EXPECT_DOUBLE_EQ(schedule.at(1, 0), 3e-5);
  EXPECT_DOUBLE_EQ(schedule.at(50, 0), 1.5e-3);
  EXPECT_DOUBLE_EQ(schedule.at(100, 0), 3e-3);
  EXPECT_LT(schedule.at(101, 0), 3e-3);
  EXPECT_NEAR(schedule.at(300, 0), 1.65e-3, 1e-17);  // the middle
  EXPECT_GT(schedule.at(499, 0), 3e-4);
  EXPECT_DOUBLE_EQ(schedule.at(500, 0), 3e-4);
  EXPECT_DOUBLE_EQ(schedule.at(900, 0), 3e-4);
  for (int64_t s = 101; s < 500; ++s) EXPECT_LT(schedule.at(s + 1, 0), schedule.at(s, 0));
}

TEST(LrSchedule, WithoutWarmUpOrShorterThanIt) {
  const LrSchedule none = {.lr = 1.0, .shape = LrShape::cosine, .min_lr = 0.0, .train_steps = 4};
  EXPECT_NEAR(none.at(2, 0), 0.5, 1e-16);
  EXPECT_DOUBLE_EQ(none.at(4, 0), 0.0);
  const LrSchedule constant = {.lr = 2.0};
  EXPECT_DOUBLE_EQ(constant.at(1, 0), 2.0);
  EXPECT_DOUBLE_EQ(constant.at(1'000'000, kT), 2.0);
  const LrSchedule brief = {.lr = 1.0, .warmup_steps = 100, .shape = LrShape::cosine, .min_lr = 0.1, .train_steps = 10};
  EXPECT_DOUBLE_EQ(brief.at(10, 0), 0.1);  // a tenth of the warm-up, not the minimum
  EXPECT_DOUBLE_EQ(brief.at(5, 0), 0.05);
  const LrSchedule equal = {.lr = 1.0, .warmup_steps = 10, .shape = LrShape::cosine, .min_lr = 0.1, .train_steps = 10};
  EXPECT_DOUBLE_EQ(equal.at(10, 0), 1.0);
  EXPECT_THROW(constant.at(0, 0), Error);
}

}  // namespace
}  // namespace tael
