#include "cost/budget.hpp"

#include <algorithm>

namespace tael {

namespace {

constexpr size_t kRemembered = 20;
constexpr double kDoubt = 0.25;  // of the only one that is known

}  // namespace

void Budget::Costs::add(double device_seconds, double size) {
  last_.push_back({device_seconds, size});
  if (last_.size() > kRemembered) last_.pop_front();
}

double Budget::Costs::dearest(double estimate, double size) const {
  if (last_.empty()) return estimate * size;
  double most = 0;
  for (const Cost& cost : last_) most = std::max(most, cost.at(size));
  return most;
}

double Budget::Costs::at_most(double estimate, double size) const {
  if (last_.empty()) return estimate * size * (1 + kDoubt);
  double least = last_.front().at(size), most = least;
  for (const Cost& cost : last_) {
    least = std::min(least, cost.at(size));
    most = std::max(most, cost.at(size));
  }
  return most + std::max(most - least, most * kDoubt / static_cast<double>(last_.size()));
}

void Budget::learn(const std::vector<LedgerLine>& lines, int64_t ranks) {
  int64_t attempt = 0, tokens = 0;  // of the line before
  for (const LedgerLine& line : lines) {
    const int64_t size = line.attempt == attempt ? line.tokens - tokens : 0;
    attempt = line.attempt;
    tokens = line.tokens;
    if (line.ranks != ranks) continue;
    const double save = line.device_seconds[CostKind::checkpoint],
                 evaluation = line.device_seconds[CostKind::evaluation];
    if (line.kind == "step" && size > 0) step_took(line.sum() - save - evaluation, static_cast<double>(size));
    if (line.kind == "step" && evaluation > 0) evaluation_took(evaluation);
    if (line.kind == "end" && save > 0) save_took(save);  // the last of an attempt: all waited for it
  }
}

bool Budget::fits(double spent, double device_seconds) const {
  return !limit_ || spent + device_seconds + save() <= *limit_;
}

std::optional<double> Budget::left_fraction(double spent) const {
  if (!limit_) return std::nullopt;
  return std::clamp(1.0 - spent / *limit_, 0.0, 1.0);
}

int Budget::warning(double spent) {
  if (!limit_) return 0;
  const int passed = spent >= 0.95 * *limit_ ? 95 : spent >= 0.80 * *limit_ ? 80 : 0;
  if (passed <= warned_) return 0;
  return warned_ = passed;
}

}  // namespace tael
