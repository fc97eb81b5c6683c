#include "model/block.hpp"

#include "kernels/pieces.hpp"
#include "kernels/rms_norm.hpp"

namespace tael {

template <class T>
BlockParams<T> bind(const LayerLayout& layout, const ModelShape& shape, T* base, const float* biases) {
  BlockParams<T> p;
  p.moe = layout.moe;
  p.input_norm = vec(base + layout.input_norm, shape.hidden_size);
  p.post_attention_norm = vec(base + layout.post_attention_norm, shape.hidden_size);
  p.attention = bind(layout.attention, shape, base);
  if (layout.moe) {
    p.experts = bind_moe(layout, shape, base, biases);
  } else {
    p.ffn = bind(layout.ffn, shape.hidden_size, shape.intermediate_size, base);
  }
  return p;
}
template BlockParams<float> bind(const LayerLayout&, const ModelShape&, float*, const float*);
template BlockParams<const float> bind(const LayerLayout&, const ModelShape&, const float*, const float*);

BlockSaved Block::plan(Arena& arena, const ModelShape& shape, const Sequences& sequences, bool moe) {
  const int64_t tokens = sequences.tokens(), hidden = shape.hidden_size;
  BlockSaved s;
  s.x_norm_TH = arena.mat<float>(tokens, hidden);
  s.h_TH = arena.mat<float>(tokens, hidden);
  s.h_norm_TH = arena.mat<float>(tokens, hidden);
  s.x_r_T = arena.vec<float>(tokens);
  s.h_r_T = arena.vec<float>(tokens);
  s.attention = Mla::plan(arena, shape, sequences);
  if (moe) {
    s.moe = Moe::plan(arena, shape, sequences);
  } else {
    s.ffn = DenseFfn::plan(arena, shape.intermediate_size, tokens);
  }
  return s;
}

BlockDeferred Block::plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences, bool moe) {
  const int64_t tokens = sequences.tokens(), hidden = shape.hidden_size;
  BlockDeferred d;
  d.dh_TH = arena.mat<float>(tokens, hidden);
  d.dx_norm_TH = arena.mat<float>(tokens, hidden);
  d.dh_norm_TH = arena.mat<float>(tokens, hidden);
  d.attention = Mla::plan_deferred(arena, shape, sequences);
  if (moe) d.moe = Moe::plan_deferred(arena, shape, sequences);
  return d;
}

void Block::forward(Context& context, const BlockInputs& in, const BlockParams<const float>& params, BlockSaved& saved,
                    Vec<int64_t> counts_E, Vec<double> balance_B, Mat<const float> x, Mat<float> y) {
  const double eps = in.shape.rms_norm_eps;
  saved.x_TH = x;
  rms_norm_forward(context.stream,
                   {.y_TD = saved.x_norm_TH, .r_T = saved.x_r_T, .x_TD = x, .gain_D = params.input_norm, .eps = eps});
  Mla::forward(context, in.shape, in.sequences, in.rotary, params.attention, saved.attention, in.document_start_T,
               saved.x_norm_TH, x, saved.h_TH);
  rms_norm_forward(context.stream, {.y_TD = saved.h_norm_TH,
                                    .r_T = saved.h_r_T,
                                    .x_TD = saved.h_TH,
                                    .gain_D = params.post_attention_norm,
                                    .eps = eps});
  if (params.moe) {
    Moe::forward(context, in.shape, in.sequences, in.exchange, params.experts, saved.moe, counts_E, balance_B,
                 saved.h_norm_TH, saved.h_TH, y);
  } else {
    DenseFfn::forward(context, params.ffn, saved.ffn, saved.h_norm_TH, saved.h_TH, y);
  }
}

void Block::backward_input(Context& context, const BlockInputs& in, const BlockParams<const float>& params,
                           const BlockSaved& saved, BlockDeferred& deferred, Mat<const float> dy, Mat<float> dx) {
  if (params.moe) {
    Moe::backward_input(context, in.shape, in.sequences, in.exchange, params.experts, saved.moe, deferred.moe,
                        in.balance_coefficient, dy, deferred.dh_norm_TH);
  } else {
    DenseFfn::backward_input(context, params.ffn, saved.ffn, deferred.ffn, dy, {}, deferred.dh_norm_TH);
  }
  copy_rows(context.stream, {.y_MN = deferred.dh_TH, .x_MN = dy});
  rms_norm_input_grad(context.stream, {.dx_TD = deferred.dh_TH,
                                       .dy_TD = deferred.dh_norm_TH,
                                       .x_TD = saved.h_TH,
                                       .r_T = saved.h_r_T,
                                       .gain_D = params.post_attention_norm,
                                       .accumulate = true});
  Mla::backward_input(context, in.shape, in.sequences, in.rotary, params.attention, saved.attention,
                      in.document_start_T, deferred.attention, deferred.dh_TH, deferred.dx_norm_TH);
  copy_rows(context.stream, {.y_MN = dx, .x_MN = deferred.dh_TH});
  rms_norm_input_grad(context.stream, {.dx_TD = dx,
                                       .dy_TD = deferred.dx_norm_TH,
                                       .x_TD = saved.x_TH,
                                       .r_T = saved.x_r_T,
                                       .gain_D = params.input_norm,
                                       .accumulate = true});
}

void Block::backward_weight(Context& context, const BlockInputs& in, const BlockSaved& saved,
                            const BlockDeferred& deferred, const BlockParams<float>& grads) {
  if (grads.moe) {
    Moe::backward_weight(context, saved.moe, deferred.moe, saved.h_norm_TH, grads.experts);
  } else {
    DenseFfn::backward_weight(context, saved.ffn, deferred.ffn, saved.h_norm_TH, grads.ffn);
  }
  rms_norm_weight_grad(context.stream, {.dgain_D = grads.post_attention_norm,
                                        .dy_TD = deferred.dh_norm_TH,
                                        .x_TD = saved.h_TH,
                                        .r_T = saved.h_r_T,
                                        .sequence_length = in.sequences.length,
                                        .pieces = context.segments});
  Mla::backward_weight(context, in.shape, in.sequences, saved.attention, deferred.attention, saved.x_norm_TH,
                       grads.attention);
  rms_norm_weight_grad(context.stream, {.dgain_D = grads.input_norm,
                                        .dy_TD = deferred.dx_norm_TH,
                                        .x_TD = saved.x_TH,
                                        .r_T = saved.x_r_T,
                                        .sequence_length = in.sequences.length,
                                        .pieces = context.segments});
}

}  // namespace tael
