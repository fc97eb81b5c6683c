#include "trainer/training.hpp"

#include <algorithm>
#include <utility>

#include "cost/flops.hpp"
#include "cost/machine.hpp"
#include "trainer/start_facts.hpp"

namespace tael {

namespace {

constexpr double kStatusSeconds = 2;  // between two versions of status.json while steps go on

}  // namespace

// Every number and every answer that all ranks need, in one message.
Training::Border Training::border(bool last, bool save_beside) {
  std::array<int64_t, kCostKinds + 4> sums{};
  const double at = run_.clock.now();
  const CostSeconds mine = run_.clock.seconds();
  for (size_t k = 0; k < kCostKinds; ++k) sums[k] = static_cast<int64_t>(mine.of[k] * 1e9);
  int64_t &stop = sums[kCostKinds], &over = sums[kCostKinds + 1], &dislodged = sums[kCostKinds + 2],
          &no_evaluation = sums[kCostKinds + 3];
  stop = stop_asked() ? 1 : 0;
  const double saving = saver_->busy_so_far();
  if (record_) {
    if (!record_->owned()) dislodged = 1;
    budget_.save_goes_on(saving * run_.comm.size());
    const double spent = spent_now();
    const CostRange next = cost_of_next_step(progress_.step, tokens()) + (save_beside ? budget_.save() : CostRange{});
    if (!last && !budget_.fits(spent, next)) {
      over = 1;
      no_room_for_ = (next + budget_.save()).most;
    }
    if (!last && !budget_.fits(spent, next + budget_.evaluation())) no_evaluation = 1;
  }
  run_.comm.all_reduce(sums, ReduceOp::sum);
  Border b{.stop = stop != 0,
           .over_budget = over != 0,
           .dislodged = dislodged != 0,
           .evaluate = no_evaluation == 0,
           .spent = {},
           .at = at};
  for (size_t k = 0; k < kCostKinds; ++k) b.spent.of[k] = static_cast<double>(sums[k]) * 1e-9;
  spent_at_border_ = b.spent;
  mine_at_border_ = mine;
  if (b.dislodged) {
    const Error error = was_taken_over(run_.config.run.dir);
    throw AgreedError(error.code(), error.what());
  }
  return b;
}

bool Training::stop_asked() const {
  return (setup_.stop != nullptr && *setup_.stop != 0) || (record_ && record_->directory().stop_requested());
}

Training::Ending Training::loop() {
  // Who has no lines to write waits here for rank 0, and not in what comes next, which would be booked as that.
  const auto wait_for_lines = [this] { run_.comm.barrier(); };
  Border now = border(progress_.step >= run_.steps);
  book("start", now, {.beginning = (now.at - looked_at_) * run_.comm.size()});
  if (evaluation_owed_ && progress_.step < run_.steps) evaluate_between_steps(now);
  wait_for_lines();
  const Charged between_steps(run_.clock, CostKind::idle);
  while (progress_.step < run_.steps) {
    if (now.stop) return Ending::stop_asked;
    if (now.over_budget) return Ending::budget_used;
    const double size = step_tokens(tokens()), begin = run_.clock.now(), predicted = budget_.expected_step(size);
    StepReport report;
    {
      const Charged charged(run_.clock, CostKind::compute);
      report = train_step(run_, progress_);
    }
    const double seconds = run_.clock.now() - begin;
    // With what was written since it was found to fit.
    budget_.step_took((run_.clock.now() - now.at) * run_.comm.size(), size);
    report_status_now_and_then();
    // A save that goes on, or begins now, must come to its end before the last one can begin.
    now = border(progress_.step >= run_.steps, saver_->busy() || save_due());
    finish_report(report, size, seconds, now);
    if (record_) {
      record_->write(report);
      write_expert_load(false);
      book("step", now, {.predicted = predicted});
      if (report.step % run_.config.training.log_interval == 0 || report.step == run_.steps)
        console_->step(report, seconds_left());
      warn_of_the_budget();
      budget_.lines_took((run_.clock.now() - now.at) * run_.comm.size());
    }
    wait_for_lines();
    if (save_if_due()) now = booked_border("checkpoint");
    wait_for_room(now);
    if (evaluation_due(report.step) && report.step < run_.steps) {
      evaluate_between_steps(now);
      wait_for_room(now);
    }
    wait_for_lines();
  }
  return Ending::steps_done;
}

// Replacing a file waits for the disk: a short step must not, and what it takes is spent before the next step is asked
// for.
void Training::report_status_now_and_then() {
  if (!record_ || run_.clock.now() - status_at_ < kStatusSeconds) return;
  // The step has that of the end in it.
  if (!budget_.fits(spent_now(), cost_of_next_step(progress_.step, tokens()) + budget_.status())) return;
  report_status("running", spent_now());
}

// A save that goes on may take less than it seems to: before a run ends for it, it is waited for.
void Training::wait_for_room(Border& now) {
  if (now.over_budget && !now.stop && finish_save()) now = booked_border("checkpoint");
}

// Of the step that was done last: some of all that the attempt may do, the first and the last of what it did.
void Training::write_expert_load(bool last) {
  const int64_t done = progress_.step - run_.from.step;
  if (!record_ || done == 0 || progress_.step == loads_written_of_ || run_.network.table().moe_layers == 0) return;
  if (!last && !ExpertLoadFile::due(done, run_.steps - run_.from.step)) return;
  loads_written_of_ = progress_.step;
  const double begin = run_.clock.now();
  record_->write_expert_load(progress_.step, tokens(), run_.network.table().moe_layer_numbers(),
                             run_.buffers.counts_LE);
  budget_.loads_took((run_.clock.now() - begin) * run_.comm.size());
}

// Behind what belongs to the step that is done, and stays with it when a restart throws away what follows.
Training::Border Training::booked_border(const char* kind) {
  const Border now = border(progress_.step >= run_.steps, saver_->busy());
  book(kind, now);
  return now;
}

void Training::book(const char* kind, const Border& border, LineNotes notes) {
  if (!record_) return;
  notes.at = border.at;
  notes.save = std::exchange(unbooked_save_, std::nullopt);
  record_->ledger().book(kind, progress_.step, tokens(), border.spent, notes);
}

void Training::finish_report(StepReport& report, double tokens, double seconds, const Border& border) {
  const double ranks = run_.comm.size();
  const Config& config = run_.config;
  const double pace = seconds / tokens;
  token_seconds_ = token_seconds_ == 0 ? pace : 0.9 * token_seconds_ + 0.1 * pace;
  report.step_ms = seconds * 1e3;
  report.tokens_per_s = tokens / seconds;
  report.tokens_per_s_per_rank = report.tokens_per_s / ranks;
  const double flops =
      report.tokens_per_s_per_rank * training_flops_per_token(config.model.shape, config.training.seq_length);
  report.tflops_per_rank = flops / 1e12;
  report.mfu = flops / peak_;
  int64_t peak_memory = static_cast<int64_t>(peak_resident_bytes());
  run_.comm.all_reduce({&peak_memory, 1}, ReduceOp::max);
  report.peak_gib = static_cast<double>(peak_memory) / (1 << 30);
  const WireBytes sent = gradient_bytes(run_);
  report.bytes_between_hosts = sent.between_hosts;
  report.bytes_within_host = sent.within_host;
  const double spent = spent_before() + border.spent.sum();
  report.gpu_hours = spent / 3600;
  if (config.cluster.price_per_device_hour) report.money = paid_for(spent);
  report.budget_left = budget_.left_fraction(spent);
  // Said once: nothing computes faster than its multiply-adds, so the peak was measured on a machine that had no time.
  if (console_ != nullptr && !peak_doubted_ && *report.mfu > 1.0) {
    peak_doubted_ = true;
    console_->warn("MFU above 100%: the machine was busy with something else when the peak was measured at start");
  }
}

// What follows the last step and its checkpoint. Another ending where it is given up.
Training::Ending Training::finish() {
  int64_t over = record_ && !ending_fits(false) ? 1 : 0;
  if (over != 0) no_room_for_ = cost_of_the_end().most;
  run_.comm.broadcast(std::as_writable_bytes(std::span(&over, 1)), 0);
  if (over != 0) return Ending::budget_used;
  if (Border now; !run_.valid_shards.empty() && !leaves_out_evaluation() && !evaluate_now(now)) {
    no_room_for_ = cost_of_the_end().most;
    return now.stop ? Ending::stop_asked : Ending::budget_used;
  }
  write_model();
  return Ending::steps_done;
}

Exit Training::end(Ending ending) {
  save_last();
  write_expert_load(true);
  if (ending == Ending::steps_done) ending = finish();
  Exit code = Exit::done;
  const char* state = "done";
  if (ending != Ending::steps_done) {
    code = ending == Ending::stop_asked ? Exit::requeue : Exit::budget;
    state = ending == Ending::stop_asked ? "stopped" : "budget";
  }
  run_.clock.charge(CostKind::startup);
  run_.comm.barrier();  // who waits here for the others books it
  const Border last = border(true);
  if (record_) {
    book("end", last, {.weights = weights_took_});
    warn_of_the_budget();
    if (const double used = record_->ledger().booked(); budget_.limit() && used > *budget_.limit())
      warn(fmt::format("the budget is overdrawn: {} are used", used_of_budget(used)));
    record_->end(progress_.step, tokens(), state);
    report_status(state, spent_now());
    record_->directory().remove_stop();  // however it ended: it has
    record_->release(static_cast<int>(code), state);
    const std::string of = fmt::format("after step {} of {}", grouped(progress_.step), grouped(run_.steps));
    const double hours = record_->ledger().booked() / 3600;
    if (ending == Ending::steps_done) {
      say("done", fmt::format("{} in {}, {:.4f} rank-hours; weights in {}", count_of(progress_.step, "step"),
                              duration(run_.clock.now() - began_), hours, record_->directory().file("model")));
    } else if (ending == Ending::stop_asked) {
      say("stopped", fmt::format("{}, as asked; {:.4f} rank-hours; start it again to go on", of, hours));
    } else {
      say("budget", fmt::format("used up {}: {}, and {}", of, used_of_budget(hours * 3600), what_does_not_fit()));
    }
  }
  return code;
}

void Training::warn(const std::string& text) {
  console_->warn(text);
  if (record_) record_->event(progress_.step, tokens(), text);
}

// A full disk may be the very reason, so each file is tried by itself.
void Training::record_failure(const Error& error) {
  if (!record_) return;
  const auto attempt = [](const auto& write) {
    try {
      write();
    } catch (const Error&) {
    }
  };
  if (record_->owned()) {
    attempt([&] { record_->event(progress_.step, tokens(), error.what()); });
    attempt([&] {
      // The other ranks may be gone: since the last border they are taken to have done what this one did.
      const CostSeconds since = run_.clock.seconds() - mine_at_border_;
      CostSeconds spent = spent_at_border_;
      for (size_t k = 0; k < kCostKinds; ++k) spent.of[k] += since.of[k] * run_.comm.size();
      std::optional<double> beginning;  // as far as it came
      if (!begun_) beginning = (run_.clock.now() - looked_at_) * run_.comm.size();
      record_->ledger().book("end", progress_.step + 1, tokens(), spent,
                             {.save = unbooked_save_, .beginning = beginning, .weights = weights_took_});
    });
    attempt([&] { record_->directory().remove_stop(); });  // it has ended
    attempt([&] { record_->end(progress_.step, tokens(), "failed"); });
    attempt([&] { status_of_failure(); });
    attempt([&] { record_->release(static_cast<int>(error.code()), std::string("failed: ") + error.what()); });
  }
}

// An attempt that did not begin leaves what the one before it said, unless that had no end.
void Training::status_of_failure() {
  std::optional<RunStatus> before;
  if (!begun_) before = earlier_status();
  if (!before) return report_status("failed", spent_now());
  if (before->state != "running") return;
  before->state = "failed";
  before->eta_s.reset();
  record_->status(*before);
}

void Training::report_status(const char* state, double spent) {
  RunStatus status{
      .state = state, .step = progress_.step, .steps = run_.steps, .tokens = tokens(), .device_hours = spent / 3600};
  if (token_seconds_ > 0 && std::string_view(state) == "running") status.eta_s = seconds_left();
  const double begin = run_.clock.now();
  record_->status(status);
  status_at_ = run_.clock.now();
  budget_.status_took((status_at_ - begin) * run_.comm.size());
}

}  // namespace tael
