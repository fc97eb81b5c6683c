// How much a run may still spend, and whether the next thing fits. Device-seconds, over all attempts of the run.
//
// The rule: nothing is begun that could not be ended, and saved, inside the budget. What things cost is what they cost
// lately: the most expensive of the last steps, the most expensive save and evaluation; before the first of its kind,
// an estimate.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace tael {

class Budget {
 public:
  struct Estimates {
    double step = 0, save = 0, evaluation = 0;  // device-seconds, until the first of each was measured
  };
  // `limit`: nothing means that there is no limit.
  Budget(std::optional<double> limit, const Estimates& estimates) : limit_(limit), estimates_(estimates) {}

  void step_took(double device_seconds);
  void save_took(double device_seconds);
  void evaluation_took(double device_seconds);
  double step() const;  // what the next one is taken to cost
  double save() const { return save_.value_or(estimates_.save); }
  double evaluation() const { return evaluation_.value_or(estimates_.evaluation); }

  std::optional<double> limit() const { return limit_; }
  // Whether work of `device_seconds` and a save fit into what is left after `spent`.
  bool fits(double spent, double device_seconds) const;
  std::optional<double> left_fraction(double spent) const;  // 0 to 1
  // 80 or 95 when `spent` has passed that part of the budget, each once; 0 otherwise.
  int warning(double spent);

 private:
  static constexpr size_t kRemembered = 20;

  std::optional<double> limit_;
  Estimates estimates_;
  std::deque<double> steps_;
  std::optional<double> save_, evaluation_;
  int warned_ = 0;
};

}  // namespace tael
