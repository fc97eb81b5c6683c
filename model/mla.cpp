#include "model/mla.hpp"

#include "kernels/attention.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "model/linear.hpp"

namespace tael {

namespace {

struct Widths {
  int64_t query;  // columns of `down` before the KV latent
  int64_t q, kv, o, latent, rope;
};

Widths widths(const ModelShape& s) {
  const int64_t q = s.num_attention_heads * s.qk_head_dim();
  return {.query = s.q_lora_rank ? *s.q_lora_rank : q,
          .q = q,
          .kv = s.num_attention_heads * (s.qk_nope_head_dim + s.v_head_dim),
          .o = s.num_attention_heads * s.v_head_dim,
          .latent = s.kv_lora_rank,
          .rope = s.qk_rope_head_dim};
}

AttentionShape attention_shape(const ModelShape& s, const Sequences& sequences) {
  return {.heads = s.num_attention_heads,
          .nope = s.qk_nope_head_dim,
          .rope = s.qk_rope_head_dim,
          .value = s.v_head_dim,
          .sequence_length = sequences.length,
          .scale = attention_scale(s)};
}

struct DownParts {
  Mat<float> query, latent, rope;
};
DownParts parts(Mat<float> down, const Widths& w) {
  return {columns(down, 0, w.query), columns(down, w.query, w.query + w.latent),
          columns(down, w.query + w.latent, w.query + w.latent + w.rope)};
}

void rotate(Context& context, const ModelShape& s, const RotaryTable& rotary, const Sequences& sequences, Mat<float> q,
            Mat<float> k_rope, bool inverse) {
  const Mat<const float> cos = rows(rotary.cos_SJ, 0, sequences.length);
  const Mat<const float> sin = rows(rotary.sin_SJ, 0, sequences.length);
  rope(context.stream, {.x_TD = q,
                        .cos_SJ = cos,
                        .sin_SJ = sin,
                        .heads = s.num_attention_heads,
                        .head_dim = s.qk_head_dim(),
                        .offset = s.qk_nope_head_dim,
                        .inverse = inverse});
  rope(context.stream, {.x_TD = k_rope,
                        .cos_SJ = cos,
                        .sin_SJ = sin,
                        .heads = 1,
                        .head_dim = s.qk_rope_head_dim,
                        .offset = 0,
                        .inverse = inverse});
}

}  // namespace

template <class T>
MlaParams<T> bind(const AttentionLayout& layout, const ModelShape& shape, T* base) {
  const Widths w = widths(shape);
  const int64_t hidden = shape.hidden_size;
  MlaParams<T> p;
  p.down = mat(base + layout.down, w.query + w.latent + w.rope, hidden);
  if (shape.q_lora_rank) {
    p.q_a_norm = vec(base + layout.q_a_norm, w.query);
    p.q_b = mat(base + layout.q_b, w.q, w.query);
  }
  p.kv_a_norm = vec(base + layout.kv_a_norm, w.latent);
  p.kv_b = mat(base + layout.kv_b, w.kv, w.latent);
  p.o = mat(base + layout.o, hidden, w.o);
  return p;
}
template MlaParams<float> bind(const AttentionLayout&, const ModelShape&, float*);
template MlaParams<const float> bind(const AttentionLayout&, const ModelShape&, const float*);

MlaSaved Mla::plan(Arena& arena, const ModelShape& shape, const Sequences& sequences) {
  const Widths w = widths(shape);
  const int64_t tokens = sequences.tokens();
  MlaSaved s;
  s.down_TX = arena.mat<float>(tokens, w.query + w.latent + w.rope);
  if (shape.q_lora_rank) {
    s.q_latent_TQ = arena.mat<float>(tokens, w.query);
    s.q_r_T = arena.vec<float>(tokens);
  }
  s.kv_latent_TC = arena.mat<float>(tokens, w.latent);
  s.kv_r_T = arena.vec<float>(tokens);
  s.q_TX = arena.mat<float>(tokens, w.q);
  s.kv_TX = arena.mat<float>(tokens, w.kv);
  s.k_rope_TR = arena.mat<float>(tokens, w.rope);
  s.o_TX = arena.mat<float>(tokens, w.o);
  s.lse_TH = arena.mat<float>(tokens, shape.num_attention_heads);
  return s;
}

MlaDeferred Mla::plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences) {
  const Widths w = widths(shape);
  const int64_t tokens = sequences.tokens();
  MlaDeferred d;
  d.dkv_TX = arena.mat<float>(tokens, w.kv);
  d.ddown_TX = arena.mat<float>(tokens, w.query + w.latent + w.rope);
  d.dkv_latent_TC = arena.mat<float>(tokens, w.latent);
  if (shape.q_lora_rank) {
    d.dq_TX = arena.mat<float>(tokens, w.q);
    d.dq_latent_TQ = arena.mat<float>(tokens, w.query);
  } else {
    d.dq_TX = columns(d.ddown_TX, 0, w.query);  // the queries are columns of `down` themselves
  }
  return d;
}

void Mla::forward(Context& context, const ModelShape& shape, const Sequences& sequences, const RotaryTable& rotary,
                  const MlaParams<const float>& params, const MlaSaved& saved, Vec<const int32_t> document_start_T,
                  Mat<const float> x, Mat<const float> base, Mat<float> y) {
  const DownParts down = parts(saved.down_TX, widths(shape));
  linear_forward(context, saved.down_TX, x, params.down);
  if (shape.q_lora_rank) {
    rms_norm_forward(context.stream, {.y_TD = saved.q_latent_TQ,
                                      .r_T = saved.q_r_T,
                                      .x_TD = down.query,
                                      .gain_D = params.q_a_norm,
                                      .eps = kLatentNormEps});
    linear_forward(context, saved.q_TX, saved.q_latent_TQ, params.q_b);
  } else {
    copy_rows(context.stream, {.y_MN = saved.q_TX, .x_MN = down.query});
  }
  rms_norm_forward(context.stream, {.y_TD = saved.kv_latent_TC,
                                    .r_T = saved.kv_r_T,
                                    .x_TD = down.latent,
                                    .gain_D = params.kv_a_norm,
                                    .eps = kLatentNormEps});
  linear_forward(context, saved.kv_TX, saved.kv_latent_TC, params.kv_b);
  copy_rows(context.stream, {.y_MN = saved.k_rope_TR, .x_MN = down.rope});
  rotate(context, shape, rotary, sequences, saved.q_TX, saved.k_rope_TR, false);
  attention_forward(context.stream, {.o_TX = saved.o_TX,
                                     .lse_TH = saved.lse_TH,
                                     .q_TX = saved.q_TX,
                                     .kv_TX = saved.kv_TX,
                                     .k_rope_TR = saved.k_rope_TR,
                                     .document_start_T = document_start_T,
                                     .shape = attention_shape(shape, sequences)});
  split_linear_forward(context, y, base, saved.o_TX, params.o);
}

void Mla::backward_input(Context& context, const ModelShape& shape, const Sequences& sequences,
                         const RotaryTable& rotary, const MlaParams<const float>& params, const MlaSaved& saved,
                         Vec<const int32_t> document_start_T, MlaDeferred& deferred, Mat<const float> dy,
                         Mat<float> dx) {
  const DownParts down = parts(saved.down_TX, widths(shape));
  const DownParts ddown = parts(deferred.ddown_TX, widths(shape));
  deferred.dy_TH = dy;
  {
    ArenaScope scope(context.scratch);
    const Mat<float> d_o = context.scratch.mat<float>(saved.o_TX.dim[0], saved.o_TX.dim[1]);
    linear_input_grad(context, d_o, dy, params.o);
    const AttentionShape attention = attention_shape(shape, sequences);
    const AttentionScratch extent = attention_backward_scratch(sequences.tokens(), attention);
    attention_backward(context.stream, {.dq_TX = deferred.dq_TX,
                                        .dkv_TX = deferred.dkv_TX,
                                        .dk_rope_TR = ddown.rope,
                                        .scratch = context.scratch.mat<float>(extent.rows, extent.cols),
                                        .do_TX = d_o,
                                        .o_TX = saved.o_TX,
                                        .q_TX = saved.q_TX,
                                        .kv_TX = saved.kv_TX,
                                        .k_rope_TR = saved.k_rope_TR,
                                        .lse_TH = saved.lse_TH,
                                        .document_start_T = document_start_T,
                                        .shape = attention,
                                        .pieces = context.segments});
  }
  rotate(context, shape, rotary, sequences, deferred.dq_TX, ddown.rope, true);
  split_linear_input_grad(context, deferred.dkv_latent_TC, {}, deferred.dkv_TX, params.kv_b);
  rms_norm_input_grad(context.stream, {.dx_TD = ddown.latent,
                                       .dy_TD = deferred.dkv_latent_TC,
                                       .x_TD = down.latent,
                                       .r_T = saved.kv_r_T,
                                       .gain_D = params.kv_a_norm});
  if (shape.q_lora_rank) {
    split_linear_input_grad(context, deferred.dq_latent_TQ, {}, deferred.dq_TX, params.q_b);
    rms_norm_input_grad(context.stream, {.dx_TD = ddown.query,
                                         .dy_TD = deferred.dq_latent_TQ,
                                         .x_TD = down.query,
                                         .r_T = saved.q_r_T,
                                         .gain_D = params.q_a_norm});
    linear_input_grad(context, dx, deferred.ddown_TX, params.down);
    return;
  }
  // Without a query latent the queries' rows of `down` are a sum over heads, which is split; the KV rows are not.
  const int64_t query = down.query.dim[1], all = saved.down_TX.dim[1];
  split_linear_input_grad(context, dx, {}, ddown.query, rows(params.down, 0, query));
  ArenaScope scope(context.scratch);
  const Mat<float> from_kv = context.scratch.mat<float>(dx.dim[0], dx.dim[1]);
  linear_input_grad(context, from_kv, columns(deferred.ddown_TX, query, all), rows(params.down, query, all));
  add_to(context.stream, {.y_MN = dx, .x_MN = from_kv});
}

void Mla::backward_weight(Context& context, const ModelShape& shape, const Sequences& sequences, const MlaSaved& saved,
                          const MlaDeferred& deferred, Mat<const float> x, const MlaParams<float>& grads) {
  const DownParts down = parts(saved.down_TX, widths(shape));
  linear_weight_grad(context, grads.o, deferred.dy_TH, saved.o_TX);
  linear_weight_grad(context, grads.kv_b, deferred.dkv_TX, saved.kv_latent_TC);
  rms_norm_weight_grad(context.stream, {.dgain_D = grads.kv_a_norm,
                                        .dy_TD = deferred.dkv_latent_TC,
                                        .x_TD = down.latent,
                                        .r_T = saved.kv_r_T,
                                        .sequence_length = sequences.length,
                                        .pieces = context.segments});
  if (shape.q_lora_rank) {
    linear_weight_grad(context, grads.q_b, deferred.dq_TX, saved.q_latent_TQ);
    rms_norm_weight_grad(context.stream, {.dgain_D = grads.q_a_norm,
                                          .dy_TD = deferred.dq_latent_TQ,
                                          .x_TD = down.query,
                                          .r_T = saved.q_r_T,
                                          .sequence_length = sequences.length,
                                          .pieces = context.segments});
  }
  linear_weight_grad(context, grads.down, deferred.ddown_TX, x);
}

}  // namespace tael
