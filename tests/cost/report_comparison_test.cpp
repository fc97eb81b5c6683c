// Runs compared: at equal cost, at equal loss, and what stands in the way.
#include "cost/report_comparison.hpp"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <array>

#include "cost/report_formats.hpp"

namespace tael {
namespace {

Report run_of(const std::string& name, double price, const std::vector<std::array<double, 3>>& evals) {
  RunHistory h;
  for (const auto& [hours, tokens, loss] : evals) {
    EvalPoint e;
    e.tokens = static_cast<int64_t>(tokens);
    e.loss = loss;
    e.device_hours = hours;
    h.evals.push_back(e);
  }
  ReportFacts f;
  f.directory = name;
  if (price > 0) f.price_per_device_hour = Money{"usd", price};
  f.settings = {{"optimizer.lr", name}, {"run.seed", "1"}};
  return make_report(std::move(h), std::move(f));
}

TEST(Comparison, AtEqualCostAndAtEqualLoss) {
  // The second has an hour at half the price: it gets twice the hours for the same money.
  const Comparison c = compare(
      {run_of("a", 2, {{1, 100, 4.0}, {2, 200, 3.0}, {4, 400, 2.0}}), run_of("b", 1, {{2, 100, 5.0}, {6, 300, 2.5}})});
  EXPECT_EQ(c.currency, "usd");
  EXPECT_TRUE(c.validation);
  EXPECT_EQ(c.same_cost, 6);    // b ends at 6, a at 8
  EXPECT_EQ(c.same_loss, 2.5);  // b's best
  EXPECT_EQ(c.rows[0].loss_at_cost, 2.5);
  EXPECT_EQ(c.rows[0].tokens_at_cost, 300);
  EXPECT_EQ(c.rows[0].cost_of_loss, 6);
  EXPECT_EQ(c.rows[1].loss_at_cost, 2.5);
  EXPECT_EQ(c.rows[1].cost_of_loss, 6);
  EXPECT_TRUE(c.warnings.empty());
  ASSERT_EQ(c.settings.size(), 1u);
  EXPECT_EQ(c.settings[0].values, (std::vector<std::string>{"a", "b"}));
}

TEST(Comparison, WithoutCommonPricesCountsHours) {
  const Comparison c = compare({run_of("a", 2, {{1, 100, 4.0}, {3, 200, 3.0}}), run_of("b", 0, {{2, 100, 3.5}})});
  EXPECT_EQ(c.currency, "");
  EXPECT_EQ(c.same_cost, 2);
  EXPECT_EQ(c.rows[0].loss_at_cost, 3.5);
  EXPECT_EQ(c.same_loss, 3.5);
  EXPECT_EQ(c.rows[0].cost_of_loss, 2);
}

TEST(Comparison, AtAPriceOfNothingCountsHours) {
  const Report free = run_of("a", 2, {{1, 100, 4.0}, {3, 200, 3.0}});
  Report paid = run_of("b", 2, {{2, 100, 3.5}});
  EXPECT_EQ(compare({free, paid}).currency, "usd");
  paid.facts.price_per_device_hour->amount = 0;
  EXPECT_EQ(compare({free, paid}).currency, "");
}

// Its first attempt had a price of 0: what it reached then it reached for nothing.
TEST(Comparison, WhatWasReachedForNothingCostsNothing) {
  Report a = run_of("a", 2, {{1, 100, 5.0}, {2, 200, 4.0}, {4, 400, 2.0}}),
         b = run_of("b", 2, {{1, 100, 6.0}, {2, 200, 4.5}});
  AttemptCost free, paid;
  free.device_hours = 2;
  free.price = 0;
  paid.device_hours = 2;
  paid.price = 2;
  a.attempts = {free, paid};
  const Comparison c = compare({a, b});
  EXPECT_EQ(c.same_loss, 4.5);
  EXPECT_EQ(c.rows[0].cost_of_loss, 0);
  EXPECT_EQ(c.rows[1].cost_of_loss, 4);
  EXPECT_EQ(c.rows[0].curve.loss_at(0), 4.0);  // the best that was free
  EXPECT_EQ(c.rows[0].curve.loss_at(2), 3.0);
}

TEST(Comparison, SaysWhereACurveDoesNotReach) {
  const Comparison c = compare({run_of("a", 0, {{5, 100, 4.0}}), run_of("b", 0, {{1, 10, 6.0}, {2, 100, 5.0}})});
  EXPECT_EQ(c.same_cost, 2);
  EXPECT_FALSE(c.rows[0].loss_at_cost) << "its first point costs more";
  EXPECT_EQ(c.same_loss, 5);
  EXPECT_FALSE(c.rows[0].cost_of_loss) << "its first point is better, and when it was at 5 is not known";
  EXPECT_EQ(c.rows[1].cost_of_loss, 2);
  // From its first point on it is known.
  EXPECT_EQ(
      compare({run_of("a", 0, {{5, 100, 5.0}}), run_of("b", 0, {{1, 10, 6.0}, {2, 100, 5.0}})}).rows[0].cost_of_loss,
      5);
}

// The same training, evaluated early and often, and late.
TEST(Comparison, GoesByTrainingLossWhereEvaluationsComeTooLate) {
  Report often = run_of("often", 0, {{1, 100, 4.0}, {2, 200, 3.0}}), late = run_of("late", 0, {{4, 400, 1.5}});
  for (Report* r : {&often, &late}) {
    r->history.steps.clear();
    for (int64_t step = 1; step <= (r == &often ? 2 : 4); ++step)
      r->history.steps.push_back({.step = step,
                                  .tokens = 100 * step,
                                  .loss = 5.0 - static_cast<double>(step),
                                  .mfu = {},
                                  .max_violation = {},
                                  .device_hours = static_cast<double>(step)});
  }
  const Comparison c = compare({often, late});
  EXPECT_FALSE(c.validation);
  EXPECT_EQ(c.same_cost, 2);
  EXPECT_EQ(c.same_loss, 3);
  for (const Comparison::Row& row : c.rows) {
    EXPECT_EQ(row.loss_at_cost, 3);
    EXPECT_EQ(row.tokens_at_cost, 200);
    EXPECT_EQ(row.cost_of_loss, 2);
  }
  ASSERT_EQ(c.warnings.size(), 1u);
  EXPECT_TRUE(c.warnings[0].starts_with("a run was evaluated too late for the cost or the loss of another"))
      << c.warnings[0];
}

TEST(Comparison, WarnsOfWhatCannotBeCompared) {
  Report a = run_of("a", 0, {{1, 10, 6.0}}), b = run_of("b", 0, {{1, 10, 6.0}});
  for (Report* r : {&a, &b}) {
    r->history.evals[0].attempt = 2;
    for (int64_t attempt = 1; attempt <= 2; ++attempt) {
      r->history.steps.push_back(
          {.step = attempt, .tokens = 10 * attempt, .attempt = attempt, .mfu = {}, .max_violation = {}});
      r->history.conditions[attempt] = {.device = "cpu, 1 thread", .seq_length = 32, .data = "d", .valid_data = "v"};
    }
  }
  const auto warnings = [&] { return fmt::format("{}", fmt::join(compare({a, b}).warnings, "|")); };
  EXPECT_EQ(warnings(), "");
  b.history.tokenizer = "other";
  EXPECT_EQ(warnings(), "");  // an older program did not say a's
  a.history.tokenizer = "bytes";
  EXPECT_EQ(warnings(), "the runs have different tokenizers: a loss per token is not comparable");
  b.history.tokenizer = a.history.tokenizer;
  AttemptConditions& first = b.history.conditions[1];
  AttemptConditions& second = b.history.conditions[2];
  second.valid_data = "other";
  EXPECT_EQ(warnings(), "the runs were evaluated on different held-out data: their losses are not comparable");
  second.valid_data = "v";
  second.seq_length = 64;
  EXPECT_EQ(warnings(), "the runs were evaluated in windows of different lengths: a longer one helps the prediction");
  second.seq_length = 32;
  first.device = "cpu, 2 threads";
  EXPECT_EQ(warnings(), "the runs were on different devices: an hour of one is not an hour of the other");
  first.device = second.device;
  first.initial_weights = "mine";
  EXPECT_EQ(warnings(), "b began with the weights of mine: what they cost is not in its device-hours");
  second.initial_weights = "mine";
  first.initial_weights = "";
  EXPECT_EQ(warnings(), "") << "a start that finds a checkpoint reads no others";
  Report silent = b;
  silent.history.conditions.clear();
  EXPECT_TRUE(compare({a, silent}).warnings.empty()) << "an older program did not say";

  // By training loss.
  b.history.evals.clear();
  const std::string unevaluated =
      "not every run was evaluated: compared by training loss, smoothed over a fiftieth of the steps";
  EXPECT_EQ(warnings(), unevaluated);
  first.seq_length = 64;
  EXPECT_EQ(warnings(),
            unevaluated + "|the runs trained in windows of different lengths: a longer one helps the prediction");
  first.seq_length = 32;
  second.data = "other";
  EXPECT_EQ(warnings(), unevaluated + "|the runs trained on different data: their training losses are not comparable");
  b.history.steps.clear();
  const Comparison c = compare({a, b});
  EXPECT_FALSE(c.validation);
  EXPECT_FALSE(c.same_cost);
  EXPECT_FALSE(comparison_page(c, {a, b}).empty());
}

// A run that went on with other held-out data: what it reached on the other stands on no curve.
TEST(Comparison, LeavesOutEvaluationsOfAnotherKindThanTheLast) {
  Report a = run_of("a", 0, {{1, 10, 2.0}, {2, 20, 5.0}, {4, 40, 3.0}}),
         b = run_of("b", 0, {{2, 20, 6.0}, {4, 40, 4.0}});
  for (Report* r : {&a, &b})
    for (int64_t attempt : {0, 1}) r->history.conditions[attempt] = {.seq_length = 32, .valid_data = "v"};
  a.history.conditions[0].valid_data = "easier";
  for (size_t i : {1, 2}) a.history.evals[i].attempt = 1;
  const Comparison c = compare({a, b});
  EXPECT_EQ(c.rows[0].curve.loss, (std::vector<double>{5, 3}));
  EXPECT_EQ(c.warnings, (std::vector<std::string>{
                            "a: 1 evaluation on other held-out data, or in other windows, than its last: left out"}));
  EXPECT_EQ(make_report(a.history, a.facts).best_valid_loss, 3);
  a.history.conditions[0] = {.seq_length = 64, .valid_data = "v"};
  EXPECT_EQ(make_report(a.history, a.facts).best_valid_loss, 3);
}

}  // namespace
}  // namespace tael
