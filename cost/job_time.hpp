// What a job will take of the clock before it has run: a step from its arithmetic or from the steps of earlier
// attempts, start-up and a save from the bytes they move. Rough on purpose, with every assumption a constant here that
// is said where the figure is shown; `tael plan` will know better.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tael {

// Of the multiply-add peak, in training. CPU runs of ours reach 60 to 75% with all operands in cache, large models and
// many nodes less; a job that was given too little time is worse than one that ends early.
inline constexpr double kAssumedShareOfPeak = 0.25;
// To and from the file system that all nodes share, all ranks together, bytes a second.
inline constexpr double kAssumedFileRate = 200e6;
// Scheduler, launcher and MPI, until a rank does its first own work.
inline constexpr double kAssumedLaunchSeconds = 15;
// Slurm looks at its limits that often: a signal may come so much late, and is asked for so much earlier.
inline constexpr double kSchedulerSlackSeconds = 60;

// Steps that were measured: at what rate a rank computed in the median one, whatever ranks, batch and length they had.
struct MeasuredSteps {
  double median_flops = 0;  // FLOP/s of a rank
  int64_t count = 0;        // that the median is of
};
// From the end of a metrics.jsonl: lines of kind "step", the last line of a step counts; what is no whole line of JSON
// (the first of a part, a torn last one) is passed over. Nothing where none was measured.
std::optional<MeasuredSteps> measured_steps(std::string_view metrics_lines);

struct JobTime {
  double start_up_seconds = 0;
  double step_seconds = 0;
  double save_seconds = 0;
  double least_seconds() const { return start_up_seconds + step_seconds + save_seconds; }
};

double predicted_step_seconds(double flops_per_step, double peak_flops_per_second);
// Of an evaluation of `tokens`, in FLOPs or seconds as the first is: the forward third of what training takes of them.
double evaluation_cost(double training_cost_of_a_token, double tokens);
// Evaluations that follow steps `done` + 1 to `steps`: after every `interval`-th (0: none of these) and after the last.
int64_t evaluations_left(int64_t done, int64_t steps, int64_t interval);
// state_bytes: of weights and moments. data_bytes: what is checked before the first step, once per host.
double predicted_save_seconds(double state_bytes);
double predicted_start_up_seconds(double state_bytes, double data_bytes);

// Whole minutes, as Slurm counts: the run's steps and half as much again, at least ten minutes and what one attempt
// needs, at most a day (the job goes on by itself).
int64_t default_limit_minutes(const JobTime& time, double run_seconds);
// How long before the limit the run is told to stop: two saves, one step and the scheduler's slack, but never so early
// that an attempt could not do its first step, and at least a second.
int64_t signal_seconds(const JobTime& time, double limit_seconds);

}  // namespace tael
