#include "optim/lr_schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.hpp"

namespace tael {

namespace {

// From `from` to `to` along half a wave; `done` of `whole`.
double half_wave(double from, double to, int64_t done, int64_t whole) {
  const double fraction = static_cast<double>(done) / static_cast<double>(whole);
  return to + (from - to) * 0.5 * (1.0 + std::cos(std::numbers::pi * fraction));
}

double in_phases(const std::vector<LrPhase>& phases, double lr, int64_t tokens) {
  double from_lr = lr;
  int64_t from_tokens = 0;
  for (const LrPhase& phase : phases) {
    if (tokens < phase.until_tokens) {
      if (phase.shape == LrShape::constant) return phase.lr;
      return half_wave(from_lr, phase.lr, tokens - from_tokens, phase.until_tokens - from_tokens);
    }
    from_lr = phase.lr;
    from_tokens = phase.until_tokens;
  }
  return from_lr;
}

}  // namespace

double LrSchedule::at(int64_t step, int64_t tokens) const {
  CHECK(step >= 1, "step {}", step);
  double rate = lr;
  if (!phases.empty()) {
    rate = in_phases(phases, lr, tokens);
  } else if (shape == LrShape::cosine && step > warmup_steps) {
    // Beyond the last step (a run that was given more) the minimum stays.
    rate = step >= train_steps ? min_lr : half_wave(lr, min_lr, step - warmup_steps, train_steps - warmup_steps);
  }
  if (step < warmup_steps) rate *= static_cast<double>(step) / static_cast<double>(warmup_steps);
  return rate;
}

}  // namespace tael
