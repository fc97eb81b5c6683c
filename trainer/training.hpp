// The life of a run on all ranks, from what is on the disk to its exit code: where it begins, its steps, evaluations
// and checkpoints, what it spends, and the ways it ends.
#pragma once

#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/saver.hpp"
#include "cost/budget.hpp"
#include "parallel/agree.hpp"
#include "trainer/assemble.hpp"
#include "trainer/console.hpp"
#include "trainer/record.hpp"
#include "trainer/resume.hpp"
#include "trainer/step.hpp"

namespace tael {

struct TrainingSetup {
  std::vector<std::string> command;                  // as it was typed, for env.json
  std::string job;                                   // the scheduler's number of it
  std::string branched_from;                         // the checkpoint that a branch starts from; empty: it is none
  bool in_existing_run = false;                      // the run directory was there
  bool must_be_new = false;                          // --resume never or PATH: it may not be there
  const volatile std::sig_atomic_t* stop = nullptr;  // a signal asks to stop after the step
  // What a step and a save take, in seconds, before the first was measured; nothing: from FLOPs and the measured peak,
  // and from bytes.
  std::optional<double> predicted_step_seconds = std::nullopt, predicted_save_seconds = std::nullopt;
  std::optional<double> peak = std::nullopt;  // FLOP/s of a rank; nothing: measured at start
};

// Of a rank, for what follows the last checkpoint.
inline constexpr double kClosingSeconds = 0.5;
// Of a rank, from the look at the budget of a new run to its first step: the directory and its first files.
inline constexpr double kBeginningSeconds = 0.25;

class Training {
 public:
  // `console` on rank 0, else nullptr. All outlive the training.
  Training(Run& run, const TrainingSetup& setup, Console* console);

  // Collective. 0: all steps are done; 75: stopped on request, 76: the budget is used up, each with a complete
  // checkpoint. Throws Error otherwise.
  Exit operator()();

 private:
  enum class Ending : uint8_t { steps_done, stop_asked, budget_used };

  // Where it begins.
  bool is_new_branch() const { return !setup_.in_existing_run && !setup_.branched_from.empty(); }
  void estimate_costs();
  void check_budget_of_a_new_run();
  bool is_finished();
  bool budget_is_used_up();
  void take_directory();
  void require_still_new();
  void choose_beginning(std::vector<FieldDifference>& branch_changes);
  std::optional<RunStatus> earlier_status() const;
  // Fills the arrays from a checkpoint; its damage is returned, the same on all ranks.
  std::optional<AgreedError> load(const std::string& path, std::vector<FieldDifference>& changes);
  bool resume_from_newest();
  void go_on_from(const std::string& path, const std::vector<FieldDifference>& changes);
  void say_changes(const std::vector<FieldDifference>& since_the_checkpoint);
  void start_ledger();
  void prepare_saver();

  // Between two steps: what all ranks decide together.
  struct Border {
    bool stop = false, over_budget = false, dislodged = false;
    bool evaluate = true;  // if it is due: the budget has room for it
    CostSeconds spent;     // by all ranks in this attempt
    double at = 0;         // until then, on rank 0's clock
  };
  // `save_beside`: a save goes on beside the next step.
  Border border(bool last, bool save_beside = false);
  Border booked_border(const char* kind);  // and its line
  // A line of the ledger with what was spent until that border.
  void book(const char* kind, const Border& border, LineNotes notes = {});
  Ending loop();
  void wait_for_room(Border& now);
  void report_status_now_and_then();
  void write_expert_load(bool last);
  void warn_of_the_budget();
  // `tokens` and `seconds` of the step.
  void finish_report(StepReport& report, double tokens, double seconds, const Border& border);
  double step_tokens(int64_t tokens) const;
  CostRange cost_of_next_step(int64_t done, int64_t tokens) const;
  CostRange closing() const;
  CostRange cost_of_the_end(bool evaluated = false) const;
  bool ending_fits(bool evaluated) const;
  CostRange cost_of_going_on(const Progress& from) const;
  bool evaluation_due(int64_t step) const;
  bool save_due() const;
  bool stop_asked() const;
  void evaluate_between_steps(Border& now);
  bool leaves_out_evaluation();
  bool evaluate_now(Border& now);  // false: it was given up, for a wish to stop or for the budget
  bool save_if_due();              // whether one ended or began
  void tell(const SaveResult& result);
  bool finish_save();  // waits for the save that goes on; whether one did
  void save_last();
  void write_model();
  Ending finish();
  Exit end(Ending ending);
  void record_failure(const Error& error);
  void status_of_failure();
  // Money for so many device-seconds of all attempts, from the earlier ones' on. REQUIRES a price.
  double paid_for(double spent) const;
  std::string used_of_budget(double spent) const;
  std::string what_does_not_fit() const;
  void report_status(const char* state, double spent);

  double spent_before() const;
  double spent_now() const;  // device-seconds of all attempts, as rank 0 knows it
  double seconds_left() const { return token_seconds_ * static_cast<double>(run_.all_tokens - tokens()); }
  int64_t tokens() const { return progress_.tokens; }
  void say(std::string_view name, const std::string& text) const {
    if (console_ != nullptr) console_->fact(name, text);
  }
  void warn(const std::string& text);

  Run& run_;
  const TrainingSetup setup_;
  Console* const console_;
  std::optional<Record> record_;
  std::unique_ptr<CheckpointSaver> saver_;
  CheckpointStore store_;
  Budget budget_;
  Progress progress_;
  int64_t attempt_ = 0;
  std::optional<int64_t> first_tokens_;  // with which the run's first attempt began; nothing: this is it
  double began_ = 0;                     // of the earliest rank, on this rank's clock
  double peak_ = 0;                      // FLOP/s of a rank
  double paid_before_ = 0;               // by earlier attempts, in the currency of the price
  double token_seconds_ = 0;             // of a token in a step, lately
  bool begun_ = false;                   // it is known where it begins, and that it can
  bool evaluation_owed_ = false;         // of the step that it begins after
  bool evaluation_hopeless_ = false;     // that one was given up so often that it is left out
  bool peak_doubted_ = false;
  int64_t saved_step_ = -1;                       // of the newest checkpoint
  int failed_saves_ = 0;                          // in a row
  double no_room_for_ = 0;                        // device-seconds that the budget had no room for, on rank 0
  std::optional<double> weights_took_;            // device-seconds, written or not
  std::optional<double> unbooked_save_;           // device-seconds that the last one took, until the ledger has them
  CostSeconds spent_at_border_, mine_at_border_;  // by all ranks, and by this one, until the last border
  double looked_at_ = 0;                          // when the budget was found to have room for this start
  int64_t loads_written_of_ = -1;                 // the last step in experts.jsonl
  double status_at_ = 0;                          // when status.json was last written
};

}  // namespace tael
