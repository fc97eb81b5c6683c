#include "cost/budget.hpp"

#include <algorithm>
#include <cmath>

namespace tael {

namespace {

constexpr size_t kRemembered = 20;
constexpr double kDoubt = 0.25;  // of the only one that is known
// Two measurements of one peak lie nearer than this; those of two machines, or of a busy one, may not.
constexpr double kSamePeak = 1.25;

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

void Budget::set_left(double spent, double left, double whole) {
  limit_ = spent + left;
  whole_ = whole;
}

namespace {

// How much more the same may cost now than in an attempt, at least 1 each.
struct Dearer {
  double work = 1;     // of a token
  double waiting = 1;  // of what all ranks wait for
};

// Nothing: the conditions are the same.
std::optional<Dearer> dearer_than(const LedgerLine& first, int64_t ranks, const AttemptConditions& now) {
  Dearer d;
  d.waiting = std::max(1.0, static_cast<double>(ranks) / static_cast<double>(std::max<int64_t>(1, first.ranks)));
  d.work = d.waiting;
  const std::optional<AttemptConditions>& then = first.conditions;
  if (!then || then->flops_per_token <= 0 || then->peak_flops <= 0) return d;
  const double flops = now.flops_per_token / then->flops_per_token, peak = then->peak_flops / now.peak_flops;
  if (first.ranks == ranks && flops == 1 && peak < kSamePeak && peak > 1 / kSamePeak) return std::nullopt;
  d.work *= std::max(1.0, flops * peak);
  return d;
}

}  // namespace

void Budget::learn(const std::vector<LedgerLine>& lines, int64_t ranks, const AttemptConditions& now) {
  int64_t attempt = 0, tokens = 0;  // of the line before
  std::optional<Dearer> dearer;
  for (const LedgerLine& line : lines) {
    const int64_t size = line.attempt == attempt ? line.tokens - tokens : 0;
    if (line.attempt != attempt) dearer = dearer_than(line, ranks, now);
    attempt = line.attempt;
    tokens = line.tokens;
    const double save = line.device_seconds[CostKind::checkpoint],
                 evaluation = line.device_seconds[CostKind::evaluation], step = line.sum() - save - evaluation;
    const bool is_step = line.kind == "step" && size > 0, evaluated = line.kind == "step" && evaluation > 0,
               saved = line.kind == "end" && save > 0;  // the last of an attempt: all waited for it
    if (!dearer) {
      if (is_step) step_took(step, static_cast<double>(size));
      if (evaluated) evaluation_took(evaluation);
      if (saved) save_took(save);
    } else {
      if (is_step) estimates_.step = std::max(estimates_.step, step / static_cast<double>(size) * dearer->work);
      if (evaluated) estimates_.evaluation = std::max(estimates_.evaluation, evaluation * dearer->work);
      if (saved) estimates_.save = std::max(estimates_.save, save * dearer->waiting);
    }
  }
}

bool Budget::fits(double spent, double device_seconds) const {
  return !limit_ || spent + device_seconds + save() <= *limit_;
}

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
