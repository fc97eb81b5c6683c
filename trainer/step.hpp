// One training step, as a page.
#pragma once

#include "trainer/assemble.hpp"
#include "trainer/step_report.hpp"

namespace tael {

// Collective. Takes the next global batch through forward, backward, the sum over ranks, clipping, AdamW and the gate
// biases, and moves `progress`. The report holds the numbers of the training; times and costs are the caller's. All
// ranks get the same. Error(run_failed) for numbers that are not finite; then nothing was updated.
StepReport train_step(Run& run, Progress& progress);

}  // namespace tael
