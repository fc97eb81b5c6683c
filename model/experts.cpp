#include "model/experts.hpp"

#include "kernels/gemm.hpp"
#include "kernels/permute_tokens.hpp"
#include "kernels/swiglu.hpp"
#include "model/shard_exchange.hpp"

namespace tael {

namespace {

Routing routing_of(const ModelShape& shape, const ExpertsSaved& saved, Mat<const int32_t> expert_TK) {
  return {.experts = shape.n_routed_experts,
          .groups = shape.topk_method == TopkMethod::greedy ? 1 : shape.n_group,
          .expert_TK = expert_TK,
          .position_TK = saved.position_TK,
          .token_R = saved.token_R,
          .offset_E1 = saved.offset_E1};
}

}  // namespace

ExpertsSaved Experts::plan(Arena& arena, const ModelShape& shape, int64_t tokens) {
  const int64_t k = shape.num_experts_per_tok, rows = tokens * k;
  ExpertsSaved s;
  s.position_TK = arena.mat<int32_t>(tokens, k);
  s.token_R = arena.vec<int32_t>(rows);
  s.offset_E1 = arena.vec<int64_t>(shape.n_routed_experts + 1);
  s.weight_R = arena.vec<float>(rows);
  s.x_RH = arena.mat<float>(rows, shape.hidden_size);
  s.gate_up_R2I = arena.mat<float>(rows, 2 * shape.moe_intermediate_size);
  s.a_RI = arena.mat<float>(rows, shape.moe_intermediate_size);
  return s;
}

ExpertsDeferred Experts::plan_deferred(Arena& arena, const ModelShape& shape, int64_t tokens) {
  return {arena.mat<float>(tokens * shape.num_experts_per_tok, shape.hidden_size), {}};
}

void Experts::forward(Context& context, const ModelShape& shape, const TokenExchange& exchange,
                      const ExpertsParams<const float>& params, const ExpertsSaved& saved, Mat<const int32_t> expert_TK,
                      Mat<const float> weight_TK, Mat<const float> x, Mat<float> y) {
  const Routing routing = routing_of(shape, saved, expert_TK);
  exchange.plan_rows(context, routing);
  exchange.dispatch(context, routing, saved.x_RH, x);
  gather_rows(context.stream, {.y_R = saved.weight_R, .x_TK = weight_TK, .position_TK = saved.position_TK});
  grouped_gemm_forward(context.stream, {.y_PMN = one_piece(saved.gate_up_R2I),
                                        .x_MK = saved.x_RH,
                                        .w_NK = params.gate_up,
                                        .weight_stride = params.stride,
                                        .offset_E1 = saved.offset_E1});
  swiglu_forward(context.stream, {.a_TF = saved.a_RI, .gu_T2F = saved.gate_up_R2I, .weight_T = saved.weight_R});
  ArenaScope scope(context.scratch);
  const Mat<float> y_RH = context.scratch.mat<float>(saved.x_RH.dim[0], saved.x_RH.dim[1]);
  const SplitSum sum(context, y_RH);
  grouped_gemm_forward(context.stream, {.y_PMN = sum.pieces(),
                                        .x_MK = saved.a_RI,
                                        .w_NK = params.down,
                                        .weight_stride = params.stride,
                                        .offset_E1 = saved.offset_E1});
  sum.join();
  exchange.combine(context, routing, y, y_RH, true);
}

void Experts::backward_input(Context& context, const ModelShape& shape, const TokenExchange& exchange,
                             const ExpertsParams<const float>& params, const ExpertsSaved& saved,
                             ExpertsDeferred& deferred, Mat<const int32_t> expert_TK, Mat<const float> dy,
                             Mat<float> dx, Mat<float> dweight_TK) {
  const Routing routing = routing_of(shape, saved, expert_TK);
  const int64_t width = shape.moe_intermediate_size, count = saved.x_RH.dim[0];
  deferred.dgate_up_R2I = saved.gate_up_R2I;
  exchange.dispatch(context, routing, deferred.dy_RH, dy);
  {
    ArenaScope scope(context.scratch);
    const Mat<float> da = context.scratch.mat<float>(count, width);
    const Vec<float> dweight_R = context.scratch.vec<float>(count);
    grouped_gemm_input_grad(context.stream, {.dx_PMK = one_piece(da),
                                             .dy_MN = deferred.dy_RH,
                                             .w_NK = params.down,
                                             .weight_stride = params.stride,
                                             .offset_E1 = saved.offset_E1});
    swiglu_backward(context.stream, {.dgu_T2F = deferred.dgate_up_R2I,
                                     .dweight_T = dweight_R,
                                     .da_TF = da,
                                     .gu_T2F = saved.gate_up_R2I,
                                     .weight_T = saved.weight_R});
    scatter_rows(context.stream, {.y_TK = dweight_TK, .x_R = dweight_R, .position_TK = saved.position_TK});
  }
  ArenaScope scope(context.scratch);
  const Mat<float> dx_RH = context.scratch.mat<float>(count, saved.x_RH.dim[1]);
  const SplitSum sum(context, dx_RH);
  for (int64_t half = 0; half < 2; ++half) {  // as in DenseFfn: gate columns, then up columns, one chain
    grouped_gemm_input_grad(context.stream, {.dx_PMK = sum.pieces(),
                                             .dy_MN = columns(deferred.dgate_up_R2I, half * width, (half + 1) * width),
                                             .w_NK = rows(params.gate_up, half * width, (half + 1) * width),
                                             .weight_stride = params.stride,
                                             .offset_E1 = saved.offset_E1,
                                             .accumulate = half == 1});
  }
  sum.join();
  exchange.combine(context, routing, dx, dx_RH, false);
}

void Experts::backward_weight(Context& context, const ExpertsSaved& saved, const ExpertsDeferred& deferred,
                              const ExpertsParams<float>& grads) {
  grouped_gemm_weight_grad(context.stream, {.dw_NK = grads.down,
                                            .weight_stride = grads.stride,
                                            .dy_MN = deferred.dy_RH,
                                            .x_MK = saved.a_RI,
                                            .offset_E1 = saved.offset_E1});
  grouped_gemm_weight_grad(context.stream, {.dw_NK = grads.gate_up,
                                            .weight_stride = grads.stride,
                                            .dy_MN = deferred.dgate_up_R2I,
                                            .x_MK = saved.x_RH,
                                            .offset_E1 = saved.offset_E1});
}

}  // namespace tael
