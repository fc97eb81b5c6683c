#include "model/router.hpp"

#include "model/linear.hpp"

namespace tael {

RouteOptions route_options(const ModelShape& shape) {
  RouteOptions o;
  o.top_k = shape.num_experts_per_tok;
  o.groups = shape.topk_method == TopkMethod::greedy ? 1 : shape.n_group;
  o.topk_group = shape.topk_method == TopkMethod::greedy ? 1 : shape.topk_group;
  o.softmax = shape.scoring_func == ScoringFunc::softmax;
  o.normalize = shape.norm_topk_prob;
  o.group_score = shape.topk_method == TopkMethod::noaux_tc ? GroupScore::top2_sum : GroupScore::maximum;
  o.scale = shape.routed_scaling_factor;
  return o;
}

RouterSaved Router::plan(Arena& arena, const ModelShape& shape, const Sequences& sequences) {
  const int64_t tokens = sequences.tokens();
  RouterSaved s;
  s.score_TE = arena.mat<float>(tokens, shape.n_routed_experts);
  s.weight_TK = arena.mat<float>(tokens, shape.num_experts_per_tok);
  s.expert_TK = arena.mat<int32_t>(tokens, shape.num_experts_per_tok);
  s.fraction_BE = arena.mat<float>(sequences.count, shape.n_routed_experts);
  return s;
}

RouterDeferred Router::plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences) {
  return {arena.mat<float>(sequences.tokens(), shape.n_routed_experts)};
}

void Router::forward(Context& context, const ModelShape& shape, const Sequences& sequences, Mat<const float> gate_EH,
                     Vec<const float> bias_E, const RouterSaved& saved, Vec<int64_t> counts_E, Vec<double> balance_B,
                     Mat<const float> x) {
  ArenaScope scope(context.scratch);
  const int64_t experts = shape.n_routed_experts;
  const Mat<float> logit = context.scratch.mat<float>(sequences.tokens(), experts);
  const Vec<int64_t> counts = context.scratch.vec<int64_t>(experts);
  const Vec<double> balance = context.scratch.vec<double>(sequences.count);
  linear_forward(context, logit, x, gate_EH);
  route_forward(context.stream, {.expert_TK = saved.expert_TK,
                                 .weight_TK = saved.weight_TK,
                                 .score_TE = saved.score_TE,
                                 .counts_E = counts,
                                 .logit_TE = logit,
                                 .bias_E = bias_E,
                                 .options = route_options(shape)});
  balance_forward(context.stream, {.loss_B = balance,
                                   .fraction_BE = saved.fraction_BE,
                                   .score_TE = saved.score_TE,
                                   .top_k = shape.num_experts_per_tok,
                                   .sequence_length = sequences.length});
  context.stream.enqueue([&] {
    for (int64_t e = 0; e < experts; ++e) counts_E(e) += counts(e);
    for (int64_t b = 0; b < sequences.count; ++b) balance_B(b) += balance(b);
  });
}

void Router::backward_input(Context& context, const ModelShape& shape, const Sequences& sequences,
                            Mat<const float> gate_EH, const RouterSaved& saved, const RouterDeferred& deferred,
                            double balance_coefficient, Mat<const float> dweight_TK, Mat<float> dx) {
  route_backward(context.stream, {.dlogit_TE = deferred.dlogit_TE,
                                  .dweight_TK = dweight_TK,
                                  .score_TE = saved.score_TE,
                                  .expert_TK = saved.expert_TK,
                                  .options = route_options(shape)});
  if (balance_coefficient != 0.0) {
    balance_backward(context.stream, {.dlogit_TE = deferred.dlogit_TE,
                                      .score_TE = saved.score_TE,
                                      .fraction_BE = saved.fraction_BE,
                                      .softmax = shape.scoring_func == ScoringFunc::softmax,
                                      .sequence_length = sequences.length,
                                      .coefficient = balance_coefficient});
  }
  ArenaScope scope(context.scratch);
  const Mat<float> through_gate = context.scratch.mat<float>(dx.dim[0], dx.dim[1]);
  linear_input_grad(context, through_gate, deferred.dlogit_TE, gate_EH);
  add_to(context.stream, {.y_MN = dx, .x_MN = through_gate});
}

void Router::backward_weight(Context& context, const RouterDeferred& deferred, Mat<const float> x,
                             Mat<float> dgate_EH) {
  linear_weight_grad(context, dgate_EH, deferred.dlogit_TE, x);
}

}  // namespace tael
