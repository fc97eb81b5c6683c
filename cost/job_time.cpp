#include "cost/job_time.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/json.hpp"

namespace tael {

std::optional<MeasuredSteps> measured_steps(std::string_view lines) {
  std::map<int64_t, double> seconds_of_step;
  while (!lines.empty()) {
    const size_t end = lines.find('\n');
    if (end == lines.npos) break;  // torn
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 1);
    try {
      const JsonDocument document = JsonDocument::parse(line, "metrics.jsonl");
      const Json& root = document.root();
      if (root.at("kind").as_string() != "step") continue;
      seconds_of_step[root.at("step").as_int()] = root.at("perf/step_ms").as_double() / 1e3;
    } catch (const Error&) {
      continue;
    }
  }
  if (seconds_of_step.empty()) return std::nullopt;
  std::vector<double> seconds;
  for (const auto& [step, value] : seconds_of_step) seconds.push_back(value);
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return MeasuredSteps{.median_seconds = *middle, .count = static_cast<int64_t>(seconds.size())};
}

double predicted_step_seconds(double flops_per_step, double peak_flops_per_second) {
  return flops_per_step / (kAssumedShareOfPeak * peak_flops_per_second);
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
