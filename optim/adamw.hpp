// AdamW over flat arrays: one optimizer step for all tensors. The formula is in kernels/adamw_update.hpp (PyTorch's,
// decoupled decay, bias correction from step 1); decay applies to tensors of two or more dimensions only.
#pragma once

#include <cstdint>
#include <vector>

#include "base/arena.hpp"
#include "base/stream.hpp"
#include "base/view.hpp"
#include "optim/param_span.hpp"

namespace tael {

struct AdamwOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
};

// First and second moments, float32, zero at the start of training.
struct AdamwState {
  Vec<float> moment1, moment2;
};
AdamwState plan_adamw(Arena& arena, int64_t elements);

struct AdamwStep {
  Vec<float> weights;
  AdamwState state;
  Vec<const float> grads;
  double lr = 0;
  double clip = 1;   // the factor on the gradient (optim/clip.hpp)
  int64_t step = 1;  // from 1
};

// Updates the numbers of `spans`, which are in ascending order and do not overlap; others stay. Elementwise, so that
// the cut of the spans changes no bit.
void adamw_step(const Stream& stream, const AdamwOptions& options, const std::vector<ParamSpan>& spans,
                const AdamwStep& args);

}  // namespace tael
