// Floating-point operations of a model, counted from its dimensions: what MFU is the ratio of.
//
// Per token, a multiply-add counted as two, GEMMs and the attention core only: embedding look-up, norms, SwiGLU,
// softmax and the optimizer are left out, recomputation is not counted. Attention is causal (a position sees half of
// the sequence on average) unless asked for in full. Training is three times the forward pass. MTP modules are counted.
// Conventions of DeepSeek's "Insights" paper (arXiv 2505.09343, table 2: 250 GFLOPs a token for V3 at 4,096, without
// MTP).
#pragma once

#include "model/shape.hpp"

namespace tael {

enum class AttentionCount : uint8_t { causal, full };

double forward_flops_per_token(const ModelShape& shape, int64_t sequence_length,
                               AttentionCount count = AttentionCount::causal);

inline double training_flops_per_token(const ModelShape& shape, int64_t sequence_length,
                                       AttentionCount count = AttentionCount::causal) {
  return 3.0 * forward_flops_per_token(shape, sequence_length, count);
}

}  // namespace tael
