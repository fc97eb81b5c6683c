#include "cost/job_time.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/json.hpp"

namespace tael {

std::optional<MeasuredSteps> measured_steps(std::string_view lines) {
  std::map<int64_t, double> flops_of_step;
  while (!lines.empty()) {
    const size_t end = lines.find('\n');
    if (end == lines.npos) break;  // torn
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 1);
    try {
      const JsonDocument document = JsonDocument::parse(line, "metrics.jsonl");
      const Json& root = document.root();
      if (root.at("kind").as_string() != "step") continue;
      const double flops = root.at("perf/tflops_per_gpu").as_double() * 1e12;
      if (flops > 0) flops_of_step[root.at("step").as_int()] = flops;
    } catch (const Error&) {
      continue;
    }
  }
  if (flops_of_step.empty()) return std::nullopt;
  std::vector<double> rates;
  for (const auto& [step, flops] : flops_of_step) rates.push_back(flops);
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>((rates.size() - 1) / 2);  // of two the slower
  std::nth_element(rates.begin(), middle, rates.end());
  return MeasuredSteps{.median_flops = *middle, .count = static_cast<int64_t>(rates.size())};
}

double predicted_step_seconds(double flops_per_step, double peak_flops_per_second) {
  return flops_per_step / (kAssumedShareOfPeak * peak_flops_per_second);
}

double evaluation_cost(double training_cost_of_a_token, double tokens) { return training_cost_of_a_token / 3 * tokens; }

int64_t evaluations_left(int64_t done, int64_t steps, int64_t interval) {
  if (steps <= done) return 0;
  const int64_t between = interval > 0 ? (steps - 1) / interval - done / interval : 0;
  return between + 1;
}

double predicted_save_seconds(double state_bytes) { return 1 + state_bytes / kAssumedFileRate; }

double predicted_start_up_seconds(double state_bytes, double data_bytes) {
  return kAssumedLaunchSeconds + (state_bytes + data_bytes) / kAssumedFileRate;
}

int64_t default_limit_minutes(const JobTime& time, double run_seconds) {
  constexpr double kLeast = 10, kMost = 24 * 60, kMargin = 1.5;
  const double attempt = std::ceil((time.least_seconds() + time.save_seconds + kSchedulerSlackSeconds) / 60);
  const double run = std::ceil((time.start_up_seconds + time.save_seconds + kMargin * run_seconds) / 60);
  return static_cast<int64_t>(std::max({kLeast, attempt, std::min(run, kMost)}));
}

int64_t signal_seconds(const JobTime& time, double limit_seconds) {
  constexpr double kMost = 65535;  // sbatch: sixteen bits
  const double wanted = 2 * time.save_seconds + time.step_seconds + kSchedulerSlackSeconds;
  const double possible = limit_seconds - time.start_up_seconds - time.step_seconds;
  return static_cast<int64_t>(std::clamp(std::ceil(std::min(wanted, possible)), 1.0, kMost));
}

}  // namespace tael
