#include "model/moe.hpp"

#include "model/linear.hpp"

namespace tael {

template <class T>
MoeParams<T> bind_moe(const LayerLayout& layout, const ModelShape& shape, T* base, const float* biases) {
  const int64_t hidden = shape.hidden_size, width = shape.moe_intermediate_size;
  MoeParams<T> p;
  p.gate_EH = mat(base + layout.gate, shape.n_routed_experts, hidden);
  if (layout.gate_bias >= 0 && biases != nullptr) p.bias_E = vec(biases + layout.gate_bias, shape.n_routed_experts);
  p.experts = {mat(base + layout.experts.gate_up, 2 * width, hidden), mat(base + layout.experts.down, hidden, width),
               layout.expert_stride};
  if (layout.ffn.gate_up >= 0) p.shared = bind(layout.ffn, hidden, shape.shared_width(), base);
  return p;
}
template MoeParams<float> bind_moe(const LayerLayout&, const ModelShape&, float*, const float*);
template MoeParams<const float> bind_moe(const LayerLayout&, const ModelShape&, const float*, const float*);

MoeSaved Moe::plan(Arena& arena, const ModelShape& shape, const Sequences& sequences) {
  MoeSaved s;
  s.router = Router::plan(arena, shape, sequences);
  s.experts = Experts::plan(arena, shape, sequences.tokens());
  if (shape.n_shared_experts > 0) s.shared = DenseFfn::plan(arena, shape.shared_width(), sequences.tokens());
  return s;
}

MoeDeferred Moe::plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences) {
  return {Router::plan_deferred(arena, shape, sequences), Experts::plan_deferred(arena, shape, sequences.tokens()), {}};
}

void Moe::forward(Context& context, const ModelShape& shape, const Sequences& sequences, const TokenExchange& exchange,
                  const MoeParams<const float>& params, const MoeSaved& saved, Vec<int64_t> counts_E,
                  Vec<double> balance_B, Mat<const float> x, Mat<const float> base, Mat<float> y) {
  Router::forward(context, shape, sequences, params.gate_EH, params.bias_E, saved.router, counts_E, balance_B, x);
  if (shape.n_shared_experts > 0) {
    DenseFfn::forward(context, params.shared, saved.shared, x, base, y);
  } else {
    copy_rows(context.stream, {.y_MN = y, .x_MN = base});
  }
  Experts::forward(context, shape, exchange, params.experts, saved.experts, saved.router.expert_TK,
                   saved.router.weight_TK, x, y);
}

void Moe::backward_input(Context& context, const ModelShape& shape, const Sequences& sequences,
                         const TokenExchange& exchange, const MoeParams<const float>& params, const MoeSaved& saved,
                         MoeDeferred& deferred, double balance_coefficient, Mat<const float> dy, Mat<float> dx) {
  ArenaScope scope(context.scratch);
  const Mat<float> dweight_TK = context.scratch.mat<float>(sequences.tokens(), shape.num_experts_per_tok);
  Experts::backward_input(context, shape, exchange, params.experts, saved.experts, deferred.experts,
                          saved.router.expert_TK, dy, dx, dweight_TK);
  if (shape.n_shared_experts > 0)
    DenseFfn::backward_input(context, params.shared, saved.shared, deferred.shared, dy, dx, dx);
  Router::backward_input(context, shape, sequences, params.gate_EH, saved.router, deferred.router, balance_coefficient,
                         dweight_TK, dx);
}

void Moe::backward_weight(Context& context, const MoeSaved& saved, const MoeDeferred& deferred, Mat<const float> x,
                          const MoeParams<float>& grads) {
  Experts::backward_weight(context, saved.experts, deferred.experts, grads.experts);
  if (grads.shared.down) DenseFfn::backward_weight(context, saved.shared, deferred.shared, x, grads.shared);
  Router::backward_weight(context, deferred.router, x, grads.gate_EH);
}

}  // namespace tael
