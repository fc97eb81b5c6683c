#include "model/dense_ffn.hpp"

#include "kernels/swiglu.hpp"
#include "model/linear.hpp"

namespace tael {

FfnSaved DenseFfn::plan(Arena& arena, int64_t width, int64_t tokens) {
  return {arena.mat<float>(tokens, 2 * width), arena.mat<float>(tokens, width)};
}

void DenseFfn::forward(Context& context, const FfnParams<const float>& params, const FfnSaved& saved,
                       Mat<const float> x, Mat<const float> base, Mat<float> y) {
  linear_forward(context, saved.gate_up_T2F, x, params.gate_up);
  swiglu_forward(context.stream, {.a_TF = saved.a_TF, .gu_T2F = saved.gate_up_T2F, .weight_T = {}});
  split_linear_forward(context, y, base, saved.a_TF, params.down);
}

void DenseFfn::backward_input(Context& context, const FfnParams<const float>& params, const FfnSaved& saved,
                              FfnDeferred& deferred, Mat<const float> dy, Mat<const float> base, Mat<float> dx) {
  const int64_t width = saved.a_TF.dim[1];
  deferred = {saved.gate_up_T2F, dy};
  {
    ArenaScope scope(context.scratch);
    const Mat<float> da = context.scratch.mat<float>(dy.dim[0], width);
    linear_input_grad(context, da, dy, params.down);
    swiglu_backward(
        context.stream,
        {.dgu_T2F = deferred.dgate_up_T2F, .dweight_T = {}, .da_TF = da, .gu_T2F = saved.gate_up_T2F, .weight_T = {}});
  }
  ArenaScope scope(context.scratch);
  const SplitSum sum(context, dx, base);
  // A piece of the width is its gate columns, then its up columns: one chain over both.
  for (int64_t half = 0; half < 2; ++half) {
    gemm_input_grad(context.stream, {.dx_PMK = sum.pieces(),
                                     .dy_MN = columns(deferred.dgate_up_T2F, half * width, (half + 1) * width),
                                     .w_NK = rows(params.gate_up, half * width, (half + 1) * width),
                                     .accumulate = half == 1});
  }
  sum.join();
}

void DenseFfn::backward_weight(Context& context, const FfnSaved& saved, const FfnDeferred& deferred, Mat<const float> x,
                               const FfnParams<float>& grads) {
  linear_weight_grad(context, grads.down, deferred.dy_TH, saved.a_TF);
  linear_weight_grad(context, grads.gate_up, deferred.dgate_up_T2F, x);
}

}  // namespace tael
