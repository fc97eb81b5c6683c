// A mixture-of-experts layer: y = base + shared experts + routed experts (DeepSeek-V3 report eq. 12). The shared
// experts are one dense FFN of their total width, without gate or scaling.
#pragma once

#include "model/dense_ffn.hpp"
#include "model/experts.hpp"
#include "model/router.hpp"

namespace tael {

template <class T>
struct MoeParams {
  Mat<T> gate_EH;
  Vec<const float> bias_E;  // empty: no bias
  ExpertsParams<T> experts;
  FfnParams<T> shared;  // empty: no shared experts
};

template <class T>
MoeParams<T> bind_moe(const LayerLayout& layout, const ModelShape& shape, T* base, const float* biases);

struct MoeSaved {
  RouterSaved router;
  ExpertsSaved experts;
  FfnSaved shared;
};

struct MoeDeferred {
  RouterDeferred router;
  ExpertsDeferred experts;
  FfnDeferred shared;
};

struct Moe {
  static MoeSaved plan(Arena& arena, const ModelShape& shape, const Sequences& sequences);
  static MoeDeferred plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences);

  static void forward(Context& context, const ModelShape& shape, const Sequences& sequences,
                      const TokenExchange& exchange, const MoeParams<const float>& params, const MoeSaved& saved,
                      Vec<int64_t> counts_E, Vec<double> balance_B, Mat<const float> x, Mat<const float> base,
                      Mat<float> y);
  // dx overwritten: routed, then shared, then gate.
  static void backward_input(Context& context, const ModelShape& shape, const Sequences& sequences,
                             const TokenExchange& exchange, const MoeParams<const float>& params, const MoeSaved& saved,
                             MoeDeferred& deferred, double balance_coefficient, Mat<const float> dy, Mat<float> dx);
  static void backward_weight(Context& context, const MoeSaved& saved, const MoeDeferred& deferred, Mat<const float> x,
                              const MoeParams<float>& grads);
};

}  // namespace tael
