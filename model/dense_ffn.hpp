// SwiGLU feed-forward network: y = base + (silu(x W_gate^T) * (x W_up^T)) W_down^T. The dense FFN of the first layers,
// and all shared experts of a MoE layer as one of their total width. Sums over the width (W_down forward, the input's
// gradient) are split. Source: DeepSeek-V3 report 2.1.2.
#pragma once

#include "model/context.hpp"
#include "model/param_table.hpp"

namespace tael {

template <class T>
struct FfnParams {
  Mat<T> gate_up, down;  // [2F, H], [H, F]
};

template <class T>
FfnParams<T> bind(const FfnLayout& layout, int64_t hidden, int64_t width, T* base) {
  return {mat(base + layout.gate_up, 2 * width, hidden), mat(base + layout.down, hidden, width)};
}

struct FfnSaved {
  Mat<float> gate_up_T2F, a_TF;
};

struct FfnDeferred {
  Mat<float> dgate_up_T2F;  // takes the memory of FfnSaved::gate_up_T2F, which nothing reads after the input half
  Mat<const float> dy_TH;
};

struct DenseFfn {
  static FfnSaved plan(Arena& arena, int64_t width, int64_t tokens);

  static void forward(Context& context, const FfnParams<const float>& params, const FfnSaved& saved, Mat<const float> x,
                      Mat<const float> base, Mat<float> y);
  // dx = base + the gradient. dy must stay until the weight half has run.
  static void backward_input(Context& context, const FfnParams<const float>& params, const FfnSaved& saved,
                             FfnDeferred& deferred, Mat<const float> dy, Mat<const float> base, Mat<float> dx);
  static void backward_weight(Context& context, const FfnSaved& saved, const FfnDeferred& deferred, Mat<const float> x,
                              const FfnParams<float>& grads);
};

}  // namespace tael
