// Multi-head latent attention for decoding: new tokens against a cache of latents (DeepSeek-V2 report section 2.1.2).
//
// A position costs one row of the cache for all heads, [normed latent C | rotated key R]. Keys and values are never
// made: W_UK goes into the query, W_UV into the output (kernels/latent_attention.hpp). Mathematically the same as
// Mla::forward; the sums are cut differently, so the last bits differ.
#pragma once

#include "model/mla.hpp"

namespace tael {

struct MlaCache {
  static Mat<float> plan(Arena& arena, const ModelShape& shape, int64_t positions) {
    return arena.mat<float>(positions, shape.kv_lora_rank + shape.qk_rope_head_dim);
  }

  // y = base + attention of the tokens x at positions first, first + 1, ...; writes their rows of the cache, REQUIRES
  // that those before are there. head_E1: the numbers 0, 1, ..., heads.
  static void forward(Context& context, const ModelShape& shape, const RotaryTable& rotary,
                      const MlaParams<const float>& params, Vec<const int64_t> head_E1, Mat<float> cache_SX,
                      int64_t first, Mat<const float> x, Mat<const float> base, Mat<float> y);
};

}  // namespace tael
