#include "trainer/training.hpp"

#include <algorithm>

#include "trainer/budget_limit.hpp"

namespace tael {

double Training::spent_before() const { return record_ ? record_->ledger().before().sum() : 0; }

double Training::spent_now() const { return spent_before() + run_.comm.size() * (run_.clock.now() - began_); }

// Tokens of the step that begins after `tokens`.
double Training::step_tokens(int64_t tokens) const {
  const TrainingOptions& t = run_.config.training;
  return static_cast<double>(t.global_batch_size.at(tokens) * t.seq_length);
}

// A step after `done` steps and `tokens` tokens, with all that must follow it before the attempt can end, but for its
// checkpoint.
CostRange Training::cost_of_next_step(int64_t done, int64_t tokens) const {
  const CostRange cost = budget_.step(step_tokens(tokens)) + budget_.status();
  return cost + (done + 1 < run_.steps ? closing() : cost_of_the_end());
}

CostRange Training::closing() const { return budget_.closing(kClosingSeconds * run_.comm.size()); }

// What must have room for a start to be of use: a step with its checkpoint, or what follows the last one.
CostRange Training::cost_of_going_on(const Progress& from) const {
  if (from.step >= run_.steps) return cost_of_the_end();
  return cost_of_next_step(from.step, from.tokens) + budget_.save();
}

// What follows the last checkpoint of a run.
CostRange Training::cost_of_the_end(bool evaluated) const {
  const CostRange weights = closing() + budget_.weights(run_.comm.size());
  return evaluated || run_.valid_shards.empty() ? weights : weights + budget_.evaluation();
}

bool Training::ending_fits(bool evaluated) const { return budget_.pays(spent_now(), cost_of_the_end(evaluated)); }

// Of `spent` device-seconds, in the budget's own unit.
std::string Training::used_of_budget(double spent) const {
  const Config& config = run_.config;
  if (!config.budget.money) return fmt::format("{:.4f} of {:.4f} rank-hours", spent / 3600, *config.budget.gpu_hours);
  return fmt::format("{:.4f} of {:.4f} {}", paid_for(spent), config.budget.money->amount,
                     config.budget.money->currency);
}

double Training::paid_for(double spent) const {
  return paid_before_ + (spent - spent_before()) / 3600 * run_.config.cluster.price_per_device_hour->amount;
}

void Training::warn_of_the_budget() {
  if (const int part = budget_.warning(spent_now()))
    warn(fmt::format("{}% of the budget is used at step {}", part, grouped(progress_.step)));
}

std::string Training::what_does_not_fit() const {
  const Config& config = run_.config;
  const double unit = config.budget.money ? config.cluster.price_per_device_hour->amount : 1;
  return fmt::format("{}, which may take {:.4f}, does not fit",
                     progress_.step < run_.steps ? "the next step with a checkpoint" : "what follows the last step",
                     no_room_for_ / 3600 * unit);
}

void Training::check_budget_of_a_new_run() {
  if (!budget_.limit()) return;
  require_budget(run_.config, record_ ? record_->ledger().earlier() : std::vector<LedgerLine>{},
                 spent_now() - spent_before() + kBeginningSeconds * run_.comm.size() +
                     (cost_of_next_step(run_.from.step, run_.from.tokens) + budget_.save()).most);
}

// REQUIRES a run that is there. One that cannot pay for reading its checkpoint, one more step and a save ends before it
// begins, and nothing is booked: a start that can do nothing must not overdraw what it was told to keep.
bool Training::budget_is_used_up() {
  std::array<int64_t, 4> found{};  // whether it is, and the run's step, samples and tokens
  agreed_by(run_.comm, console_ != nullptr, [&] {
    if (!budget_.limit()) return;
    const std::optional<RunState> newest = store_.newest_state();
    const bool reads = newest || !setup_.branched_from.empty();
    const Progress from = newest ? progress_of(*newest) : run_.from;
    const CostRange beginning = budget_.beginning(kBeginningSeconds * run_.comm.size(), reads);
    no_room_for_ = spent_now() - spent_before() + (beginning + cost_of_going_on(from)).most;
    if (spent_before() + no_room_for_ <= *budget_.limit()) return;
    found = {1, reads ? from.step : -1, from.samples, from.tokens};
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
        status_of_failure();
        record_->release(static_cast<int>(error.code()), error.what());
        record_.reset();  // nothing is booked
        throw;
      }
    }
    // What was done with all its steps, and given more now, stays done with these.
    const std::optional<RunStatus> before = earlier_status();
    if (!before || before->state != "done") report_status("budget", spent_before());
    record_->directory().remove_stop();  // it has ended
    record_->release(static_cast<int>(Exit::budget), "budget");
    say("budget", fmt::format("used up after step {} of {}: {}, and {}; nothing was done", grouped(progress_.step),
                              grouped(run_.steps), used_of_budget(spent_before()), what_does_not_fit()));
  });
  return true;
}

}  // namespace tael
