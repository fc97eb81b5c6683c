#include "model/mtp.hpp"

#include "kernels/embedding.hpp"
#include "kernels/rms_norm.hpp"
#include "model/linear.hpp"

namespace tael {

namespace {

Mat<float> embedding_half(Mat<float> joined) { return columns(joined, 0, joined.dim[1] / 2); }
Mat<float> hidden_half(Mat<float> joined) { return columns(joined, joined.dim[1] / 2, joined.dim[1]); }

}  // namespace

template <class T>
MtpParams<T> bind(const MtpLayout& layout, const ModelShape& shape, T* base, const float* biases) {
  const int64_t hidden = shape.hidden_size;
  return {vec(base + layout.enorm, hidden), vec(base + layout.hnorm, hidden), vec(base + layout.head_norm, hidden),
          mat(base + layout.eh_proj, hidden, 2 * hidden), bind(layout.layer, shape, base, biases)};
}
template MtpParams<float> bind(const MtpLayout&, const ModelShape&, float*, const float*);
template MtpParams<const float> bind(const MtpLayout&, const ModelShape&, const float*, const float*);

MtpSaved Mtp::plan(Arena& arena, const ModelShape& shape, const Sequences& sequences, bool moe) {
  const int64_t tokens = sequences.tokens(), hidden = shape.hidden_size;
  MtpSaved s;
  s.embedding_TH = arena.mat<float>(tokens, hidden);
  s.joined_T2H = arena.mat<float>(tokens, 2 * hidden);
  s.x_TH = arena.mat<float>(tokens, hidden);
  s.out_TH = arena.mat<float>(tokens, hidden);
  s.post_TH = arena.mat<float>(tokens, hidden);
  s.embedding_r_T = arena.vec<float>(tokens);
  s.hidden_r_T = arena.vec<float>(tokens);
  s.out_r_T = arena.vec<float>(tokens);
  s.block = Block::plan(arena, shape, sequences, moe);
  return s;
}

MtpDeferred Mtp::plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences, bool moe) {
  const int64_t tokens = sequences.tokens(), hidden = shape.hidden_size;
  MtpDeferred d;
  d.dout_TH = arena.mat<float>(tokens, hidden);
  d.dx_TH = arena.mat<float>(tokens, hidden);
  d.djoined_T2H = arena.mat<float>(tokens, 2 * hidden);
  d.dembedding_TH = arena.mat<float>(tokens, hidden);
  d.block = Block::plan_deferred(arena, shape, sequences, moe);
  return d;
}

void Mtp::forward(Context& context, const BlockInputs& in, const MtpParams<const float>& params,
                  Mat<const float> embedding_VH, MtpSaved& saved, Mat<const int32_t> token_BS, int64_t depth,
                  Vec<int64_t> counts_E, Vec<double> balance_B, Mat<const float> hidden) {
  const double eps = in.shape.rms_norm_eps;
  saved.hidden_TH = hidden;
  embedding_forward(context.stream, {.y_TD = saved.embedding_TH,
                                     .table_VD = embedding_VH,
                                     .token_BS = token_BS,
                                     .sequence_length = in.sequences.length,
                                     .shift = depth});
  rms_norm_forward(context.stream, {.y_TD = embedding_half(saved.joined_T2H),
                                    .r_T = saved.embedding_r_T,
                                    .x_TD = saved.embedding_TH,
                                    .gain_D = params.enorm,
                                    .eps = eps});
  rms_norm_forward(context.stream, {.y_TD = hidden_half(saved.joined_T2H),
                                    .r_T = saved.hidden_r_T,
                                    .x_TD = hidden,
                                    .gain_D = params.hnorm,
                                    .eps = eps});
  linear_forward(context, saved.x_TH, saved.joined_T2H, params.eh_proj);
  Block::forward(context, in, params.block, saved.block, counts_E, balance_B, saved.x_TH, saved.out_TH);
  rms_norm_forward(
      context.stream,
      {.y_TD = saved.post_TH, .r_T = saved.out_r_T, .x_TD = saved.out_TH, .gain_D = params.head_norm, .eps = eps});
}

void Mtp::backward_input(Context& context, const BlockInputs& in, const MtpParams<const float>& params,
                         const MtpSaved& saved, MtpDeferred& deferred, Mat<const float> dpost,
                         Mat<const float> dout_extra, Mat<float> dhidden) {
  deferred.dpost_TH = dpost;
  if (dout_extra) copy_rows(context.stream, {.y_MN = deferred.dout_TH, .x_MN = dout_extra});
  rms_norm_input_grad(context.stream, {.dx_TD = deferred.dout_TH,
                                       .dy_TD = dpost,
                                       .x_TD = saved.out_TH,
                                       .r_T = saved.out_r_T,
                                       .gain_D = params.head_norm,
                                       .accumulate = static_cast<bool>(dout_extra)});
  Block::backward_input(context, in, params.block, saved.block, deferred.block, deferred.dout_TH, deferred.dx_TH);
  linear_input_grad(context, deferred.djoined_T2H, deferred.dx_TH, params.eh_proj);
  rms_norm_input_grad(context.stream, {.dx_TD = deferred.dembedding_TH,
                                       .dy_TD = embedding_half(deferred.djoined_T2H),
                                       .x_TD = saved.embedding_TH,
                                       .r_T = saved.embedding_r_T,
                                       .gain_D = params.enorm});
  rms_norm_input_grad(context.stream, {.dx_TD = dhidden,
                                       .dy_TD = hidden_half(deferred.djoined_T2H),
                                       .x_TD = saved.hidden_TH,
                                       .r_T = saved.hidden_r_T,
                                       .gain_D = params.hnorm,
                                       .accumulate = true});
}

void Mtp::backward_weight(Context& context, const BlockInputs& in, const MtpSaved& saved, const MtpDeferred& deferred,
                          Mat<const int32_t> token_BS, int64_t depth, const MtpParams<float>& grads,
                          Mat<float> dembedding_VH) {
  const auto norm_weight_grad = [&](Vec<float> dgain, Mat<const float> dy, Mat<const float> x, Vec<const float> r) {
    rms_norm_weight_grad(context.stream, {.dgain_D = dgain,
                                          .dy_TD = dy,
                                          .x_TD = x,
                                          .r_T = r,
                                          .sequence_length = in.sequences.length,
                                          .pieces = context.segments});
  };
  norm_weight_grad(grads.head_norm, deferred.dpost_TH, saved.out_TH, saved.out_r_T);
  Block::backward_weight(context, in, saved.block, deferred.block, grads.block);
  linear_weight_grad(context, grads.eh_proj, deferred.dx_TH, saved.joined_T2H);
  norm_weight_grad(grads.enorm, embedding_half(deferred.djoined_T2H), saved.embedding_TH, saved.embedding_r_T);
  norm_weight_grad(grads.hnorm, hidden_half(deferred.djoined_T2H), saved.hidden_TH, saved.hidden_r_T);
  embedding_grad(context.stream, {.dtable_VD = dembedding_VH,
                                  .dy_TD = deferred.dembedding_TH,
                                  .token_BS = token_BS,
                                  .sequence_length = in.sequences.length,
                                  .shift = depth});
}

}  // namespace tael
