// The gate of a MoE layer: logits x W_gate^T in float32, the choice of experts, their weights, and the sequence-wise
// balance loss (DeepSeek-V3 report 2.1.2; kernels/route_topk.hpp has the rules). The bias only steers the choice: it
// has no gradient, and optim/expert_bias moves it once per optimizer step from the counts gathered here.
#pragma once

#include "kernels/route_topk.hpp"
#include "model/context.hpp"
#include "model/param_table.hpp"

namespace tael {

RouteOptions route_options(const ModelShape& shape);

struct RouterSaved {
  Mat<float> score_TE, weight_TK, fraction_BE;
  Mat<int32_t> expert_TK;
};

struct RouterDeferred {
  Mat<float> dlogit_TE;
};

struct Router {
  static RouterSaved plan(Arena& arena, const ModelShape& shape, const Sequences& sequences);
  static RouterDeferred plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences);

  // counts_E += tokens per expert; balance_B += sum over experts of f P, without alpha.
  static void forward(Context& context, const ModelShape& shape, const Sequences& sequences, Mat<const float> gate_EH,
                      Vec<const float> bias_E, const RouterSaved& saved, Vec<int64_t> counts_E, Vec<double> balance_B,
                      Mat<const float> x);
  // dx += the gradient through the gate. balance_coefficient: alpha / sequences of the global batch.
  static void backward_input(Context& context, const ModelShape& shape, const Sequences& sequences,
                             Mat<const float> gate_EH, const RouterSaved& saved, const RouterDeferred& deferred,
                             double balance_coefficient, Mat<const float> dweight_TK, Mat<float> dx);
  static void backward_weight(Context& context, const RouterDeferred& deferred, Mat<const float> x,
                              Mat<float> dgate_EH);
};

}  // namespace tael
