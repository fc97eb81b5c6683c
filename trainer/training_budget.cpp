#include "trainer/training.hpp"

#include <algorithm>

namespace tael {

namespace {

constexpr double kClosingSeconds = 0.5;  // of a rank, for what follows the last checkpoint

}  // namespace

double Training::spent_before() const { return record_ ? record_->ledger().before().sum() : 0; }

double Training::spent_now() const { return spent_before() + run_.comm.size() * (run_.clock.now() - began_); }

// Tokens of the step that begins after `tokens`.
double Training::step_tokens(int64_t tokens) const {
  const TrainingOptions& t = run_.config.training;
  return static_cast<double>(t.global_batch_size.at(tokens) * t.seq_length);
}

// Device-seconds that a step after `done` steps and `tokens` tokens may take, with all that must follow it before the
// attempt can end, but for its checkpoint.
double Training::cost_of_next_step(int64_t done, int64_t tokens) const {
  const double ranks = run_.comm.size();
  double cost = budget_.step(step_tokens(tokens)) + kClosingSeconds * ranks;
  if (done + 1 < run_.steps) return cost;
  if (!run_.valid_shards.empty()) cost += budget_.evaluation();
  // The final weights are a third of a checkpoint, and rank 0 alone writes them.
  return cost + budget_.save() * std::max(1.0, ranks / 3);
}

void Training::check_budget_of_a_new_run() {
  if (!budget_.limit()) return;
  const double needed = spent_now() + cost_of_next_step(run_.from.step, run_.from.tokens) + budget_.save();
  if (needed <= *budget_.limit()) return;
  const bool money = run_.config.budget.money.has_value();
  const double unit = money ? run_.config.cluster.price_per_device_hour->amount / 3600 : 1.0 / 3600;
  fail(Exit::bad_config,
       "{}: {:.3g} {} are too little: start-up, one step and a checkpoint are expected to take {:.3g}",
       money ? "budget.money" : "budget.gpu_hours", *budget_.limit() * unit,
       money ? run_.config.budget.money->currency : std::string("device-hours"), needed * unit);
}

// A run that is there and cannot pay for reading its checkpoint, one more step and a save ends before it begins, and
// nothing is booked: a start that can do nothing must not overdraw what it was told to keep.
bool Training::budget_is_used_up() {
  std::array<int64_t, 4> found{};  // whether it is, and the run's step, samples and tokens
  agreed_by(run_.comm, console_ != nullptr, [&] {
    if (!budget_.limit() || !setup_.in_existing_run) return;
    const std::optional<RunState> newest = store_.newest_state();
    if (newest && newest->step >= run_.steps) return;  // it has nothing more to do
    const Progress from = newest ? progress_of(*newest) : run_.from;
    const double needed =
        spent_now() + (newest ? budget_.save() : 0) + cost_of_next_step(from.step, from.tokens) + budget_.save();
    if (needed <= *budget_.limit()) return;
    found = {1, newest ? newest->step : -1, newest ? newest->samples : 0, newest ? newest->tokens : 0};
  });
  run_.comm.broadcast(std::as_writable_bytes(std::span(found)), 0);
  if (found[0] == 0) return false;
  const bool saved = found[1] >= 0;
  if (saved) progress_ = {.step = found[1], .samples = found[2], .tokens = found[3]};
  agreed_by(run_.comm, console_ != nullptr, [&] {
    if (!saved) {
      try {
        check_budget_of_a_new_run();
      } catch (const Error& error) {
        record_->release(static_cast<int>(error.code()), error.what());
        record_.reset();  // nothing is booked
        throw;
      }
    }
    report_status("budget", spent_before());
    record_->release(static_cast<int>(Exit::budget), "budget");
    say("budget",
        fmt::format("used up after step {} of {}: {:.4f} of {:.4f} rank-hours, and the next step with a "
                    "checkpoint does not fit; nothing was done",
                    grouped(progress_.step), grouped(run_.steps), spent_before() / 3600, *budget_.limit() / 3600));
  });
  return true;
}

}  // namespace tael
