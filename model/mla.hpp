// Multi-head latent attention (DeepSeek-V2 report 2.1, V3 report 2.1.1): queries and keys/values through low-rank
// latents, one rotary key for all heads.
//
// x -> down = x [W_q_a ; W_kv_a]^T = [query latent Q | kv latent C | rotary key R]; the two latents are normed with
// epsilon 1e-6, then q = latent W_q_b^T and kv = latent W_kv_b^T. Without q_lora_rank the first columns of `down` are
// the queries themselves. y = base + attention W_o^T. Sums over heads (W_o forward; both latents' and the rotary key's
// gradients) are split.
#pragma once

#include "model/context.hpp"
#include "model/param_table.hpp"
#include "model/rotary.hpp"

namespace tael {

template <class T>
struct MlaParams {
  Mat<T> down, q_b, kv_b, o;
  Vec<T> q_a_norm, kv_a_norm;
};

template <class T>
MlaParams<T> bind(const AttentionLayout& layout, const ModelShape& shape, T* base);

struct MlaSaved {
  Mat<float> down_TX;  // before the norms; the rotary key not yet rotated
  Mat<float> q_latent_TQ, kv_latent_TC;
  Vec<float> q_r_T, kv_r_T;
  Mat<float> q_TX, kv_TX, k_rope_TR;  // rotated
  Mat<float> o_TX, lse_TH;
};

struct MlaDeferred {  // gradients that the weight half needs
  Mat<float> dq_TX, dkv_TX, ddown_TX, dq_latent_TQ, dkv_latent_TC;
  Mat<const float> dy_TH;
};

struct Mla {
  static MlaSaved plan(Arena& arena, const ModelShape& shape, const Sequences& sequences);
  static MlaDeferred plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences);

  // document_start_T: empty, or each position's first visible position (kernels/attention.hpp).
  static void forward(Context& context, const ModelShape& shape, const Sequences& sequences, const RotaryTable& rotary,
                      const MlaParams<const float>& params, const MlaSaved& saved, Vec<const int32_t> document_start_T,
                      Mat<const float> x, Mat<const float> base, Mat<float> y);
  // dx overwritten. dy must stay until the weight half has run.
  static void backward_input(Context& context, const ModelShape& shape, const Sequences& sequences,
                             const RotaryTable& rotary, const MlaParams<const float>& params, const MlaSaved& saved,
                             Vec<const int32_t> document_start_T, MlaDeferred& deferred, Mat<const float> dy,
                             Mat<float> dx);
  static void backward_weight(Context& context, const ModelShape& shape, const Sequences& sequences,
                              const MlaSaved& saved, const MlaDeferred& deferred, Mat<const float> x,
                              const MlaParams<float>& grads);
};

}  // namespace tael
