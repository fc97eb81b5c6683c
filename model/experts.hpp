// The routed experts of a MoE layer: tokens sorted by expert, two grouped GEMMs, a sum back to tokens. A token's weight
// for an expert multiplies the SwiGLU output, before the down-projection (mathematically the same as after it, and
// where an FP8 recipe needs it). Sums over an expert's width are split.
#pragma once

#include "model/context.hpp"
#include "model/param_table.hpp"
#include "model/token_exchange.hpp"

namespace tael {

template <class T>
struct ExpertsParams {
  Mat<T> gate_up, down;  // of expert 0: [2I, H], [H, I]
  int64_t stride = 0;    // numbers from one expert to the next
};

struct ExpertsSaved {
  Mat<int32_t> position_TK;
  Vec<int32_t> token_R;
  Vec<int64_t> offset_E1;
  Vec<float> weight_R;
  Mat<float> x_RH, gate_up_R2I, a_RI;
};

struct ExpertsDeferred {
  Mat<float> dy_RH;
  Mat<float> dgate_up_R2I;  // takes the memory of ExpertsSaved::gate_up_R2I
};

struct Experts {
  static ExpertsSaved plan(Arena& arena, const ModelShape& shape, int64_t tokens);
  static ExpertsDeferred plan_deferred(Arena& arena, const ModelShape& shape, int64_t tokens);

  // y += the experts' sum.
  static void forward(Context& context, const ModelShape& shape, const TokenExchange& exchange,
                      const ExpertsParams<const float>& params, const ExpertsSaved& saved, Mat<const int32_t> expert_TK,
                      Mat<const float> weight_TK, Mat<const float> x, Mat<float> y);
  // dx overwritten; dweight_TK is what the gate gets.
  static void backward_input(Context& context, const ModelShape& shape, const TokenExchange& exchange,
                             const ExpertsParams<const float>& params, const ExpertsSaved& saved,
                             ExpertsDeferred& deferred, Mat<const int32_t> expert_TK, Mat<const float> dy,
                             Mat<float> dx, Mat<float> dweight_TK);
  static void backward_weight(Context& context, const ExpertsSaved& saved, const ExpertsDeferred& deferred,
                              const ExpertsParams<float>& grads);
};

}  // namespace tael
