#include "trainer/training.hpp"

#include <cmath>

#include "trainer/evaluate.hpp"
#include "trainer/health.hpp"

namespace tael {

bool Training::evaluation_due(int64_t step) const {
  return !run_.valid_shards.empty() && run_.config.training.evaluation_due(step, run_.steps);
}

// Of a step that is not the last. `now` is renewed where something ended it early.
void Training::evaluate_between_steps(Border& now) {
  if (now.stop || now.over_budget) return;  // whoever goes on finds it missing
  if (leaves_out_evaluation()) return;
  if (!now.evaluate) {
    if (record_)
      warn(fmt::format("no evaluation at step {}: what is left of the budget is kept for steps",
                       grouped(progress_.step)));
  } else {
    evaluate_now(now);
  }
}

// Of the step that the attempt began after, when attempts have had no time for it.
bool Training::leaves_out_evaluation() {
  if (!evaluation_hopeless_ || progress_.step != run_.from.step) return false;
  if (record_)
    warn(fmt::format("no evaluation of step {}: attempts had no time for it; tael eval on its checkpoint makes it",
                     grouped(progress_.step)));
  return true;
}

bool Training::evaluate_now(Border& now) {
  const double begin = run_.clock.now();
  const Charged charged(run_.clock, CostKind::evaluation);
  // The last one is followed by the weights, any other by a checkpoint.
  const auto has_room = [this] {
    if (progress_.step >= run_.steps) return ending_fits(true);
    return budget_.fits(spent_now(), closing());
  };
  const auto give_up = [&] { return stop_asked() || (record_ && !has_room()); };
  // A checkpoint that is written meanwhile comes into force meanwhile.
  const auto go_on_saving = [this] {
    if (!saver_->busy()) return;
    const Charged saving(run_.clock, CostKind::checkpoint);
    if (const std::optional<SaveResult> over = saver_->poll()) tell(*over);
  };
  const std::optional<EvalResult> result = evaluate(run_.comm, {.network = run_.network,
                                                                .stream = run_.stream,
                                                                .saved = *run_.saved_arena,
                                                                .scratch = *run_.scratch_arena,
                                                                .segments = run_.config.parallelism.segments(),
                                                                .weights = run_.weights(),
                                                                .shards = run_.valid_shards,
                                                                .seq_length = run_.config.training.seq_length,
                                                                .batch = run_.division.micro_batch,
                                                                .separator = run_.separator,
                                                                .give_up = give_up,
                                                                .between = go_on_saving});
  const double seconds = (run_.clock.now() - begin) * run_.comm.size();
  // One that was given up says only that a whole one may be as dear.
  const bool counts = result || seconds > budget_.evaluation().usual;
  if (counts) budget_.evaluation_took(seconds);
  if (!result) {
    if (record_)
      warn(fmt::format("the evaluation of step {} {}; whoever goes on begins with it", grouped(progress_.step),
                       kGivenUp));
  } else if (record_) {
    const EvalReport report{.step = progress_.step,
                            .tokens = tokens(),
                            .loss = result->loss(),
                            .ppl = result->ppl(),
                            .bits_per_byte = result->bits_per_byte(),
                            .targets = result->targets};
    record_->write(report);
    console_->eval(report);
  }
  if (result && !std::isfinite(result->nats))
    fail_non_finite_evaluation(run_.network.table(), progress_.step, run_.params);
  now = border(progress_.step >= run_.steps, saver_->busy());
  if (counts) book("evaluation", now);
  return result.has_value();
}

}  // namespace tael
