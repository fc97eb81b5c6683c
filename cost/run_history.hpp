// What a run wrote down about itself, read back for people: metrics.jsonl, experts.jsonl, ledger.jsonl, env.json and
// status.json of a run directory, and which of it stands.
//
// A restart goes on from a checkpoint and does the steps behind it again. The history that stands is the one whose
// steps lead to the newest weights; what a restart threw away is in it no more, only its cost. A run that goes on while
// it is read gives what was written until then.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cost/ledger.hpp"

namespace tael {

// A number that was not finite is NaN here.
struct StepPoint {
  int64_t step = 0, tokens = 0, attempt = 0;
  double loss = 0, grad_norm = 0, lr = 0;
  double tokens_per_s = 0, step_ms = 0, peak_gib = 0;
  double model_flops = 0;  // of the step, all ranks
  std::optional<double> mfu, max_violation;
  double device_hours = 0;  // of the run until then, all attempts
};
struct EvalPoint {
  int64_t step = 0, tokens = 0, attempt = 0;
  double loss = 0, ppl = 0;
  std::optional<double> bits_per_byte;
  double device_hours = 0;  // when the step was done that it evaluates
};
struct SavePoint {
  int64_t step = 0, tokens = 0, attempt = 0;
  int64_t bytes = 0;
  double stall_ms = 0, seconds = 0;
};
struct EventPoint {
  std::string time;
  int64_t step = 0, tokens = 0, attempt = 0;
  std::string text;
};
// Tokens of each expert in one step; a row a layer.
struct ExpertLoad {
  int64_t step = 0, tokens = 0, attempt = 0;
  std::vector<int64_t> layers;
  std::vector<std::vector<int64_t>> counts;
};
struct BookedLine {
  LedgerLine line;
  bool lost = false;  // a restart threw its work away: its seconds, but for start-up, are booked as lost
};

struct RunHistory {
  // Of the history that stands, ascending.
  std::vector<StepPoint> steps;
  std::vector<EvalPoint> evals;
  std::vector<ExpertLoad> expert_loads;
  // Of all attempts, in the order of the file.
  std::vector<SavePoint> saves;
  std::vector<EventPoint> events;
  std::vector<BookedLine> ledger;
  std::map<int64_t, AttemptConditions> conditions;  // of every attempt that said them
  int64_t lost_steps = 0;                           // done, and thrown away by restarts
  // Where the run began: not at 0 where it is a branch of another.
  int64_t begin_step = 0, begin_tokens = 0;

  // env.json, of the last attempt; empty or 0 where an older program wrote none.
  std::string version, commit, build_type, cpu, isa, preset;
  int64_t ranks = 0, threads_per_rank = 0;
  int64_t described_attempt = 0;         // that wrote env.json; older programs did not say: the last that did a step
  std::optional<std::string> tokenizer;  // nothing: not said; empty: the data is numbers
  std::vector<std::string> hosts, data, valid_data, command;
  std::vector<std::pair<std::string, int64_t>> memory;  // bytes of rank 0 as planned, by kind
  struct Deviation {
    std::string key, preset, run;
  };
  std::vector<Deviation> preset_deviations;

  // status.json
  std::string state = "unknown";
  int64_t all_steps = 0;
};

// Each value the mean of those of itself and before it that are numbers, of the last fiftieth of all: one step's number
// is mostly noise of its batch.
std::vector<double> smoothed(const std::vector<double>& values);

// None of it said by an attempt that an older program made.
AttemptConditions conditions_of(const RunHistory& history, int64_t attempt);
// Those on the data, and in the windows, of the last one: a run may go on with others.
std::vector<EvalPoint> comparable_evals(const RunHistory& history);

// Error(bad_config): there is no run; Error(bad_data) with file and line: a damaged file.
RunHistory read_run_history(const std::string& run_directory);

}  // namespace tael
