#include "trainer/training.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/hash.hpp"
#include "checkpoint/hf_export.hpp"
#include "cost/flops.hpp"
#include "cost/job_time.hpp"
#include "cost/machine.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/health.hpp"
#include "trainer/start_facts.hpp"

namespace tael {

namespace {

constexpr double kStatusSeconds = 2;     // between two versions of status.json while steps go on
constexpr int kMostFailedSaves = 3;      // in a row, then the run stops
constexpr double kClosingSeconds = 0.5;  // of a rank, for what follows the last checkpoint

// The mean peak of all ranks, measured by all at once, as they will compete in training. FLOP/s of one rank.
double measured_peak(Run& run) {
  run.comm.barrier();
  const double peak = multiply_add_peak(run.stream);
  std::vector<double> all(static_cast<size_t>(run.comm.size()));
  run.comm.all_gather(std::as_bytes(std::span(&peak, 1)), std::as_writable_bytes(std::span(all)));
  double sum = 0;
  for (const double p : all) sum += p;
  return sum / static_cast<double>(all.size());
}

std::optional<double> limit_of(const Config& config) {
  if (config.budget.gpu_hours) return *config.budget.gpu_hours * 3600;
  if (config.budget.money) return config.budget.money->amount / config.cluster.price_per_device_hour->amount * 3600;
  return std::nullopt;
}

// Device-seconds of a token's share of a step, a save and an evaluation, before any of them was measured.
Budget::Estimates estimates(const Run& run, double peak, const TrainingSetup& setup) {
  const Config& c = run.config;
  const double flops = training_flops_per_token(c.model.shape, c.training.seq_length), ranks = run.comm.size();
  const std::vector<int64_t> sizes = c.training.global_batch_size.all();
  const double step_tokens = static_cast<double>(std::ranges::max(sizes) * c.training.seq_length);
  double valid_tokens = 0;
  for (const TokenShard& shard : run.valid_shards) valid_tokens += static_cast<double>(shard.tokens());
  const double token_seconds = setup.predicted_step_seconds ? *setup.predicted_step_seconds * ranks / step_tokens
                                                            : predicted_step_seconds(flops, peak);
  const double bytes = 3.0 * static_cast<double>(run.network.table().size()) * sizeof(float);
  return {.step = token_seconds,
          .save = ranks * setup.predicted_save_seconds.value_or(0.05 + bytes / kAssumedFileRate),
          .evaluation = token_seconds * valid_tokens / 3};
}

}  // namespace

Training::Training(Run& run, const TrainingSetup& setup, Console* console)
    : run_(run),
      setup_(setup),
      console_(console),
      store_(run.config.run.dir + "/checkpoints"),
      all_tokens_(tokens_of_steps(run.config.training.global_batch_size, run.config.training.seq_length, run.steps)),
      budget_(limit_of(run.config), {}) {}

Exit Training::operator()() {
  run_.allocate();
  // Of the earliest rank, as its age: clocks of different hosts have nothing in common.
  int64_t age = static_cast<int64_t>((run_.clock.now() - run_.clock.began()) * 1e9);
  run_.comm.all_reduce({&age, 1}, ReduceOp::max);
  began_ = run_.clock.now() - static_cast<double>(age) * 1e-9;
  run_.clock.begin_earlier(began_);
  peak_ = setup_.peak ? *setup_.peak : measured_peak(run_);
  budget_ = Budget(limit_of(run_.config), estimates(run_, peak_, setup_));
  if (!setup_.in_existing_run) agreed_by(run_.comm, run_.comm.rank() == 0, [&] { check_budget_of_a_new_run(); });
  std::vector<FieldDifference> changes;
  if (setup_.branch_from)  // before there is a directory that a damaged one would leave behind
    if (const auto damage = load(*setup_.branch_from, changes)) throw AgreedError(*damage);
  take_directory();
  try {
    if (budget_is_used_up()) return Exit::budget;
    choose_beginning(changes);
    prepare_saver();
    if (console_ != nullptr) print_peak(*console_, run_, peak_);
    return end(loop());
  } catch (...) {
    record_failure(current_error());
    throw;
  }
}

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
  const double needed = spent_now() + cost_of_next_step(0, 0) + budget_.save();
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
  std::array<int64_t, 3> found{};  // whether it is, and the run's step and samples
  agreed_by(run_.comm, console_ != nullptr, [&] {
    if (!budget_.limit() || !setup_.in_existing_run) return;
    const std::optional<RunState> newest = store_.newest_state();
    if (newest && newest->step >= run_.steps) return;  // it has nothing more to do
    const double needed =
        spent_now() +
        (newest ? budget_.save() + cost_of_next_step(newest->step, newest->tokens) : cost_of_next_step(0, 0)) +
        budget_.save();
    if (needed <= *budget_.limit()) return;
    found = {1, newest ? newest->step : -1, newest ? newest->samples : 0};
  });
  run_.comm.broadcast(std::as_writable_bytes(std::span(found)), 0);
  if (found[0] == 0) return false;
  const bool saved = found[1] >= 0;
  if (saved) progress_ = {.step = found[1], .samples = found[2]};
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

void Training::take_directory() {
  const std::vector<std::string> hosts = run_.comm.all_gather_text(host_name());
  agreed_by(run_.comm, console_ != nullptr, [&] {
    record_.emplace(run_.loaded,
                    Environment{.command = setup_.command,
                                .hosts = hosts,
                                .execution = run_.execution,
                                .ranks = run_.comm.size(),
                                .data = data_digests(run_.train_shards),
                                .valid_data = data_digests(run_.valid_shards),
                                .memory = run_.memory_by_kind(),
                                .job = setup_.job},
                    run_.clock, began_);
    budget_.learn(record_->ledger().earlier(), run_.comm.size());
    store_.sweep();
    attempt_ = record_->attempt();
    if (!record_->lock_note().empty()) console_->warn(record_->lock_note());
  });
  run_.comm.broadcast(std::as_writable_bytes(std::span(&attempt_, 1)), 0);
}

std::optional<AgreedError> Training::load(const std::string& path, std::vector<FieldDifference>& changes) {
  const Charged charged(run_.clock, CostKind::checkpoint);
  try {
    agreed(run_.comm, [&] {
      const Checkpoint checkpoint = Checkpoint::open(path);
      checkpoint.verify_beside_tensors();
      changes = require_same_run(checkpoint, run_);
      progress_ = restore(checkpoint, run_);
    });
  } catch (const AgreedError& error) {
    if (error.code() != Exit::bad_data) throw;
    return error;
  }
  return std::nullopt;
}

void Training::go_on_from(const std::string& path, const std::vector<FieldDifference>& changes) {
  const uint64_t digest = xxh3_64(run_.params.data, static_cast<size_t>(run_.params.size()) * sizeof(float));
  agree_equal(run_.comm, "restored weights", digest, Exit::internal);
  agreed_by(run_.comm, console_ != nullptr, [&] {
    say("resumed", fmt::format("{} (attempt {})", path, attempt_));
    record_->event(progress_.step, tokens(), fmt::format("resumed from {}", path));
    for (const FieldDifference& d : changes) {
      if (d.path == "run.dir") continue;
      const std::string text = fmt::format("{} is {} now, was {}", d.path, d.second, d.first);
      say("changed", text);
      record_->event(progress_.step, tokens(), text);
    }
  });
  saved_step_ = setup_.branch_from ? -1 : progress_.step;
}

// The newest whole one. Damaged ones are put aside once a whole one is in hand, so that their steps can be saved again;
// while there is none, nothing is touched and nothing begins: somebody may know how to mend one.
bool Training::resume_from_newest() {
  std::vector<FieldDifference> changes;
  std::vector<std::pair<int64_t, std::string>> damaged;
  int64_t step = std::numeric_limits<int64_t>::max();
  while (true) {
    int64_t before = -1;
    agreed_by(run_.comm, console_ != nullptr, [&] {
      for (const int64_t each : store_.published())
        if (each < step) before = each;
    });
    run_.comm.broadcast(std::as_writable_bytes(std::span(&before, 1)), 0);
    step = before;
    if (step < 0) break;
    const std::optional<AgreedError> damage = load(store_.path(step), changes);
    if (!damage) break;
    damaged.emplace_back(step, damage->what());
  }
  if (step < 0 && damaged.empty()) return false;
  agreed_by(run_.comm, console_ != nullptr, [&] {
    if (step >= 0) record_->begin_at(progress_.step);
    for (const auto& [of, text] : damaged)
      warn(step < 0 ? text : fmt::format("{}; it is put aside as {}", text, store_.set_aside(of)));
  });
  if (step < 0)
    throw AgreedError(Exit::bad_data,
                      fmt::format("{}: no whole checkpoint is left of {}; nothing was changed: bring a whole one back, "
                                  "or move this directory away to start again from step 1",
                                  store_.directory(), damaged.size()));
  go_on_from(store_.path(step), changes);
  return true;
}

void Training::choose_beginning(const std::vector<FieldDifference>& branch_changes) {
  if (setup_.branch_from) {
    agreed_by(run_.comm, console_ != nullptr, [&] { record_->begin_at(progress_.step); });
    go_on_from(*setup_.branch_from, branch_changes);
  }
  const bool resumed = setup_.branch_from || resume_from_newest();
  if (resumed && !setup_.branch_from && progress_.step >= run_.steps) {
    int64_t complete = record_ && path_exists(record_->directory().file("model")) ? 1 : 0;
    run_.comm.broadcast(std::as_writable_bytes(std::span(&complete, 1)), 0);
    complete_before_ = complete != 0;
  }
  if (!resumed) {
    progress_ = {};
    run_.initialize();
    agreed_by(run_.comm, console_ != nullptr, [&] {
      record_->begin_at(0);
      if (attempt_ > 1) warn(fmt::format("attempt {}: no complete checkpoint is there; from step 1 again", attempt_));
    });
  }
  start_ledger();
}

void Training::start_ledger() {
  agreed_by(run_.comm, console_ != nullptr, [&] {
    const double lost = record_->ledger().restart_at(progress_.step);
    if (lost > 0)
      warn(fmt::format("{:.4f} device-hours of steps after step {} were lost", lost / 3600, grouped(progress_.step)));
    report_status("running", spent_now());
  });
}

void Training::prepare_saver() {
  CheckpointSaver::Options options;
  options.retention = {.keep = run_.config.checkpoint.keep,
                       .milestone_interval = run_.config.checkpoint.milestone_interval};
  options.boxes = run_.boxes();
  if (run_.snapshot_arena) options.snapshot = plan_snapshot(*run_.snapshot_arena, options.boxes);
  options.now = [this] { return run_.clock.now(); };
  saver_ = std::make_unique<CheckpointSaver>(store_, run_.comm, run_.stream, std::move(options));
}

// Every number and every answer that all ranks need, in one message. `save_beside`: device-seconds of a save that goes
// on beside the next step.
Training::Border Training::border(bool last, double save_beside) {
  std::array<int64_t, kCostKinds + 4> sums{};
  const CostSeconds mine = run_.clock.seconds();
  for (size_t k = 0; k < kCostKinds; ++k) sums[k] = static_cast<int64_t>(mine.of[k] * 1e9);
  int64_t &stop = sums[kCostKinds], &over = sums[kCostKinds + 1], &dislodged = sums[kCostKinds + 2],
          &no_evaluation = sums[kCostKinds + 3];
  stop = setup_.stop != nullptr && *setup_.stop != 0 ? 1 : 0;
  if (record_) {
    if (record_->directory().stop_requested()) stop = 1;
    if (!record_->owned()) dislodged = 1;
    const double spent = spent_now(), next = cost_of_next_step(progress_.step, tokens()) + save_beside;
    if (!last && !budget_.fits(spent, next)) over = 1;
    if (!last && !budget_.fits(spent, next + budget_.evaluation())) no_evaluation = 1;
  }
  run_.comm.all_reduce(sums, ReduceOp::sum);
  Border b{.stop = stop != 0,
           .over_budget = over != 0,
           .dislodged = dislodged != 0,
           .evaluate = no_evaluation == 0,
           .spent = {}};
  for (size_t k = 0; k < kCostKinds; ++k) b.spent.of[k] = static_cast<double>(sums[k]) * 1e-9;
  if (b.dislodged)
    throw AgreedError(Exit::locked,
                      fmt::format("run.dir: {} was taken over by another job; this one stops", run_.config.run.dir));
  return b;
}

bool Training::evaluation_due(int64_t step) const {
  if (run_.valid_shards.empty()) return false;
  const int64_t interval = run_.config.training.eval_interval;
  return step == run_.steps || (interval > 0 && step % interval == 0);
}

Training::Ending Training::loop() {
  Border now = border(progress_.step >= run_.steps);
  if (record_) record_->ledger().book("start", progress_.step, tokens(), now.spent);
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
    budget_.step_took(seconds * run_.comm.size(), size);
    // A save that goes on, or begins now, must come to its end before the last one can begin.
    now = border(progress_.step >= run_.steps, saver_->busy() || save_due() ? budget_.save() : 0);
    finish_report(report, size, seconds, now);
    if (record_) {
      record_->write(report);
      if (run_.network.table().moe_layers > 0 && ExpertLoadFile::due(report.step, run_.steps)) {
        record_->write_expert_load(report.step, report.tokens, run_.network.table().moe_layer_numbers(),
                                   run_.buffers.counts_LE);
      }
      record_->ledger().book("step", report.step, report.tokens, now.spent, predicted);
      if (report.step % run_.config.training.log_interval == 0 || report.step == run_.steps)
        console_->step(report, seconds_left());
      if (const int part = budget_.warning(spent_now()))
        warn(fmt::format("{}% of the budget is used at step {}", part, grouped(report.step)));
      // Replacing a file waits for the disk, which a short step must not.
      if (run_.clock.now() - status_at_ >= kStatusSeconds) report_status("running", spent_now());
    }
    save_if_due();
    if (evaluation_due(report.step) && report.step < run_.steps && !now.stop && !now.over_budget) {
      if (now.evaluate)
        evaluate_now();
      else if (record_)
        warn(fmt::format("no evaluation at step {}: what is left of the budget is kept for steps",
                         grouped(report.step)));
    }
  }
  return Ending::steps_done;
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
  if (config.cluster.price_per_device_hour)
    report.money = report.gpu_hours * config.cluster.price_per_device_hour->amount;
  report.budget_left = budget_.left_fraction(spent);
  // Said once: nothing computes faster than its multiply-adds, so the peak was measured on a machine that had no time.
  if (console_ != nullptr && !peak_doubted_ && *report.mfu > 1.0) {
    peak_doubted_ = true;
    console_->warn("MFU above 100%: the machine was busy with something else when the peak was measured at start");
  }
}

void Training::evaluate_now() {
  const double begin = run_.clock.now();
  const Charged charged(run_.clock, CostKind::evaluation);
  const EvalResult result = evaluate(run_.comm, {.network = run_.network,
                                                 .stream = run_.stream,
                                                 .saved = *run_.saved_arena,
                                                 .scratch = *run_.scratch_arena,
                                                 .segments = run_.config.parallelism.segments(),
                                                 .weights = run_.weights(),
                                                 .shards = run_.valid_shards,
                                                 .seq_length = run_.config.training.seq_length,
                                                 .batch = run_.division.micro_batch,
                                                 .separator = run_.separator});
  budget_.evaluation_took((run_.clock.now() - begin) * run_.comm.size());
  const bool finite = std::isfinite(result.nats);
  if (!record_ && finite) return;
  const EvalReport report{.step = progress_.step,
                          .tokens = tokens(),
                          .loss = result.loss(),
                          .ppl = result.ppl(),
                          .bits_per_byte = result.bits_per_byte(),
                          .targets = result.targets};
  if (record_) {
    record_->write(report);
    console_->eval(report);
  }
  if (!finite) fail_non_finite_evaluation(run_.network.table(), progress_.step, run_.params);
}

bool Training::save_due() const {
  const int64_t interval = run_.config.checkpoint.interval;
  return interval > 0 && progress_.step > 0 && progress_.step % interval == 0 && progress_.step < run_.steps;
}

void Training::save_if_due() {
  const Charged charged(run_.clock, CostKind::checkpoint);
  if (const std::optional<SaveResult> over = saver_->poll()) tell(*over);
  if (!save_due()) return;
  if (saver_->busy()) {
    if (console_ != nullptr)
      warn(fmt::format("no checkpoint of step {}: the one before it is still being written", grouped(progress_.step)));
    return;
  }
  CostSeconds ledger;
  if (record_) ledger = record_->ledger().totals().device_seconds;
  const RunState state = run_state(run_, progress_, attempt_, ledger);
  if (const std::optional<SaveResult> failed = saver_->start(state, checkpoint_texts(run_.loaded))) tell(*failed);
}

void Training::tell(const SaveResult& result) {
  budget_.save_took(result.busy_seconds * run_.comm.size());
  if (result.error) {
    ++failed_saves_;
    const bool stop = run_.config.checkpoint.on_error == OnSaveError::stop || failed_saves_ >= kMostFailedSaves;
    const std::string text = fmt::format("no checkpoint of step {}: {}", grouped(result.step), result.error->what());
    if (stop) throw AgreedError(result.error->code(), text);
    if (console_ != nullptr) warn(text + "; training goes on");
    return;
  }
  failed_saves_ = 0;
  saved_step_ = result.step;
  if (!record_) return;
  const CheckpointReport report{.step = result.step,
                                .tokens = result.tokens,
                                .bytes = static_cast<int64_t>(result.bytes),
                                .stall_ms = result.stall_seconds * 1e3,
                                .seconds = result.seconds};
  record_->write(report);
  console_->saved(report, CheckpointStore::name(result.step));
  if (!result.warning.empty()) warn(result.warning);
}

// The checkpoint with which an attempt ends; without it the attempt has failed.
void Training::save_last() {
  const Charged charged(run_.clock, CostKind::checkpoint);
  if (const std::optional<SaveResult> over = saver_->finish()) tell(*over);
  if (saved_step_ == progress_.step) return;
  CostSeconds ledger;
  if (record_) ledger = record_->ledger().totals().device_seconds;
  const SaveResult result =
      saver_->save_now(run_state(run_, progress_, attempt_, ledger), checkpoint_texts(run_.loaded));
  if (result.error)
    throw AgreedError(result.error->code(),
                      fmt::format("no checkpoint of step {}: {}", grouped(result.step), result.error->what()));
  tell(result);
}

void Training::write_model() {
  agreed_by(run_.comm, record_.has_value(), [&] {
    const RunDirectory& directory = record_->directory();
    const std::string model = directory.file("model"), before = directory.file("model.before");
    remove_tree(before);
    if (path_exists(model)) publish(model, before);  // of a run that was given more steps
    export_parameters(model, run_.network.table(), run_.params, run_.biases);
    remove_tree(before);
  });
}

Exit Training::end(Ending ending) {
  Exit code = Exit::done;
  const char* state = "done";
  save_last();
  if (ending == Ending::steps_done) {
    if (!complete_before_ && !run_.valid_shards.empty()) evaluate_now();
    if (!complete_before_) write_model();
  } else {
    code = ending == Ending::stop_asked ? Exit::requeue : Exit::budget;
    state = ending == Ending::stop_asked ? "stopped" : "budget";
  }
  run_.clock.charge(CostKind::startup);
  const Border last = border(true);
  if (record_) {
    record_->ledger().book("end", progress_.step, tokens(), last.spent);
    record_->end(progress_.step, tokens(), state);
    report_status(state, spent_now());
    if (ending == Ending::stop_asked) record_->directory().remove_stop();
    record_->release(static_cast<int>(code), state);
    const std::string of = fmt::format("after step {} of {}", grouped(progress_.step), grouped(run_.steps));
    const double hours = record_->ledger().booked() / 3600;
    if (complete_before_) {
      say("done", fmt::format("already: all {} were done before; more training.train_steps would go on",
                              count_of(progress_.step, "step")));
    } else if (ending == Ending::steps_done) {
      say("done", fmt::format("{} in {}, {:.4f} rank-hours; weights in {}", count_of(progress_.step, "step"),
                              duration(run_.clock.now() - began_), hours, record_->directory().file("model")));
    } else if (ending == Ending::stop_asked) {
      say("stopped", fmt::format("{}, as asked; {:.4f} rank-hours; start it again to go on", of, hours));
    } else {
      say("budget",
          fmt::format("used up {}: {:.4f} of {:.4f} rank-hours, and the next step with a checkpoint does not fit", of,
                      hours, *budget_.limit() / 3600));
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
      CostSeconds mine = run_.clock.seconds();
      for (double& x : mine.of) x *= run_.comm.size();  // the other ranks may be gone
      record_->ledger().book("end", progress_.step + 1, tokens(), mine);
    });
    attempt([&] { record_->end(progress_.step, tokens(), "failed"); });
    attempt([&] { report_status("failed", spent_now()); });
    attempt([&] { record_->release(static_cast<int>(error.code()), std::string("failed: ") + error.what()); });
  }
}

void Training::report_status(const char* state, double spent) {
  RunStatus status{
      .state = state, .step = progress_.step, .steps = run_.steps, .tokens = tokens(), .device_hours = spent / 3600};
  if (token_seconds_ > 0 && std::string_view(state) == "running") status.eta_s = seconds_left();
  record_->status(status);
  status_at_ = run_.clock.now();
}

}  // namespace tael
