// The global norm of the gradient and the factor that clips it.
//
// The norm has one order of summation: per row of each tensor (kernels/squared_norm.hpp), then rows and tensors in
// table order, in double. So no owner of a piece, no number of ranks and no thread matters.
#pragma once

#include <cstdint>
#include <vector>

#include "base/arena.hpp"
#include "base/stream.hpp"
#include "base/view.hpp"
#include "optim/param_span.hpp"

namespace tael {

// One number per row of the tensor with most rows.
Vec<double> plan_global_norm(Arena& arena, const std::vector<ParamSpan>& spans);

// Not finite if and only if a gradient is not finite.
double global_norm(const Stream& stream, const std::vector<ParamSpan>& spans, Vec<const float> grads,
                   Vec<double> row_sums);

// PyTorch's clip_grad_norm_: min(1, max_norm / (norm + 1e-6)). max_norm 0: no clipping. REQUIRES a finite norm.
double clip_factor(double norm, double max_norm);

}  // namespace tael
