// The cost of a run, explained: every number of its report, computed once from what the run wrote down, for the page,
// JSON and Markdown alike (cost/report_formats.hpp). What each number means stands in definitions().
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/field_kinds.hpp"
#include "base/fields.hpp"
#include "cost/run_history.hpp"

namespace tael {

// What a report needs to know of the run's configuration and of its starts, which other rooms read.
struct ReportFacts {
  struct Attempt {
    int64_t number = 0;
    std::string host, job;
    int64_t ranks = 0;
    std::string began, ended;  // ISO 8601; ended empty: it did not say
    int exit_code = 0;
    std::string reason;
  };
  std::string directory;  // as it was given
  std::string made_at;    // ISO 8601
  std::vector<Attempt> attempts;
  std::string branched_from;  // the checkpoint of another run that the run began from; empty: none
  std::optional<Money> price_per_device_hour;
  std::optional<double> budget_device_hours;  // of the two budgets
  std::optional<Money> budget_money;          // at most one is there
  int64_t total_tokens = 0;                   // of the whole run
  int64_t parameters = 0, active_parameters = 0;
  double flops_per_token = 0;            // of training (cost/flops.hpp)
  std::vector<FieldDifference> changed;  // settings that differ from their defaults: the default, then the run's
  std::vector<std::pair<std::string, std::string>> settings;  // all of them, but for run.dir
  std::string config;                                         // resolved, as YAML
};

struct AttemptCost {
  ReportFacts::Attempt start;
  int64_t first_step = 0, last_step = 0;  // 0, 0: it did none
  int64_t lost_steps = 0;                 // that a restart threw away
  double device_hours = 0;
  double price = 0;  // of a device-hour, in the currency of the present one; 0 without one
};

struct Forecast {
  double device_hours = 0, low = 0, high = 0;  // of the whole run
  double seconds = 0;                          // until its last step, at the last attempt's number of ranks
  std::optional<bool> fits_budget;
};

struct Report {
  ReportFacts facts;
  RunHistory history;

  // Device-hours; `by_kind` and `unaccounted` are the ledger's sums over 3600.
  CostSeconds by_kind;
  double unaccounted = 0, device_hours = 0;
  double productive = 0;  // in steps that stand
  double goodput = 0;     // productive / device_hours
  std::optional<Money> money;
  CostSeconds paid_by_kind;  // in its currency, each attempt's at the price that it had; the sum is `money`
  double paid_unaccounted = 0;
  std::optional<double> budget_left;  // device-hours, or money where that is the budget; below zero: overdrawn
  std::optional<Forecast> forecast;   // of a run that is not over
  std::vector<AttemptCost> attempts;

  int64_t steps = 0, tokens = 0;  // the newest weights': those of a run that it branched off are counted in
  int64_t own_tokens = 0;         // those that it trained itself
  std::optional<double> train_loss, valid_loss, best_valid_loss, valid_ppl, bits_per_byte;
  double tokens_per_s = 0, tokens_per_device_hour = 0;
  std::optional<double> mfu, device_hours_per_trillion_tokens;
  double model_flops = 0;       // done by the steps that stand
  double peak_gib = 0;          // of all steps that stand
  double planned_peak_gib = 0;  // of those of the attempt whose plan is known; 0: it did none
  std::optional<double> first_step_predicted, median_step;  // device-seconds
  double saves_stall_seconds = 0;
  std::optional<double> worst_violation;  // at the end

  std::string name() const;  // the directory as it was given, without slashes behind it
  bool over() const { return history.state == "done"; }
  // Of a device-hour, over all attempts. REQUIRES money.
  double mean_price() const;
  // Money until so many device-hours: each attempt's at the price that it had, further ones at the present price.
  std::optional<double> paid_until(double hours) const;
};

// In this order everywhere; kinds that took nothing are left out of what is shown.
Report make_report(RunHistory history, ReportFacts facts);

struct Definition {
  std::string_view name, text;
};
std::span<const Definition> definitions();

std::vector<double> smoothed_losses(const RunHistory& history);  // of training, a value a step

// The standing cost: seconds of a line by kind, with what a restart threw away under `lost`.
CostSeconds standing_seconds(const BookedLine& line);

}  // namespace tael
