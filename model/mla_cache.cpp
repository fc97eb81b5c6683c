#include "model/mla_cache.hpp"

#include "kernels/latent_attention.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "model/linear.hpp"

namespace tael {

namespace {

// The same memory as rows of heads.
template <class T>
Mat<T> as_heads(Mat<T> m, int64_t heads) {
  return mat(m.data, m.dim[0] * heads, m.dim[1] / heads);
}

// A product of every head with its own matrix: rows [from, from + n) of its part of kv_b. `x` and `y` hold the heads
// side by side; the columns that take part start at x_column and y_column of a head.
struct HeadProduct {
  Mat<float> y_TX;
  Mat<const float> x_TX;
  int64_t y_begin = 0, y_width = 0, x_begin = 0, x_width = 0;
  Mat<const float> w;  // of head 0
  int64_t stride = 0;  // numbers to the next head's
  bool transposed = false;
};

void multiply_heads(Context& context, Vec<const int64_t> head_E1, const HeadProduct& p) {
  const int64_t tokens = p.x_TX.dim[0], heads = head_E1.dim[0] - 1;
  if (tokens == 1) {  // heads are the rows, each with a matrix of its own
    const Mat<float> all_y = as_heads(p.y_TX, heads);
    const Mat<const float> all_x = as_heads(p.x_TX, heads);
    const Mat<float> y = columns(all_y, p.y_begin, p.y_begin + p.y_width);
    const Mat<const float> x = columns(all_x, p.x_begin, p.x_begin + p.x_width);
    if (p.transposed) {
      grouped_gemm_input_grad(
          context.stream,
          {.dx_PMK = one_piece(y), .dy_MN = x, .w_NK = p.w, .weight_stride = p.stride, .offset_E1 = head_E1});
    } else {
      grouped_gemm_forward(
          context.stream,
          {.y_PMN = one_piece(y), .x_MK = x, .w_NK = p.w, .weight_stride = p.stride, .offset_E1 = head_E1});
    }
    return;
  }
  const int64_t y_head = p.y_TX.dim[1] / heads, x_head = p.x_TX.dim[1] / heads;
  for (int64_t h = 0; h < heads; ++h) {
    const Mat<float> y = columns(p.y_TX, h * y_head + p.y_begin, h * y_head + p.y_begin + p.y_width);
    const Mat<const float> x = columns(p.x_TX, h * x_head + p.x_begin, h * x_head + p.x_begin + p.x_width);
    const Mat<const float> w = mat(p.w.data + h * p.stride, p.w.dim[0], p.w.dim[1]);
    p.transposed ? linear_input_grad(context, y, x, w) : linear_forward(context, y, x, w);
  }
}

}  // namespace

void MlaCache::forward(Context& context, const ModelShape& s, const RotaryTable& rotary,
                       const MlaParams<const float>& params, Vec<const int64_t> head_E1, Mat<float> cache_SX,
                       int64_t first, Mat<const float> x, Mat<const float> base, Mat<float> y) {
  ArenaScope scope(context.scratch);
  Arena& scratch = context.scratch;
  const int64_t tokens = x.dim[0], end = first + tokens, heads = s.num_attention_heads;
  const int64_t nope = s.qk_nope_head_dim, ropes = s.qk_rope_head_dim, value = s.v_head_dim, latent = s.kv_lora_rank;
  const int64_t query = s.q_lora_rank ? *s.q_lora_rank : heads * (nope + ropes), depth = latent + ropes;
  const Mat<float> added = rows(cache_SX, first, end);

  const Mat<float> down = scratch.mat<float>(tokens, query + depth);
  linear_forward(context, down, x, params.down);
  const Mat<float> q = scratch.mat<float>(tokens, heads * (nope + ropes));
  if (s.q_lora_rank) {
    const Mat<float> q_latent = scratch.mat<float>(tokens, query);
    rms_norm_forward(context.stream, {.y_TD = q_latent,
                                      .r_T = {},
                                      .x_TD = columns(down, 0, query),
                                      .gain_D = params.q_a_norm,
                                      .eps = kLatentNormEps});
    linear_forward(context, q, q_latent, params.q_b);
  } else {
    copy_rows(context.stream, {.y_MN = q, .x_MN = columns(down, 0, query)});
  }
  rms_norm_forward(context.stream, {.y_TD = columns(added, 0, latent),
                                    .r_T = {},
                                    .x_TD = columns(down, query, query + latent),
                                    .gain_D = params.kv_a_norm,
                                    .eps = kLatentNormEps});
  copy_rows(context.stream,
            {.y_MN = columns(added, latent, depth), .x_MN = columns(down, query + latent, query + depth)});

  // The query: its nope part times W_UK, beside its rotary part.
  const Mat<const float> w_uk = rows(params.kv_b, 0, nope), w_uv = rows(params.kv_b, nope, nope + value);
  const int64_t stride = (nope + value) * latent;
  const Mat<float> absorbed = scratch.mat<float>(tokens, heads * depth);
  multiply_heads(context, head_E1,
                 {.y_TX = absorbed,
                  .x_TX = q,
                  .y_begin = 0,
                  .y_width = latent,
                  .x_begin = 0,
                  .x_width = nope,
                  .w = w_uk,
                  .stride = stride,
                  .transposed = true});
  copy_rows(context.stream, {.y_MN = columns(as_heads(absorbed, heads), latent, depth),
                             .x_MN = columns(as_heads(q, heads), nope, nope + ropes)});
  const Mat<const float> cos = rows(rotary.cos_SJ, first, end), sin = rows(rotary.sin_SJ, first, end);
  rope(context.stream,
       {.x_TD = absorbed, .cos_SJ = cos, .sin_SJ = sin, .heads = heads, .head_dim = depth, .offset = latent});
  rope(context.stream, {.x_TD = added, .cos_SJ = cos, .sin_SJ = sin, .heads = 1, .head_dim = depth, .offset = latent});

  const LatentAttentionShape shape{heads, latent, ropes, attention_scale(s)};
  const LatentAttentionScratch extent = latent_attention_scratch(tokens, end, shape);
  const Mat<float> o_latent = scratch.mat<float>(tokens, heads * latent);
  latent_attention(context.stream, {.o_TX = o_latent,
                                    .q_TX = absorbed,
                                    .cache_SX = rows(cache_SX, 0, end),
                                    .scratch = scratch.mat<float>(extent.rows, extent.cols),
                                    .shape = shape});
  const Mat<float> o = scratch.mat<float>(tokens, heads * value);
  multiply_heads(context, head_E1,
                 {.y_TX = o,
                  .x_TX = o_latent,
                  .y_begin = 0,
                  .y_width = value,
                  .x_begin = 0,
                  .x_width = latent,
                  .w = w_uv,
                  .stride = stride,
                  .transposed = false});
  split_linear_forward(context, y, base, o, params.o);
}

}  // namespace tael
