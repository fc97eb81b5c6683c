// What a run watches in its own numbers. A loss or a gradient that is not finite ends it: the message names the step,
// the rank and the layer where it began.
#pragma once

#include <cstdint>
#include <string>

#include "model/network.hpp"
#include "parallel/comm.hpp"

namespace tael {

// The first micro-batch of this rank's step whose loss was not finite, and the first layer whose output was not.
struct NonFinite {
  bool found = false;
  int64_t layer = -1;  // -1: every layer's output was finite, so it is the head
};

// Called after every micro-batch; looks closer only once.
void watch_losses(NonFinite& seen, const Network& network, const MicroBatchLosses& losses);

// Collective, called when the step's loss is not finite on any rank. Error(run_failed) on all ranks.
[[noreturn]] void fail_non_finite_loss(Comm& comm, const ModelShape& shape, int64_t step, const NonFinite& mine);

// Error(run_failed): the first tensor of the table whose summed gradient is not finite. All ranks hold the same sum.
[[noreturn]] void fail_non_finite_gradient(Comm& comm, const ParamTable& table, int64_t step, Vec<const float> grads);

// Throws AgreedError(run_failed) for an evaluation after `step` whose loss is not finite: on all ranks, which have the
// same weights. Names the first tensor that is not finite, if one is.
[[noreturn]] void fail_non_finite_evaluation(const ParamTable& table, int64_t step, Vec<const float> params);

}  // namespace tael
