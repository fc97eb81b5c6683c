// RUN/ledger.jsonl: where every device-second went. Append only, one object a line; the figures of all lines, summed,
// are what the run has cost.
//
// A line: {"t", "attempt", "step", "tokens", "kind", "ranks", "wall_s", "device_s": {KIND: seconds, ...},
// "unaccounted_s", "predicted_s", "save_s", "beginning_s", "weights_s"}. `wall_s` is the attempt's wall time so far;
// device_s is what was spent since the attempt's line before, over all ranks, and may take back from a kind what an
// earlier line gave it too early. `unaccounted_s` is what ranks x wall time has and the kinds have not. Kinds of
// lines: start, step, evaluation and checkpoint (behind the step that they belong to, with its number), beat (a sign
// of life inside something long, booked to what goes on: the beginning of the attempt's next line), restart (moves the
// work that a restart throws away from its kinds to `lost`), end. The first line of an attempt also says under which
// conditions it ran: "price_per_device_hour": {CURRENCY: amount} where there is one, "flops_per_token" of training,
// and "device", "seq_length", "data", "valid_data", "initial_weights": what a comparison of runs must know.
//
// Rank 0 alone writes. All failures are Error(io).
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/field_kinds.hpp"
#include "base/file.hpp"
#include "cost/cost_clock.hpp"

namespace tael {

struct AttemptConditions {
  std::optional<Money> price_per_device_hour = {};
  double flops_per_token = 0;  // of training
  std::string device = {};     // of a rank, as people call it; empty: an older program did not say
  int64_t seq_length = 0;
  std::string data = {}, valid_data = {};  // digests of what was trained on and evaluated on, and how; empty: none
  std::string initial_weights = {};        // of whom, in a run that has no checkpoint; empty: drawn
  // Of a device-hour, in this currency; nothing: there was none, or one in another.
  std::optional<double> price_in(const std::string& currency) const;
};

struct LedgerLine {
  std::string time;  // ISO 8601
  int64_t attempt = 0, step = 0, tokens = 0;
  std::string kind;
  int64_t ranks = 0;
  double wall_seconds = 0;
  CostSeconds device_seconds;
  double unaccounted_seconds = 0;
  std::optional<double> predicted_seconds;  // device-seconds of a step, before it ran
  std::optional<double> save_seconds;       // device-seconds that the save took that came to its end before this line
  std::optional<double> beginning_seconds;  // device-seconds of a start behind the look at the budget, reading included
  std::optional<double> weights_seconds;    // device-seconds that the final weights took, written or not
  std::optional<AttemptConditions> conditions;  // in the first line of an attempt

  double sum() const { return device_seconds.sum() + unaccounted_seconds; }
};

// All whole lines of a ledger, beats as part of the line that they were the beginning of; where an attempt was killed
// before that one, a beat stands for it. A torn last line is passed over. No file: no lines. Error(bad_data) with file
// and line for anything else.
std::vector<LedgerLine> read_ledger(const std::string& path);
// What the lines say was spent: by kind, and what no kind has.
struct LedgerTotals {
  CostSeconds device_seconds;
  double unaccounted_seconds = 0;
  double sum() const { return device_seconds.sum() + unaccounted_seconds; }
};
LedgerTotals totals_of(const std::vector<LedgerLine>& lines);
// Under which each attempt ran that said so.
std::map<int64_t, AttemptConditions> conditions_of_attempts(const std::vector<LedgerLine>& lines);
// What was paid, in the currency of `now`: each attempt at the price that it had, and where it had none, or one in
// another currency, at this one.
double paid(const std::vector<LedgerLine>& lines, const Money& now);
// The move that a restart at `step` makes: everything that later steps took, and that no earlier restart moved, to
// `lost`. Sums to zero.
CostSeconds lost_by_restart(const std::vector<LedgerLine>& lines, int64_t step);

// What a line says besides where the seconds went.
struct LineNotes {
  std::optional<double> at = std::nullopt;         // on the clock's scale, until when; nothing: now
  std::optional<double> predicted = std::nullopt;  // as in LedgerLine
  std::optional<double> save = std::nullopt;
  std::optional<double> beginning = std::nullopt;
  std::optional<double> weights = std::nullopt;
};

class Ledger {
 public:
  struct Attempt {
    int64_t number = 1;
    int ranks = 1;
    double began = 0;  // on the clock's scale: the earliest rank's start
    AttemptConditions conditions = {};
  };
  // Goes on with the file, or makes it.
  Ledger(const std::string& path, const Attempt& attempt, const CostClock& clock);

  const LedgerTotals& before() const { return before_; }               // of all earlier attempts
  const std::vector<LedgerLine>& earlier() const { return earlier_; }  // their lines, until restart_at
  // Books all that was spent since the last line. `spent`: by all ranks in this attempt until notes.at.
  void book(const std::string& kind, int64_t step, int64_t tokens, const CostSeconds& spent,
            const LineNotes& notes = {});
  // Before anything is booked: the attempt goes on after `step`. Moves what earlier attempts did beyond it to `lost`,
  // and returns how much that is, in device-seconds.
  double restart_at(int64_t step, int64_t tokens);
  // From any thread: if the last line is older than `seconds`, books the time since then to what rank 0 does now.
  void beat(double seconds);
  LedgerTotals totals() const;  // of all attempts, as far as it is booked
  double booked() const { return totals().sum(); }
  void sync() const { file_.sync(); }

 private:
  LedgerLine line(const std::string& kind, int64_t step, double now) const;  // without figures
  void append(LedgerLine line);

  const Attempt attempt_;
  const CostClock& clock_;
  File file_;
  uint64_t size_ = 0;
  bool first_ = true;                // line of this attempt
  std::vector<LedgerLine> earlier_;  // of all earlier attempts, until restart_at
  LedgerTotals before_;

  mutable std::mutex mutex_;
  CostSeconds booked_;  // of this attempt
  CostSeconds moved_;   // by its restart; sums to zero
  double unaccounted_ = 0;
  double last_line_ = 0;
  int64_t step_ = 0, tokens_ = 0;
};

}  // namespace tael
