#include "cost/report_comparison.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/number_text.hpp"

namespace tael {

namespace {

// At x, of a line through points with ascending xs; where several have the same, that of the last.
std::optional<double> between(const std::vector<double>& xs, const std::vector<double>& ys, double x) {
  if (xs.empty() || x < xs.front() || x > xs.back()) return std::nullopt;
  const size_t right = static_cast<size_t>(std::upper_bound(xs.begin(), xs.end(), x) - xs.begin());
  if (xs[right - 1] == x) return ys[right - 1];
  const double part = (x - xs[right - 1]) / (xs[right] - xs[right - 1]);
  return ys[right - 1] + part * (ys[right] - ys[right - 1]);
}

// Costs ascend. Points of a time that had no price cost the same: the loss falls there for nothing.
void add_point(LossCurve& curve, double cost, int64_t tokens, double loss) {
  if (!std::isfinite(loss)) return;
  while (!curve.cost.empty() && curve.cost.back() > cost) {
    curve.cost.pop_back();
    curve.tokens.pop_back();
    curve.loss.pop_back();
  }
  curve.cost.push_back(cost);
  curve.tokens.push_back(static_cast<double>(tokens));
  curve.loss.push_back(loss);
}

LossCurve curve_of(const Report& r, bool validation, bool money) {
  const auto cost = [&](double hours) { return money ? *r.paid_until(hours) : hours; };
  LossCurve curve;
  if (validation) {
    for (const EvalPoint& e : comparable_evals(r.history)) add_point(curve, cost(e.device_hours), e.tokens, e.loss);
    return curve;
  }
  const std::vector<StepPoint>& steps = r.history.steps;
  const std::vector<double> losses = smoothed_losses(r.history);
  for (size_t i = 0; i < steps.size(); ++i) add_point(curve, cost(steps[i].device_hours), steps[i].tokens, losses[i]);
  return curve;
}

std::string common_currency(const std::vector<Report>& reports) {
  const std::optional<Money>& first = reports.front().facts.price_per_device_hour;
  const bool all = std::ranges::all_of(reports, [&](const Report& r) {
    const std::optional<Money>& price = r.facts.price_per_device_hour;
    return price && price->amount > 0 && price->currency == first->currency;
  });
  return all ? first->currency : std::string();
}

std::string value_of(const Report& r, std::string_view key) {
  const auto found = std::ranges::find_if(r.facts.settings, [&](const auto& s) { return s.first == key; });
  return found == r.facts.settings.end() ? std::string() : found->second;
}

// What the attempts said whose steps stand, each once.
template <class T>
std::set<T> said_by_attempts(const Report& r, T AttemptConditions::*member) {
  std::set<T> values;
  int64_t attempt = -1;
  for (const StepPoint& step : r.history.steps) {
    if (step.attempt == attempt) continue;
    attempt = step.attempt;
    values.insert(conditions_of(r.history, attempt).*member);
  }
  return values;
}

AttemptConditions of_the_last_evaluation(const Report& r) {
  return r.history.evals.empty() ? AttemptConditions{} : conditions_of(r.history, r.history.evals.back().attempt);
}

// Of runs, `said` of each. Who did not say (an older program) makes no difference.
bool differ(const std::vector<Report>& reports, const auto& said) {
  const auto first = said(reports.front());
  bool different = false;
  for (const Report& r : reports) {
    const auto values = said(r);
    if (values.empty() || values.contains({})) return false;
    different = different || values != first;
  }
  return different;
}

// What a run has that its device-hours do not pay for, and evaluations that are of another kind than its last.
void add_warnings_of_one(const Report& r, bool validation, std::vector<std::string>& warnings) {
  if (!r.facts.branched_from.empty()) {
    warnings.push_back(fmt::format("{} is a branch: what its first {} steps cost is not in its device-hours", r.name(),
                                   grouped(r.history.begin_step)));
  } else if (!r.history.steps.empty()) {
    const std::string from = conditions_of(r.history, r.history.steps.front().attempt).initial_weights;
    if (!from.empty())
      warnings.push_back(
          fmt::format("{} began with the weights of {}: what they cost is not in its device-hours", r.name(), from));
  }
  const size_t left_out = r.history.evals.size() - comparable_evals(r.history).size();
  if (validation && left_out > 0)
    warnings.push_back(fmt::format("{}: {} on other held-out data, or in other windows, than its last: left out",
                                   r.name(), count_of(static_cast<int64_t>(left_out), "evaluation")));
}

// `evaluated`: every run was.
std::vector<std::string> warnings_of(const std::vector<Report>& reports, bool validation, bool evaluated) {
  std::vector<std::string> warnings;
  const auto of_steps = [](auto member) { return [=](const Report& r) { return said_by_attempts(r, member); }; };
  const auto of_the_evaluation = [](auto member) {
    return [=](const Report& r) { return std::set{of_the_last_evaluation(r).*member}; };
  };
  if (!validation)
    warnings.push_back(fmt::format("{}: compared by training loss, smoothed over a fiftieth of the steps",
                                   evaluated ? "a run was evaluated too late for the cost or the loss of another"
                                             : "not every run was evaluated"));
  if (validation && differ(reports, of_the_evaluation(&AttemptConditions::seq_length)))
    warnings.push_back("the runs were evaluated in windows of different lengths: a longer one helps the prediction");
  if (!validation && differ(reports, of_steps(&AttemptConditions::seq_length)))
    warnings.push_back("the runs trained in windows of different lengths: a longer one helps the prediction");
  if (validation && differ(reports, of_the_evaluation(&AttemptConditions::valid_data)))
    warnings.push_back("the runs were evaluated on different held-out data: their losses are not comparable");
  if (!validation && differ(reports, of_steps(&AttemptConditions::data)))
    warnings.push_back("the runs trained on different data: their training losses are not comparable");
  if (differ(reports, [](const Report& r) { return std::set{r.history.tokenizer}; }))
    warnings.push_back("the runs have different tokenizers: a loss per token is not comparable");
  for (const Report& r : reports) add_warnings_of_one(r, validation, warnings);
  if (differ(reports, of_steps(&AttemptConditions::device)))
    warnings.push_back("the runs were on different devices: an hour of one is not an hour of the other");
  return warnings;
}

std::vector<Comparison::Setting> different_settings(const std::vector<Report>& reports) {
  std::vector<Comparison::Setting> settings;
  std::vector<std::string> keys;
  for (const Report& r : reports) {
    for (const auto& [key, value] : r.facts.settings)
      if (std::ranges::find(keys, key) == keys.end()) keys.push_back(key);
  }
  for (const std::string& key : keys) {
    Comparison::Setting setting{.key = key, .values = {}};
    for (const Report& r : reports) setting.values.push_back(value_of(r, key));
    const bool same = std::ranges::all_of(setting.values, [&](const std::string& v) { return v == setting.values[0]; });
    if (!same) settings.push_back(std::move(setting));
  }
  return settings;
}

}  // namespace

std::optional<double> LossCurve::loss_at(double at) const { return between(cost, loss, at); }
std::optional<double> LossCurve::tokens_at(double at) const { return between(cost, tokens, at); }

std::optional<double> LossCurve::cost_of(double reached) const {
  for (size_t i = 0; i < loss.size(); ++i) {
    if (loss[i] > reached) continue;
    if (i == 0) return loss[0] == reached ? std::optional(cost[0]) : std::nullopt;  // when it was is not known
    const double part = (loss[i - 1] - reached) / (loss[i - 1] - loss[i]);
    return cost[i - 1] + part * (cost[i] - cost[i - 1]);
  }
  return std::nullopt;
}

namespace {

void fill_rows(Comparison& c, const std::vector<Report>& reports) {
  c.rows.clear();
  c.same_cost.reset();
  c.same_loss.reset();
  bool every = true;
  double cost = 0, loss = 0;
  for (const Report& r : reports) {
    Comparison::Row row{.name = r.name(),
                        .curve = curve_of(r, c.validation, !c.currency.empty()),
                        .cost = c.currency.empty() ? r.device_hours : r.money->amount,
                        .loss_at_cost = {},
                        .tokens_at_cost = {},
                        .cost_of_loss = {}};
    every = every && !row.curve.cost.empty();
    if (every) {
      const double reached = *std::ranges::min_element(row.curve.loss);
      cost = c.rows.empty() ? row.curve.cost.back() : std::min(cost, row.curve.cost.back());
      loss = c.rows.empty() ? reached : std::max(loss, reached);
    }
    c.rows.push_back(std::move(row));
  }
  if (!every) return;
  c.same_cost = cost;
  c.same_loss = loss;
  for (Comparison::Row& row : c.rows) {
    row.loss_at_cost = row.curve.loss_at(cost);
    row.tokens_at_cost = row.curve.tokens_at(cost);
    row.cost_of_loss = row.curve.cost_of(loss);
  }
}

bool complete(const Comparison& c) {
  return std::ranges::all_of(c.rows, [](const Comparison::Row& row) { return row.loss_at_cost && row.cost_of_loss; });
}

}  // namespace

Comparison compare(const std::vector<Report>& reports) {
  Comparison c;
  c.validation = std::ranges::all_of(reports, [](const Report& r) { return !r.history.evals.empty(); });
  c.currency = common_currency(reports);
  fill_rows(c, reports);
  // Evaluations are few: what a run had reached by then, or when it did, may lie before its first.
  const bool evaluated = c.validation;
  if (evaluated && !complete(c)) {
    Comparison by_training = c;
    by_training.validation = false;
    fill_rows(by_training, reports);
    if (complete(by_training)) c = std::move(by_training);
  }
  c.warnings = warnings_of(reports, c.validation, evaluated);
  c.settings = different_settings(reports);
  return c;
}

}  // namespace tael
