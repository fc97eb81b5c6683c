#include "cost/budget.hpp"

#include <gtest/gtest.h>

namespace tael {
namespace {

TEST(Budget, WhatAThingCostsFollowsFromTheLastTwenty) {
  Budget budget(100, {.step = 8, .save = 4, .evaluation = 6});
  EXPECT_EQ(budget.expected_step(), 8);
  EXPECT_EQ(budget.step().usual, 10);  // an estimate may be wrong by a quarter
  EXPECT_EQ(budget.step().most, 10);
  EXPECT_EQ(budget.save().most, 5);
  EXPECT_EQ(budget.evaluation().most, 7.5);
  budget.step_took(4);
  EXPECT_EQ(budget.step().most, 5);  // one that was measured as well
  budget.step_took(4);
  EXPECT_EQ(budget.step().most, 4.5);
  budget.step_took(1);
  EXPECT_EQ(budget.expected_step(), 4);  // the median
  EXPECT_EQ(budget.step().most, 5);      // they lie far apart: a quarter more than the dearest
  for (int i = 0; i < 20; ++i) budget.step_took(2);
  EXPECT_EQ(budget.step().usual, 2.025);
  EXPECT_EQ(budget.step().most, 2.025);  // those are long ago
  budget.step_took(2.3);
  EXPECT_EQ(budget.expected_step(), 2.3);     // it may stay as it was last
  EXPECT_DOUBLE_EQ(budget.step().most, 2.6);  // they lie 0.3 apart
  budget.step_took(2);
  EXPECT_EQ(budget.expected_step(), 2);
  for (const double seconds : {1.0, 8.0, 2.0}) budget.save_took(seconds);
  EXPECT_EQ(budget.expected_save(), 2);
  EXPECT_EQ(budget.save().most, 10);
}

// A disk that stalled once: two saves and a step are one stall, and what the others usually take.
TEST(Budget, OfThingsThatFollowOneMaySurprise) {
  Budget budget(100.0, {});
  for (int i = 0; i < 19; ++i) budget.save_took(1);
  budget.save_took(11);
  EXPECT_EQ(budget.expected_save(), 11) << "until another has shown that it was but one";
  budget.save_took(1);
  for (int i = 0; i < 20; ++i) budget.step_took(2);
  EXPECT_DOUBLE_EQ(budget.save().usual, 1.0125);
  EXPECT_DOUBLE_EQ(budget.save().most, 1.25 * 11);
  const CostRange all = budget.step() + budget.save() + budget.save();
  EXPECT_DOUBLE_EQ(all.usual, 2.025 + 2 * 1.0125);
  EXPECT_DOUBLE_EQ(all.most, 2.025 + 1.0125 + 1.25 * 11);
  EXPECT_TRUE(budget.fits(100 - all.most - 1e-9, budget.step() + budget.save()));
  EXPECT_FALSE(budget.fits(100 - all.most + 1e-9, budget.step() + budget.save()));
  for (int i = 0; i < 19; ++i) budget.save_took(1);
  EXPECT_DOUBLE_EQ(budget.save().most, 1.0125) << "twenty without one";
  EXPECT_EQ((CostRange::exactly(3) * 2).most, 6);
}

// The trial before the first step may have been stalled.
TEST(Budget, AnEvaluationIsExpectedToTakeSoManySteps) {
  Budget budget(1000.0, {.step = 10, .save = 0, .evaluation = 300});
  EXPECT_EQ(budget.evaluation().usual, 1.25 * 300);
  for (int i = 0; i < 20; ++i) budget.step_took(4, 2);
  EXPECT_EQ(budget.evaluation().usual, 1.25 * 60);
  EXPECT_EQ(budget.evaluation().most, 75);
  budget.step_took(44, 2);  // a stall is none of the evaluation's
  EXPECT_EQ(budget.evaluation().usual, 1.25 * 60);
  EXPECT_EQ(budget.expected_step(20), 40 + 40);  // nor does it grow with the step
  budget.evaluation_took(50);
  EXPECT_EQ(budget.evaluation().usual, 1.25 * 50);
}

TEST(Budget, ALargerStepIsTakenToCostAsMuchMore) {
  Budget budget(1000.0, {.step = 0.5, .save = 0, .evaluation = 0});
  EXPECT_EQ(budget.expected_step(16), 8);
  for (int i = 0; i < 20; ++i) budget.step_took(2, 4);
  EXPECT_EQ(budget.expected_step(4), 2);
  EXPECT_EQ(budget.expected_step(64), 32);
  EXPECT_EQ(budget.step(64).most, 32 * 1.0125);
  EXPECT_EQ(budget.expected_step(1), 2) << "what does not depend on the size is not known";
  // Of both sizes: one that was measured counts, as the first of its kind.
  budget.step_took(20, 64);
  EXPECT_EQ(budget.expected_step(64), 20);
  EXPECT_EQ(budget.step(64).most, 25);
  EXPECT_EQ(budget.expected_step(128), 40);
  EXPECT_EQ(budget.expected_step(4), 2);
  EXPECT_EQ(budget.expected_step(16), 20);
  for (int i = 0; i < 20; ++i) budget.step_took(20, 64);
  EXPECT_EQ(budget.expected_step(64), 20);
  EXPECT_EQ(budget.step(64).most, 20.25);
  EXPECT_EQ(budget.expected_step(4), 20);
}

TEST(Budget, LearnsTheSizesOfSteps) {
  const AttemptConditions then{.price_per_device_hour = {}, .flops_per_token = 10};
  const auto line = [&](int64_t attempt, const char* kind, int64_t tokens, double seconds) {
    LedgerLine l{.time = {},
                 .attempt = attempt,
                 .step = 1,
                 .tokens = tokens,
                 .kind = kind,
                 .ranks = 2,
                 .wall_seconds = 0,
                 .device_seconds = {},
                 .unaccounted_seconds = 0,
                 .predicted_seconds = {},
                 .save_seconds = {},
                 .beginning_seconds = {},
                 .weights_seconds = {},
                 .conditions = {}};
    l.device_seconds[CostKind::compute] = seconds;
    if (l.kind == "start") l.conditions = then;
    return l;
  };
  const auto lines = [&] {
    return std::vector<LedgerLine>{line(1, "start", 0, 9), line(1, "step", 100, 5), line(2, "start", 100, 9),
                                   line(2, "step", 300, 6)};
  };
  Budget budget(1000.0, {});
  budget.learn(lines(), 2, {.flops_per_token = 10});
  EXPECT_EQ(budget.expected_step(100), 5);
  EXPECT_EQ(budget.expected_step(200), 6);
  EXPECT_EQ(budget.expected_step(400), 12);
  // Steps with other work a token, or on other ranks, say nothing; a ledger that does not say has the same.
  for (const auto& [ranks, flops] : {std::pair{2, 11.0}, {3, 10.0}}) {
    Budget other(1000.0, {.step = 1, .save = 0, .evaluation = 0});
    other.learn(lines(), ranks, {.flops_per_token = flops});
    EXPECT_EQ(other.expected_step(100), 100);
  }
  // An evaluation is a line of its own, and no part of the step before it or after it.
  std::vector<LedgerLine> evaluated = lines();
  LedgerLine evaluation = line(2, "evaluation", 300, 0);
  evaluation.device_seconds[CostKind::evaluation] = 7;
  evaluated.push_back(evaluation);
  evaluated.push_back(line(2, "step", 400, 5.5));
  Budget with(1000.0, {});
  with.learn(evaluated, 2, {.flops_per_token = 10});
  EXPECT_EQ(with.evaluation().usual, 1.25 * 7);
  // Of other tokens, in an attempt whose first line moves what a restart throws away.
  std::vector<LedgerLine> large = evaluated;
  for (LedgerLine& l : large)
    if (l.kind == "start") l.conditions->valid_data = "large";
  large.insert(large.begin() + 2, line(2, "restart", 100, 0));
  for (const char* valid : {"large", "small"}) {
    Budget changed(1000.0, {.step = 1, .save = 0, .evaluation = 0.25});
    changed.learn(large, 2, {.flops_per_token = 10, .valid_data = valid});
    EXPECT_EQ(changed.evaluation().usual, 1.25 * (*valid == 'l' ? 7 : 0.25));
    EXPECT_EQ(changed.expected_step(100), 5.5);
    Budget shorter(1000.0, {});
    shorter.learn(large, 2, {.flops_per_token = 5, .valid_data = valid});
    EXPECT_EQ(shorter.expected_step(100), 0) << "no step of other work a token";
  }
  EXPECT_EQ(with.expected_step(100), 5.5);
  EXPECT_EQ(with.step(100).most, 5.5 * 1.125);  // 5 and 5.5
  std::vector<LedgerLine> silent = lines();
  for (LedgerLine& l : silent) l.conditions.reset();
  Budget unsaid(1000.0, {});
  unsaid.learn(silent, 2, {.flops_per_token = 10});
  EXPECT_EQ(unsaid.expected_step(100), 5);
}

// The machine may be slower than that of the attempt before.
TEST(Budget, WhatWasLearntIsNotTrustedBelowTheEstimateUntilOneWasMeasured) {
  LedgerLine save{};
  save.kind = "end";
  save.ranks = 2;
  save.device_seconds[CostKind::checkpoint] = 6;  // that all waited: for one that went on, too
  save.save_seconds = 3;
  Budget budget(1000.0, {.step = 10, .save = 1, .evaluation = 0});
  budget.learn({save}, 2, {.flops_per_token = 0});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(budget.step().most, 12.5);
  EXPECT_EQ(budget.save().most, 3.75);
  budget.step_took(2);
  EXPECT_EQ(budget.step().most, 2.5);
  budget.save_took(2);
  EXPECT_EQ(budget.save().most, 3.75);  // of 3 and 2
  Budget more(1000.0, {.step = 10, .save = 1, .evaluation = 0});
  more.learn({save}, 8, {.flops_per_token = 0});  // on four times as many ranks
  EXPECT_EQ(more.save().most, 15);
  more.save_took(4);
  EXPECT_EQ(more.save().most, 5) << "what those on other ranks took is no measure any more";
  // The disk became slow while the run was on two ranks, and is slow when it is on one again.
  LedgerLine cheap = save;
  cheap.ranks = 1;
  cheap.save_seconds = 0.1;
  Budget again(1000.0, {.step = 10, .save = 1, .evaluation = 0});
  again.learn({cheap, save}, 1, {.flops_per_token = 0});
  EXPECT_EQ(again.expected_save(), 3);
  EXPECT_EQ(again.save().most, 3.75);
  again.save_took(0.2);
  EXPECT_EQ(again.save().most, 0.2 + 0.25 * 0.2);  // of 0.1 and 0.2
  Budget since(1000.0, {.step = 10, .save = 1, .evaluation = 0});
  since.learn({save, cheap}, 1, {.flops_per_token = 0});
  EXPECT_EQ(since.save().most, 0.125);

  // One beside steps was dear: an attempt that ends for it must not look cheaper to the next start.
  Budget first(1000.0, {.step = 10, .save = 1, .evaluation = 0});
  first.save_took(9);
  first.save_took(3);
  LedgerLine dear = save;
  dear.kind = "checkpoint";
  dear.save_seconds = 9;
  Budget second(1000.0, {.step = 10, .save = 1, .evaluation = 0});
  second.learn({dear, save}, 2, {.flops_per_token = 0});
  EXPECT_EQ(second.expected_save(), first.expected_save());
  EXPECT_EQ(second.save().most, first.save().most);
  EXPECT_EQ(second.save().most, 11.25);
}

// An attempt that was killed, or failed, has no last save; lines of its checkpoints say what one takes.
TEST(Budget, WhatASaveTookIsKnownAfterAKill) {
  LedgerLine checkpoint{}, failed{};
  checkpoint.kind = "checkpoint";
  checkpoint.ranks = failed.ranks = 2;
  checkpoint.device_seconds[CostKind::checkpoint] = 0.01;  // that steps waited
  checkpoint.save_seconds = 4;
  failed.kind = "end";
  failed.device_seconds[CostKind::checkpoint] = 0.02;  // of a save that came to nothing
  Budget budget(1000.0, {.step = 10, .save = 1, .evaluation = 0});
  budget.learn({checkpoint, failed}, 2, {.flops_per_token = 0});
  EXPECT_EQ(budget.save().most, 5);
  Budget more(1000.0, {.step = 10, .save = 1, .evaluation = 0});
  more.learn({checkpoint, failed}, 4, {.flops_per_token = 0});
  EXPECT_EQ(more.save().most, 10);
}

// A disk that is slow to read from: who starts must read before it can do anything.
TEST(Budget, WhatABeginningTookIsKnown) {
  LedgerLine start{};
  start.kind = "start";
  start.ranks = 2;
  start.device_seconds[CostKind::startup] = 50;  // most of it before the look at the budget
  start.beginning_seconds = 1;
  Budget budget(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  EXPECT_EQ(budget.beginning(0.5, false).most, 0.5);
  EXPECT_EQ(budget.beginning(0.5, true).most, 5);
  budget.learn({start}, 2, {});
  EXPECT_EQ(budget.beginning(0.5, false).most, 1.25);
  EXPECT_EQ(budget.beginning(0.5, true).most, 5);
  start.beginning_seconds = 20;
  Budget slow(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  slow.learn({start}, 2, {});
  EXPECT_EQ(slow.beginning(0.5, true).most, 25);
  EXPECT_EQ(slow.save().most, 5);
  Budget more(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  more.learn({start}, 4, {});
  EXPECT_EQ(more.beginning(0.5, true).most, 50);
  // Who was killed while he read says as well that it takes that long.
  LedgerLine beat{};
  beat.kind = "beat";
  beat.attempt = 2;
  beat.ranks = 2;
  beat.device_seconds[CostKind::checkpoint] = 40;
  Budget killed(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  killed.learn({start, beat}, 2, {});
  EXPECT_EQ(killed.beginning(0.5, true).most, 50);
  start.attempt = 2;
  Budget stalled(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  stalled.learn({start, beat}, 2, {});
  EXPECT_EQ(stalled.beginning(0.5, true).most, 25) << "in a save that waited for another";
}

TEST(Budget, WhatTheFinalWeightsTookIsKnown) {
  LedgerLine end{};
  end.kind = "end";
  end.ranks = 2;
  end.weights_seconds = 40;
  Budget budget(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  EXPECT_EQ(budget.weights(1).most, 5);
  EXPECT_EQ(budget.weights(12).most, 20);
  budget.learn({end}, 2, {});
  EXPECT_EQ(budget.weights(2).most, 50);
  EXPECT_EQ(budget.weights(48).most, 80);
  EXPECT_EQ(budget.save().most, 5);
}

// A disk on which every line waits: those of the last step and of the end come behind the last look at the budget.
TEST(Budget, WhatClosingTakesIsKnown) {
  Budget budget(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  EXPECT_EQ(budget.closing(0.5).most, 0.5);
  budget.lines_took(2);
  EXPECT_EQ(budget.closing(0.5).most, 0.5 + 2 * 2.5);
  budget.loads_took(4);
  EXPECT_EQ(budget.closing(0.5).most, 0.5 + 2 * 2.5 + 5);
  LedgerLine start{}, end{};
  start.kind = "start";
  end.kind = "end";
  start.ranks = end.ranks = 2;
  end.device_seconds[CostKind::startup] = 18;
  end.device_seconds[CostKind::checkpoint] = end.save_seconds.emplace(12);
  end.device_seconds[CostKind::evaluation] = 5;  // given up
  end.weights_seconds = 10;
  Budget next(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  next.learn({start, end}, 2, {});
  EXPECT_EQ(next.closing(0.5).most, 10);  // 8 of its 35 seconds
  end.step = 1;
  Budget failed(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  failed.learn({start, end}, 2, {});
  EXPECT_EQ(failed.closing(0.5).most, 0.5);
  end.step = 0;
  Budget unbegun(1000.0, {.step = 10, .save = 4, .evaluation = 0});
  unbegun.learn({end}, 2, {});
  EXPECT_EQ(unbegun.closing(0.5).most, 0.5);
}

TEST(Budget, ASaveThatGoesOnIsAtLeastAsDearAsItWasUntilNow) {
  Budget budget(100.0, {.step = 1, .save = 1, .evaluation = 0});
  EXPECT_EQ(budget.save().most, 1.25);
  budget.save_goes_on(8);
  EXPECT_EQ(budget.save().most, 10);
  EXPECT_EQ(budget.expected_save(), 8);
  EXPECT_FALSE(budget.fits(91, {}));
  budget.save_took(9);
  EXPECT_EQ(budget.save().most, 11.25);
  budget.save_goes_on(0);
  EXPECT_EQ(budget.save().most, 11.25);
}

TEST(Budget, WhatIsLeftOfMoneyCountsAtThePresentPrice) {
  Budget budget(100, {});
  budget.set_left(60, 30, 200);  // half the price that 60 s were paid at would give 200 s in all, and 30 are left
  EXPECT_EQ(budget.limit(), 90);
  EXPECT_TRUE(budget.fits(60, CostRange::exactly(30)));
  EXPECT_FALSE(budget.fits(60, CostRange::exactly(30.1)));
  EXPECT_DOUBLE_EQ(*budget.left_fraction(60), 0.15);
  EXPECT_EQ(budget.warning(60), 80);
  EXPECT_EQ(budget.warning(81), 95);
}

TEST(Budget, FitsWithItsSaveOrNotAtAll) {
  const Budget budget(100, {.step = 8, .save = 4, .evaluation = 0});
  EXPECT_TRUE(budget.fits(85, CostRange::exactly(10)));
  EXPECT_FALSE(budget.fits(85.01, CostRange::exactly(10)));
  EXPECT_TRUE(Budget(std::nullopt, {}).fits(1e300, CostRange::exactly(1e300)));
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
