#include "trainer/training.hpp"

#include <algorithm>
#include <limits>

#include "base/hash.hpp"
#include "cost/flops.hpp"
#include "cost/job_time.hpp"
#include "cost/machine.hpp"
#include "model/init.hpp"
#include "trainer/budget_limit.hpp"
#include "trainer/start_facts.hpp"

namespace tael {

namespace {

constexpr int64_t kMostGivenUp = 3;  // evaluations of one step; the next start goes on without it

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

// Device-seconds of a token in the step to come, before one was measured. Where a budget depends on it, a part of such
// a step is tried: how much of its peak a machine reaches with a model, nobody knows.
double token_seconds(Run& run, double peak, const TrainingSetup& setup) {
  const TrainingOptions& t = run.config.training;
  const std::vector<int64_t> sizes = t.global_batch_size.all();
  const double ranks = run.comm.size(), length = static_cast<double>(t.seq_length);
  if (setup.predicted_step_seconds)
    return *setup.predicted_step_seconds * ranks / (static_cast<double>(std::ranges::max(sizes)) * length);
  if (!budget_left(run.config, {}) || run.from.step >= run.steps)
    return predicted_step_seconds(training_flops_per_token(run.config.model.shape, t.seq_length), peak);
  const int64_t sequences = t.global_batch_size.at(run.from.tokens);
  return trial_step(run, sequences) * ranks / (static_cast<double>(sequences) * length);
}

// Device-seconds of a token's share of a step, a save and an evaluation, before any of them was measured.
Budget::Estimates estimates(const Run& run, double token_seconds, const TrainingSetup& setup) {
  const double ranks = run.comm.size();
  const double bytes = 3.0 * static_cast<double>(run.network.table().size()) * sizeof(float);
  return {.step = token_seconds,
          .save = ranks * setup.predicted_save_seconds.value_or(0.05 + bytes / kAssumedFileRate),
          .evaluation = evaluation_cost(token_seconds, static_cast<double>(run.held_out_tokens()))};
}

}  // namespace

Training::Training(Run& run, const TrainingSetup& setup, Console* console)
    : run_(run),
      setup_(setup),
      console_(console),
      store_(run.config.run.dir + "/checkpoints"),
      budget_(std::nullopt, {}) {}

Exit Training::operator()() {
  run_.allocate();
  // Of the earliest rank, as its age: clocks of different hosts have nothing in common.
  const double age = longest_of(run_.comm, run_.clock.now() - run_.clock.began());
  began_ = run_.clock.now() - age;
  run_.clock.begin_earlier(began_);
  peak_ = setup_.peak ? *setup_.peak : measured_peak(run_);
  std::vector<FieldDifference> changes;
  // Before there is a directory that a damaged source would leave behind.
  const double before = run_.clock.now();
  if (is_new_branch()) {
    if (const auto damage = load(setup_.branched_from, changes)) throw AgreedError(*damage);
  } else if (!setup_.in_existing_run) {
    run_.begin_at({});
    run_.initialize();
  }
  const double read = run_.clock.now() - before;  // a start that finds no checkpoint reads it behind the look
  estimate_costs();
  if (!setup_.in_existing_run) agreed_by(run_.comm, run_.comm.rank() == 0, [&] { check_budget_of_a_new_run(); });
  looked_at_ = run_.clock.now() - read;
  try {
    take_directory();
    if (is_finished()) return Exit::done;
    if (setup_.in_existing_run) {
      if (budget_is_used_up()) return Exit::budget;
      looked_at_ = run_.clock.now();
    }
    choose_beginning(changes);
    prepare_saver();
    if (console_ != nullptr) print_peak(*console_, run_, peak_);
    return end(loop());
  } catch (const AgreedError& error) {
    // What the new owner does to the run is what whoever lost it meanwhile fails for.
    agreed_by(run_.comm, record_.has_value(), [&] { record_->require_owned(); });
    record_failure(error);
    throw;
  } catch (...) {
    record_failure(current_error());
    throw;
  }
}

void Training::estimate_costs() {
  const auto budget = budget_left(run_.config, {});
  // Any weights will do for a trial; those of a run that is there are read when it is known from where.
  if (budget && setup_.in_existing_run)
    init_params(run_.stream, run_.network.table(), static_cast<uint64_t>(run_.config.run.seed), run_.params.data,
                run_.biases.data);
  const double token = token_seconds(run_, peak_, setup_);
  budget_ = Budget(budget ? std::optional(budget->left) : std::nullopt, estimates(run_, token, setup_));
}

namespace {

// Of the tokens, of their mixture where they have weights, and of what attention sees of them.
std::string digest_of(const std::vector<TokenShard>& shards, const std::vector<DataSource>& mixture, bool masked) {
  if (shards.empty()) return {};
  std::string text = masked ? "masked" : "";
  for (const std::string& digest : data_digests(shards)) text += " " + digest;
  for (const DataSource& source : mixture)
    if (source.weight) text += fmt::format(" {}", *source.weight);
  return to_hex(xxh3_128(text.data(), text.size()));
}

AttemptConditions present_conditions(const Run& run) {
  const Config& config = run.config;
  const bool masked = config.data.document_mask;
  return {.price_per_device_hour = config.cluster.price_per_device_hour,
          .flops_per_token = training_flops_per_token(config.model.shape, config.training.seq_length),
          .device = fmt::format("{}, {}", cpu_model(), count_of(run.execution.threads, "thread")),
          .seq_length = config.training.seq_length,
          .data = digest_of(run.train_shards, config.data.train, masked),
          .valid_data = digest_of(run.valid_shards, {}, masked),
          .initial_weights = config.checkpoint.initial_load_path.value_or("")};
}

}  // namespace

void Training::take_directory() {
  const std::vector<std::string> hosts = run_.comm.all_gather_text(host_name());
  const Config& config = run_.config;
  const AttemptConditions conditions = present_conditions(run_);
  agreed_by(run_.comm, console_ != nullptr, [&] {
    try {
      record_.emplace(run_.loaded,
                      Environment{.command = setup_.command,
                                  .hosts = hosts,
                                  .execution = run_.execution,
                                  .ranks = run_.comm.size(),
                                  .data = data_digests(run_.train_shards),
                                  .valid_data = data_digests(run_.valid_shards),
                                  .memory = run_.memory_by_kind(),
                                  .job = setup_.job,
                                  .tokenizer = tokenizer_of(run_.train_shards),
                                  .conditions = conditions,
                                  .branched_from = setup_.branched_from},
                      run_.clock, began_);
    } catch (const Error&) {
      if (!setup_.in_existing_run) RunDirectory::forget(run_.config.run.dir);
      throw;
    }
    if (!setup_.in_existing_run) {
      require_still_new();
      record_->describe();
    }
    const std::vector<LedgerLine>& earlier = record_->ledger().earlier();
    budget_.learn(earlier, run_.comm.size(), conditions);
    if (const auto budget = budget_left(config, earlier)) budget_.set_left(spent_before(), budget->left, budget->whole);
    if (const auto& price = config.cluster.price_per_device_hour) paid_before_ = paid(earlier, *price);
    const auto first = std::ranges::find(earlier, "start", &LedgerLine::kind);
    if (first != earlier.end()) first_tokens_ = first->tokens;
    record_->require_owned();
    record_->directory().sweep();
    store_.sweep();
    attempt_ = record_->attempt();
    if (!record_->lock_note().empty()) console_->warn(record_->lock_note());
  });
  run_.comm.broadcast(std::as_writable_bytes(std::span(&attempt_, 1)), 0);
}

// Start-up takes its time, and another start may have begun the run, or ended it, before this one had the lock.
void Training::require_still_new() {
  if (record_->attempt() == 1) return;
  const std::string& directory = run_.config.run.dir;
  const Error error(
      setup_.must_be_new ? Exit::bad_config : Exit::locked,
      setup_.must_be_new
          ? fmt::format("run.dir: {} was begun by another start meanwhile; give another run.dir", directory)
          : fmt::format("run.dir: {} was begun by another start meanwhile; start again to go on with it", directory));
  record_->release(static_cast<int>(error.code()), error.what());
  record_.reset();  // nothing is booked
  throw error;
}

std::optional<AgreedError> Training::load(const std::string& path, std::vector<FieldDifference>& changes) {
  const Charged charged(run_.clock, CostKind::checkpoint);
  try {
    agreed(run_.comm, [&] {
      const Checkpoint checkpoint = Checkpoint::open(path);
      checkpoint.verify_beside_tensors();
      changes = require_same_run(checkpoint, run_);
      progress_ = restore(checkpoint, run_);
      run_.begin_at(progress_);
    });
  } catch (const AgreedError& error) {
    if (error.code() != Exit::bad_data) throw;
    return error;
  }
  const uint64_t digest = xxh3_64(run_.params.data, static_cast<size_t>(run_.params.size()) * sizeof(float));
  agree_equal(run_.comm, path, digest, Exit::bad_data);  // hosts may see other files under that name
  return std::nullopt;
}

void Training::go_on_from(const std::string& path, const std::vector<FieldDifference>& changes) {
  agreed_by(run_.comm, console_ != nullptr, [&] {
    say("resumed", fmt::format("{} (attempt {})", path, attempt_));
    record_->event(progress_.step, tokens(), fmt::format("resumed from {}", path));
    say_changes(changes);
  });
}

// What is not as the last start had it, and what is not as the checkpoint has it: they differ where a start wrote none.
void Training::say_changes(const std::vector<FieldDifference>& since_the_checkpoint) {
  std::vector<FieldDifference> changes;
  const std::string path = record_->directory().file("config.yaml");
  if (setup_.in_existing_run && path_exists(path)) {
    try {
      const LoadedConfig before = load_config_text(read_file(path), path, {}, {});
      changes = differences(write_fields(before.config), write_fields(run_.config));
    } catch (const Error&) {  // it is damaged, and replaced soon
    }
  }
  for (const FieldDifference& d : since_the_checkpoint)
    if (std::ranges::find(changes, d.path, &FieldDifference::path) == changes.end()) changes.push_back(d);
  for (const FieldDifference& d : changes) {
    if (d.path == "run.dir") continue;
    const std::string text = fmt::format("{} is {} now, was {}", d.path, d.second, d.first);
    say("changed", text);
    record_->event(progress_.step, tokens(), text);
  }
}

// The newest whole one. Damaged ones are put aside once a whole one is in hand, so that their steps can be saved again;
// while there is none, nothing is touched and nothing begins: somebody may know how to mend one.
bool Training::resume_from_newest() {
  std::vector<FieldDifference> changes;
  std::vector<std::pair<int64_t, std::string>> damaged;
  int64_t step = std::numeric_limits<int64_t>::max();
  double took = 0;  // to read the last one
  while (true) {
    int64_t before = -1;
    agreed_by(run_.comm, console_ != nullptr, [&] {
      for (const int64_t each : store_.published())
        if (each < step) before = each;
      if (damaged.empty() || before < 0) return;
      const CostRange next =
          cost_of_going_on(run_.from) + CostRange::exactly(std::max(took * run_.comm.size(), budget_.save().usual));
      if (budget_.pays(spent_now(), next)) return;
      fail(Exit::budget, "{}; to read the one before it does not fit into what is left of the budget",
           damaged.back().second);
    });
    run_.comm.broadcast(std::as_writable_bytes(std::span(&before, 1)), 0);
    step = before;
    if (step < 0) break;
    const double begin = run_.clock.now();
    const std::optional<AgreedError> damage = load(store_.path(step), changes);
    if (!damage) break;
    took = run_.clock.now() - begin;
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
                      fmt::format("{}: no whole checkpoint is left of {}; none was touched: bring a whole one back, "
                                  "or move this directory away to start again from step 1",
                                  store_.directory(), damaged.size()));
  go_on_from(store_.path(step), changes);
  saved_step_ = progress_.step;
  return true;
}

// What status.json says; nothing where it is damaged. REQUIRES a record.
std::optional<RunStatus> Training::earlier_status() const {
  try {
    return read_status(record_->directory().file("status.json"));
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Whether all steps were done before, and the model was written: it may be of fewer steps, and that it is of these is
// said last of all. Then nothing is done, and nothing booked.
bool Training::is_finished() {
  int64_t finished = 0;
  agreed_by(run_.comm, console_ != nullptr, [&] {
    const std::optional<RunState> newest = setup_.in_existing_run ? store_.newest_state() : std::nullopt;
    if (!newest || newest->step < run_.steps || !path_exists(record_->directory().file("model"))) return;
    const std::optional<RunStatus> before = earlier_status();
    if (!before || before->state != "done" || before->step != newest->step) return;
    record_->require_owned();
    finished = 1;
    record_->directory().remove_stop();
    record_->release(static_cast<int>(Exit::done), "was done before");
    say("done", fmt::format("already: all {} were done before; more training.train_steps would go on",
                            count_of(newest->step, "step")));
  });
  run_.comm.broadcast(std::as_writable_bytes(std::span(&finished, 1)), 0);
  return finished != 0;
}

// A branch without a checkpoint of its own begins where it branched off, however often it was started.
void Training::choose_beginning(std::vector<FieldDifference>& branch_changes) {
  if (!is_new_branch() && resume_from_newest()) {
    std::array<int64_t, 2> known{};
    if (record_ && evaluation_due(progress_.step) && progress_.step > 0) {
      const EvaluationOfStep found = evaluation_of_step(record_->directory().file("metrics.jsonl"), progress_.step);
      known = {found.made ? 0 : 1, found.given_up};
    }
    run_.comm.broadcast(std::as_writable_bytes(std::span(known)), 0);
    evaluation_owed_ = known[0] != 0;
    // Attempts that are too short for an evaluation must not begin with it for ever.
    evaluation_hopeless_ = known[1] >= kMostGivenUp;
  } else if (!setup_.branched_from.empty()) {
    if (!is_new_branch())
      if (const auto damage = load(setup_.branched_from, branch_changes)) throw AgreedError(*damage);
    agreed_by(run_.comm, console_ != nullptr, [&] { record_->begin_at(progress_.step); });
    go_on_from(setup_.branched_from, branch_changes);
  } else {
    progress_ = {};
    if (setup_.in_existing_run) {
      run_.begin_at(progress_);
      run_.initialize();
    }
    agreed_by(run_.comm, console_ != nullptr, [&] {
      record_->begin_at(0);
      if (attempt_ > 1) warn(fmt::format("attempt {}: no complete checkpoint is there; from step 1 again", attempt_));
      for (const std::string& warning : run_.initial_warnings) record_->event(0, 0, warning);  // printed at the start
      say_changes({});
    });
  }
  start_ledger();
}

void Training::start_ledger() {
  agreed_by(run_.comm, console_ != nullptr, [&] {
    record_->require_owned();
    const double lost = record_->ledger().restart_at(progress_.step, tokens());
    if (lost > 0)
      warn(fmt::format(
          "{} of steps after step {} were lost",
          lost < 36 ? fmt::format("{:.2g} device-seconds", lost) : fmt::format("{:.4f} device-hours", lost / 3600),
          grouped(progress_.step)));
    if (setup_.in_existing_run) record_->describe();  // a new one was described when it had its directory
    report_status("running", spent_now());
  });
  begun_ = true;
}

void Training::prepare_saver() {
  CheckpointSaver::Options options;
  options.retention = {.keep = run_.config.checkpoint.keep,
                       .milestone_interval = run_.config.checkpoint.milestone_interval,
                       .begin_tokens = first_tokens_.value_or(progress_.tokens)};
  options.boxes = run_.boxes();
  if (run_.snapshot_arena) options.snapshot = plan_snapshot(*run_.snapshot_arena, options.boxes);
  options.now = [this] { return run_.clock.now(); };
  options.may_publish = [this] {
    if (record_) record_->require_owned();
  };
  saver_ = std::make_unique<CheckpointSaver>(store_, run_.comm, run_.stream, std::move(options));
}

}  // namespace tael
