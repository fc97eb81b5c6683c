#include "cost/budget.hpp"

#include <algorithm>

namespace tael {

void Budget::step_took(double device_seconds) {
  steps_.push_back(device_seconds);
  if (steps_.size() > kRemembered) steps_.pop_front();
}

void Budget::save_took(double device_seconds) { save_ = std::max(device_seconds, save_.value_or(0)); }

void Budget::evaluation_took(double device_seconds) { evaluation_ = device_seconds; }

double Budget::step() const { return steps_.empty() ? estimates_.step : std::ranges::max(steps_); }

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
