// A linear layer y = x W^T, W [out, in], as its three products. `split` sums are those that tensor parallelism cuts:
// over heads, FFN width or vocabulary. Input half and weight half of the derivative are apart.
#pragma once

#include "kernels/gemm.hpp"
#include "model/context.hpp"
#include "model/shard_exchange.hpp"

namespace tael {

inline void linear_forward(Context& context, Mat<float> y, Mat<const float> x, Mat<const float> w) {
  gemm_forward(context.stream, {.y_PMN = one_piece(y), .x_MK = x, .w_NK = w});
}

// y = base + x W^T, the sum over inputs split.
inline void split_linear_forward(Context& context, Mat<float> y, Mat<const float> base, Mat<const float> x,
                                 Mat<const float> w) {
  ArenaScope scope(context.scratch);
  const SplitSum sum(context, y, base);
  gemm_forward(context.stream, {.y_PMN = sum.pieces(), .x_MK = x, .w_NK = w});
  sum.join();
}

inline void linear_input_grad(Context& context, Mat<float> dx, Mat<const float> dy, Mat<const float> w) {
  gemm_input_grad(context.stream, {.dx_PMK = one_piece(dx), .dy_MN = dy, .w_NK = w});
}

// dx = base + dy W, the sum over outputs split.
inline void split_linear_input_grad(Context& context, Mat<float> dx, Mat<const float> base, Mat<const float> dy,
                                    Mat<const float> w) {
  ArenaScope scope(context.scratch);
  const SplitSum sum(context, dx, base);
  gemm_input_grad(context.stream, {.dx_PMK = sum.pieces(), .dy_MN = dy, .w_NK = w});
  sum.join();
}

inline void linear_weight_grad(Context& context, Mat<float> dw, Mat<const float> dy, Mat<const float> x) {
  gemm_weight_grad(context.stream, {.dw_NK = dw, .dy_MN = dy, .x_MK = x});
}

}  // namespace tael
