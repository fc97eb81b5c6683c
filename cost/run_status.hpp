// RUN/status.json: what a run is doing now, in one small object that is always whole.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace tael {

struct RunStatus {
  std::string state;  // running, done, stopped (goes on when started again), budget (used up), failed
  int64_t step = 0, steps = 0;
  int64_t tokens = 0;
  double device_hours = 0;
  std::optional<double> eta_s = std::nullopt;  // seconds until the last step; nothing: not known
};

// Replaces `path` so that a reader sees the old object or the new one. Error(io).
void write_status(const std::string& path, const RunStatus& status, std::chrono::system_clock::time_point time);
// Nothing where there is no such file. Error(bad_data) with file and place for one that write_status did not write.
std::optional<RunStatus> read_status(const std::string& path);

}  // namespace tael
