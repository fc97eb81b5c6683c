#include "trainer/training.hpp"

#include <algorithm>

#include "checkpoint/hf_export.hpp"

namespace tael {

namespace {

constexpr int kMostFailedSaves = 3;  // in a row, then the run stops

}  // namespace

bool Training::save_due() const {
  const int64_t interval = run_.config.checkpoint.interval;
  return interval > 0 && progress_.step > 0 && progress_.step % interval == 0 && progress_.step < run_.steps;
}

bool Training::save_if_due() {
  const Charged charged(run_.clock, CostKind::checkpoint);
  const bool due = save_due();
  const std::optional<SaveResult> over = saver_->poll(due);
  if (over) tell(*over);
  if (!due) return over.has_value();
  if (saver_->busy()) {
    if (console_ != nullptr)
      warn(fmt::format("no checkpoint of step {}: the one before it is still being written", grouped(progress_.step)));
    return false;
  }
  CostSeconds ledger;
  if (record_) ledger = record_->ledger().totals().device_seconds;
  const RunState state = run_state(run_, progress_, attempt_, ledger);
  if (!run_.snapshot_arena) {
    // The run has more steps than it seemed to have before it was known where it begins: there is no room for a copy.
    tell(saver_->save_now(state, checkpoint_texts(run_.loaded)));
  } else if (const std::optional<SaveResult> failed = saver_->start(state, checkpoint_texts(run_.loaded))) {
    tell(*failed);
  }
  return true;
}

void Training::tell(const SaveResult& result) {
  const double seconds = result.busy_seconds * run_.comm.size();
  // One that failed says only that a whole one may be as dear.
  if (!result.error || seconds > budget_.expected_save()) {
    budget_.save_took(seconds);
    unbooked_save_ = std::max(seconds, unbooked_save_.value_or(0));
  }
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

bool Training::finish_save() {
  const Charged charged(run_.clock, CostKind::checkpoint);
  const std::optional<SaveResult> over = saver_->finish();
  if (over) tell(*over);
  return over.has_value();
}

// The checkpoint with which an attempt ends; without it the attempt has failed.
void Training::save_last() {
  const Charged charged(run_.clock, CostKind::checkpoint);
  if (finish_save()) booked_border("checkpoint");
  if (saved_step_ == progress_.step) return;
  CostSeconds ledger;
  if (record_) ledger = record_->ledger().totals().device_seconds;
  const SaveResult result =
      saver_->save_now(run_state(run_, progress_, attempt_, ledger), checkpoint_texts(run_.loaded));
  if (result.error) failed_saves_ = kMostFailedSaves;  // that stops whatever on_error says
  tell(result);
}

// Beside the one that is there, of a run that was given more steps, and in its place once it is whole.
void Training::write_model() {
  // Also of one that failed: the next one may take as long.
  struct Timer {
    Training& t;
    const double begin = t.run_.clock.now();
    ~Timer() { t.weights_took_ = (t.run_.clock.now() - begin) * t.run_.comm.size(); }
  };
  const Timer timer{*this};
  agreed_by(run_.comm, record_.has_value(), [&] {
    record_->require_owned();
    const RunDirectory& directory = record_->directory();
    const std::string model = directory.file("model"), before = directory.file("model.before"),
                      next = free_name_beside(model);
    try {
      export_parameters(next, run_.network.table(), run_.params, run_.biases);
      record_->require_owned();
    } catch (const Error&) {
      remove_tree(next);
      throw;
    }
    remove_tree(before);
    if (path_exists(model)) publish(model, before);
    publish(next, model);
    remove_tree(before);
  });
}

}  // namespace tael
