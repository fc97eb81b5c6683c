// One training step, as a page.
#pragma once

#include "trainer/assemble.hpp"
#include "trainer/step_report.hpp"

namespace tael {

// Collective. Takes the next global batch through forward, backward, the sum over ranks, clipping, AdamW and the gate
// biases, and moves `progress`. The report holds the numbers of the training; times and costs are the caller's. All
// ranks get the same. Error(run_failed) for numbers that are not finite; then nothing was updated.
StepReport train_step(Run& run, Progress& progress);

// Collective. Wall seconds that a step of so many sequences is expected to take: some of its micro-batches, of random
// tokens, the sums over lanes and ranks and a norm are timed on all ranks at once; the update is taken for eight norms,
// as it moves seven times their bytes. REQUIRES weights that are finite and spread tokens over experts; changes none.
double trial_step(Run& run, int64_t sequences);

}  // namespace tael
