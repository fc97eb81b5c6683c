#include "cost/budget.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tael {

namespace {

constexpr size_t kRemembered = 20;
constexpr double kDoubt = 0.25;  // of the only one that is known

CostRange dearer(const CostRange& a, const CostRange& b) {
  return {std::max(a.usual, b.usual), std::max(a.most, b.most)};
}

// What the last line of an attempt holds beside a save, an evaluation that was given up, and the weights.
double closing_of(const LedgerLine& end) {
  return std::max(0.0, end.sum() - end.save_seconds.value_or(0) - end.device_seconds[CostKind::evaluation] -
                           end.weights_seconds.value_or(0));
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

void Budget::Costs::add(double device_seconds, double size) {
  last_.push_back({device_seconds, size});
  if (last_.size() > kRemembered) last_.pop_front();
}

std::vector<double> Budget::Costs::known(double size) const {
  double larger = std::numeric_limits<double>::infinity(), largest = 0;
  for (const Cost& cost : last_) {
    if (cost.size >= size) larger = std::min(larger, cost.size);
    largest = std::max(largest, cost.size);
  }
  const double nearest = larger < std::numeric_limits<double>::infinity() ? larger : largest;
  std::vector<double> costs;
  for (const Cost& cost : last_)
    if (cost.size == nearest) costs.push_back(cost.device_seconds);
  // The usual cost grows with the size; what a stall added does not.
  const double added = median(costs) * (std::max(1.0, size / nearest) - 1);
  for (double& cost : costs) cost += added;
  return costs;
}

double Budget::Costs::expected(double estimate, double size) const {
  if (last_.empty()) return estimate * size;
  const std::vector<double> costs = known(size);
  return std::max(median(costs), costs.back());
}

CostRange Budget::Costs::range(double estimate, double size) const {
  const double guess = estimate * size * (1 + kDoubt);
  if (last_.empty()) return CostRange::exactly(guess);
  const std::vector<double> costs = known(size);
  const auto [least, most] = std::ranges::minmax(costs);
  const double doubt = kDoubt / static_cast<double>(costs.size());
  const CostRange measured{std::max(median(costs), costs.back()) * (1 + doubt),
                           most + std::clamp(most - least, most * doubt, most * kDoubt)};
  return measured_ ? measured : CostRange{std::max(measured.usual, guess), std::max(measured.most, guess)};
}

std::optional<double> Budget::Costs::of_size_1() const {
  if (!measured_) return std::nullopt;
  return median(known(last_.back().size)) / last_.back().size;
}

double Budget::evaluation_estimate() const {
  const std::optional<double> step = steps_.of_size_1();
  return step && estimates_.step > 0 ? estimates_.evaluation * *step / estimates_.step : estimates_.evaluation;
}

void Budget::set_left(double spent, double left, double whole) {
  limit_ = spent + left;
  whole_ = whole;
}

void Budget::learn(const std::vector<LedgerLine>& lines, int64_t ranks, const AttemptConditions& now) {
  const std::map<int64_t, AttemptConditions> then = conditions_of_attempts(lines);
  int64_t attempt = 0, step = 0, tokens = 0;  // of the line before
  bool begun = false;                         // that attempt
  for (const LedgerLine& line : lines) {
    const int64_t size = line.attempt == attempt ? line.tokens - tokens : 0;
    begun = line.kind == "start" || (begun && line.attempt == attempt);
    attempt = line.attempt;
    tokens = line.tokens;
    // On more ranks more of them wait for what is as long.
    const double more =
        std::max(1.0, static_cast<double>(ranks) / static_cast<double>(std::max<int64_t>(1, line.ranks)));
    if (line.beginning_seconds) beginnings_.add(*line.beginning_seconds * more, 1);
    if (line.weights_seconds) weights_.add(*line.weights_seconds * more, 1);
    // One that failed names the step that it was in.
    if (line.kind == "end" && begun && line.step == step) closings_.add(closing_of(line) * more, 1);
    step = line.step;
    // It was killed, or failed, while it read.
    if (const double read = line.device_seconds[CostKind::checkpoint]; !begun && read > 0)
      beginnings_.add(read * more, 1);
    if (line.save_seconds) {
      if (line.ranks == ranks) saves_of_others_ = {};
      (line.ranks == ranks ? saves_ : saves_of_others_).add(*line.save_seconds * more, 1);
      // Nothing is tried of a save: what is known is better than any estimate.
      estimates_.save = std::max(saves_.expected(0, 1), saves_of_others_.expected(0, 1));
    }
    const auto said = then.find(attempt);
    const AttemptConditions& c = said == then.end() ? now : said->second;
    if (line.ranks != ranks || c.flops_per_token != now.flops_per_token) continue;
    if (line.kind == "step" && size > 0)
      steps_.add(line.sum() - line.device_seconds[CostKind::checkpoint], static_cast<double>(size));
    if (line.kind == "evaluation" && c.valid_data == now.valid_data)
      evaluations_.add(line.device_seconds[CostKind::evaluation], 1);
  }
}

double Budget::expected_save() const {
  const double own = saves_.none() && !saves_of_others_.none() ? 0 : saves_.expected(estimates_.save, 1);
  return std::max({own, saves_of_others_.expected(0, 1), save_so_far_});
}

CostRange Budget::save() const {
  CostRange range = CostRange::exactly(save_so_far_ * (1 + kDoubt));
  if (!saves_of_others_.none()) range = dearer(range, saves_of_others_.range(estimates_.save, 1));
  if (!saves_.none() || saves_of_others_.none()) range = dearer(range, saves_.range(estimates_.save, 1));
  return range;
}

CostRange Budget::beginning(double least, bool reads) const {
  return dearer(CostRange::exactly(least), dearer(reads ? save() : CostRange{}, beginnings_.range(0, 1)));
}

CostRange Budget::closing(double least) const {
  const CostRange written = CostRange::exactly(least) + lines_.range(0, 1) * 2 + loads_.range(0, 1);
  return dearer(written, closings_.range(0, 1));
}

CostRange Budget::weights(double ranks) const {
  return dearer(save() * std::max(1.0, ranks / 3), weights_.range(0, 1));
}

bool Budget::fits(double spent, const CostRange& work) const { return pays(spent, work + save()); }

std::optional<double> Budget::left_fraction(double spent) const {
  if (!limit_) return std::nullopt;
  if (!std::isfinite(whole_)) return 1.0;
  return whole_ > 0 ? std::clamp((*limit_ - spent) / whole_, 0.0, 1.0) : 0.0;
}

int Budget::warning(double spent) {
  if (!limit_ || !std::isfinite(whole_)) return 0;
  const double left = *limit_ - spent;
  const int passed = left <= 0.05 * whole_ ? 95 : left <= 0.20 * whole_ ? 80 : 0;
  if (passed <= warned_) return 0;
  return warned_ = passed;
}

}  // namespace tael
