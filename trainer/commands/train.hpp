// tael train CONFIG [key=value ...]: a run from its first step to its last, on all ranks that the launcher started.
#pragma once

#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include "cost/cost_clock.hpp"
#include "parallel/comm.hpp"
#include "trainer/config.hpp"
#include "trainer/console.hpp"
#include "trainer/verb.hpp"

namespace tael {

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  ConfigSearch search;
  std::string resume = "auto";  // auto, never, or a path
  bool profile = false;
  bool dry_run = false;              // check everything, print the plan, allocate and write nothing
  std::vector<std::string> command;  // as it was typed, for env.json
  bool color = false, is_terminal = false;
  int slurm_tasks = 0;  // that the surrounding Slurm job has, by SLURM_NTASKS; 0: outside one
  const volatile std::sig_atomic_t* interrupted = nullptr;  // set by a signal: ends the run after the step
  std::string job;                                          // the scheduler's number of this job
  TimeSource time = monotonic_time();                       // costs go by it
  double began = process_start();                           // of the job, on its scale
  std::optional<double> predicted_step_seconds = std::nullopt, predicted_save_seconds = std::nullopt;  // TrainingSetup
};

// Collective. Returns 0 after the last step, 75 when it was stopped by STOP or a signal, 76 at the end of the budget,
// the latter two with a complete checkpoint. Throws Error otherwise.
int run_train(const TrainOptions& options, Comm& comm);

Verb train_verb();

}  // namespace tael
