// RUN/metrics.jsonl, the record of a run, and RUN/experts.jsonl, the load of its experts.
//
// metrics.jsonl is append only, one object a line: t attempt step tokens kind, then flat names
// (trainer/step_report.hpp). Numbers are the shortest text that reads back the same; one that is not finite is null and
// is named in the list `nonfinite`. A line reaches the file in one write; sync() brings the file to the disk. Rank 0
// alone writes. All failures are Error(io). Not for several threads at once.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.hpp"
#include "base/iso_time.hpp"
#include "base/view.hpp"
#include "trainer/step_report.hpp"

namespace tael {

using Clock = std::chrono::system_clock;

class MetricsFile {
 public:
  // Goes on with the file, or makes it. `attempt` counts the starts of the run from 1.
  MetricsFile(const std::string& path, int64_t attempt);

  void write(const StepReport& report, Clock::time_point time);        // kind "step"
  void write(const EvalReport& report, Clock::time_point time);        // kind "eval"
  void write(const CheckpointReport& report, Clock::time_point time);  // kind "checkpoint"
  // kind "event": something that happened, such as a changed setting; `text` under the name "message".
  void write_event(int64_t step, int64_t tokens, std::string_view text, Clock::time_point time);
  // kind "end": the last line of an attempt, with the state of status.json under the name "state".
  void write_end(int64_t step, int64_t tokens, std::string_view state, Clock::time_point time);

  void sync() const { file_.sync(); }

 private:
  struct Line;
  template <class Report>
  void write_report(const Report& report, std::string_view kind, Clock::time_point time);
  void append(Line& line);

  File file_;
  int64_t attempt_;
  uint64_t size_ = 0;
};

// What the file says of the evaluation of this step in the history that stands, as far as its last 64 MiB tell: an
// attempt that began before the step lost what was there.
inline constexpr std::string_view kGivenUp = "was given up";    // in the event that says so
inline constexpr uint64_t kSearchedBytes = uint64_t{64} << 20;  // of the end of the file, by evaluation_of_step
struct EvaluationOfStep {
  bool made = false;
  int given_up = 0;  // how often
};
EvaluationOfStep evaluation_of_step(const std::string& path, int64_t step);

// RUN/experts.jsonl: how the tokens of a step were spread over experts, for some 64 of the steps that an attempt
// has before it, the first and the last that it did among them, so that any length of run makes a file of a size that a
// report can read. A line: {"t", "attempt", "step", "tokens", "layers": [number of each MoE layer, MTP modules behind
// the last], "counts": [[tokens of each expert, by all ranks], ... a layer]}.
class ExpertLoadFile {
 public:
  // `layers`: the number of each row of the counts.
  ExpertLoadFile(const std::string& path, int64_t attempt, std::vector<int64_t> layers);
  // Step `step` of the `steps` of an attempt, from 1.
  static bool due(int64_t step, int64_t steps) { return step == 1 || step * 64 / steps != (step - 1) * 64 / steps; }
  void write(int64_t step, int64_t tokens, Mat<const int64_t> counts_LE, Clock::time_point time);

 private:
  File file_;
  int64_t attempt_;
  std::vector<int64_t> layers_;
  uint64_t size_ = 0;
};

}  // namespace tael
