#include "cost/budget.hpp"

#include <gtest/gtest.h>

namespace tael {
namespace {

TEST(Budget, TakesTheDearestOfTheLastAndWhatTheyLieApart) {
  Budget budget(100, {.step = 8, .save = 4, .evaluation = 6});
  EXPECT_EQ(budget.expected_step(), 8);
  EXPECT_EQ(budget.step(), 10);  // an estimate may be wrong by a quarter
  EXPECT_EQ(budget.save(), 5);
  EXPECT_EQ(budget.evaluation(), 7.5);
  budget.step_took(4);
  EXPECT_EQ(budget.step(), 5);  // one that was measured as well
  budget.step_took(4);
  EXPECT_EQ(budget.step(), 4.5);
  budget.step_took(1);
  EXPECT_EQ(budget.expected_step(), 4);
  EXPECT_EQ(budget.step(), 7);  // they lie 3 apart
  for (int i = 0; i < 20; ++i) budget.step_took(2);
  EXPECT_EQ(budget.step(), 2.025);  // those are long ago
  for (const double seconds : {1.0, 7.0, 2.0}) budget.save_took(seconds);
  EXPECT_EQ(budget.save(), 13);
}

TEST(Budget, FitsWithItsSaveOrNotAtAll) {
  const Budget budget(100, {.step = 8, .save = 4, .evaluation = 0});
  EXPECT_TRUE(budget.fits(85, 10));
  EXPECT_FALSE(budget.fits(85.01, 10));
  EXPECT_TRUE(Budget(std::nullopt, {}).fits(1e300, 1e300));
  EXPECT_EQ(*budget.left_fraction(25), 0.75);
  EXPECT_EQ(*budget.left_fraction(1000), 0);
  EXPECT_FALSE(Budget(std::nullopt, {}).left_fraction(1).has_value());
}

TEST(Budget, WarnsTwice) {
  Budget budget(100, {});
  EXPECT_EQ(budget.warning(79.9), 0);
  EXPECT_EQ(budget.warning(80), 80);
  EXPECT_EQ(budget.warning(90), 0);
  EXPECT_EQ(budget.warning(96), 95);
  EXPECT_EQ(budget.warning(99), 0);
  Budget late(100, {});
  EXPECT_EQ(late.warning(97), 95);
}

// Steps of one cost: whatever the limit, the run ends inside it, and what it leaves is less than a step, its save and
// the doubt about both. Through the real trainer: tests/trainer/budget_sweep_test.cpp.
TEST(Budget, SweptAroundTheCostOfAStepIsNeverOverdrawn) {
  constexpr double kStart = 3, kStep = 10, kSave = 4, kDoubt = 1.25;
  for (int i = 0; i < 40; ++i) {
    const double limit = kStart + kDoubt * (kStep + kSave) + 0.5 * i;
    Budget budget(limit, {.step = kStep, .save = kSave, .evaluation = 0});
    double spent = kStart;
    int steps = 0;
    while (budget.fits(spent, budget.step())) {
      spent += kStep;
      budget.step_took(kStep);
      ++steps;
    }
    EXPECT_LE(spent + kSave, limit);
    EXPECT_GT(spent + kStep * (1 + 0.25 / steps) + kSave * kDoubt, limit);
    EXPECT_GE(steps, 1);
  }
}

}  // namespace
}  // namespace tael
