// Runs compared: at equal cost, at equal loss, and what stands in the way.
#include "cost/report_comparison.hpp"

#include <gtest/gtest.h>

#include <array>

#include "cost/report_formats.hpp"

namespace tael {
namespace {

Report run_of(const std::string& name, double price, const std::vector<std::array<double, 3>>& evals) {
  RunHistory h;
  h.valid_data = {"v"};
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
  b.history.valid_data = {"other"};
  b.history.cpu = "other";
  b.history.tokenizer = "other";
  EXPECT_EQ(compare({a, b}).warnings.size(), 2u);  // an older program did not say a's
  a.history.tokenizer = "bytes";
  EXPECT_EQ(compare({a, b}).warnings.size(), 3u);
  a.facts.settings.push_back({"training.seq_length", "64"});
  EXPECT_EQ(compare({a, b}).warnings.size(), 4u);
  b.history.evals.clear();
  const Comparison c = compare({a, b});
  EXPECT_FALSE(c.validation);
  EXPECT_FALSE(c.same_cost);
  EXPECT_FALSE(comparison_page(c, {a, b}).empty());
}

}  // namespace
}  // namespace tael
