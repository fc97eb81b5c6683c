#include "cost/budget.hpp"

#include <gtest/gtest.h>

namespace tael {
namespace {

TEST(Budget, TakesTheMostExpensiveOfTheLastSteps) {
  Budget budget(100, {.step = 9, .save = 3, .evaluation = 5});
  EXPECT_EQ(budget.step(), 9);
  EXPECT_EQ(budget.save(), 3);
  for (const double seconds : {1.0, 4.0, 2.0}) budget.step_took(seconds);
  EXPECT_EQ(budget.step(), 4);
  for (int i = 0; i < 20; ++i) budget.step_took(2);
  EXPECT_EQ(budget.step(), 2);  // the one of 4 is long ago
  budget.save_took(1);
  budget.save_took(7);
  budget.save_took(2);
  EXPECT_EQ(budget.save(), 7);
}

TEST(Budget, FitsWithItsSaveOrNotAtAll) {
  const Budget budget(100, {.step = 10, .save = 5, .evaluation = 0});
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

// Steps of one cost, a clock that the test moves: whatever the budget, the run ends inside it, and the next step with
// its save would not have fitted.
TEST(Budget, SweptAroundTheCostOfAStepIsNeverOverdrawn) {
  constexpr double kStart = 3, kStep = 10, kSave = 4;
  for (int i = 0; i < 40; ++i) {
    const double limit = kStart + kStep + kSave + 0.5 * i;
    Budget budget(limit, {.step = kStep, .save = kSave, .evaluation = 0});
    double spent = kStart;
    int steps = 0;
    while (budget.fits(spent, budget.step())) {
      spent += kStep;
      budget.step_took(kStep);
      ++steps;
    }
    EXPECT_LE(spent + kSave, limit);
    EXPECT_GT(spent + kStep + kSave, limit);
    EXPECT_GE(steps, 1);
  }
}

}  // namespace
}  // namespace tael
