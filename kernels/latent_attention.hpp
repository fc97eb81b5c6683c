// Multi-head latent attention in its absorbed form, for decoding: queries against a cache of latents.
//
// The keys' and values' up-projections are folded into the query and the output (DeepSeek-V2 report section 2.1.2), so
// all heads read one row a position: its normed latent, then its rotated key. Row t of T stands at position
// S - T + t and sees every position up to its own:
//   o[t, h] = sum over s of softmax_s(scale * q[t, h] . cache[s]) * cache[s, the latent's columns]
//
// Numerics: positions are cut into blocks of 64 inside segments of 256, counted from position 0; a block's softmax is
// taken in as in kernels/attention.hpp, segments are joined in ascending order. So a row's bits depend on the positions
// that it sees, and not on T, other rows or threads. A row alone is shared out over threads by segments.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

struct LatentAttentionShape {
  int64_t heads = 0, latent = 0, rope = 0;
  double scale = 1.0;
};

template <class T>
struct LatentAttention {
  Mat<T> o_TX;            // [T, heads * latent], contiguous
  Mat<const T> q_TX;      // [T, heads * (latent + rope)]: a head's query times W_UK, then its rotated part
  Mat<const T> cache_SX;  // [S, latent + rope], contiguous; S >= T
  Mat<T> scratch;         // latent_attention_scratch(T, S, ...) numbers; overwritten
  LatentAttentionShape shape;
};

// Rows and columns of LatentAttention::scratch for T rows over S positions; no rows where T is not 1.
struct LatentAttentionScratch {
  int64_t rows, cols;
};
LatentAttentionScratch latent_attention_scratch(int64_t rows, int64_t positions, const LatentAttentionShape& shape);

int64_t latent_attention_workspace_bytes(const LatentAttentionShape& shape);  // must fit a thread's workspace

void latent_attention(const Stream& stream, const LatentAttention<float>& args);

}  // namespace tael
