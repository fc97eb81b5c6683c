// Balance without an auxiliary loss: after every optimizer step the selection bias of an expert that had more tokens
// than the mean goes down by `rate`, of one that had fewer goes up, of one that had exactly the mean stays.
//
// Counts are those of the whole global batch, as integers: the mean is compared as count * E against the total, so that
// no rounding can turn a direction (40,840 tokens become 41,216 or 40,704 in bfloat16 and the update changes sign).
// Source: DeepSeek-V3 report 2.1.2; Wang et al., arXiv 2408.15664.
#pragma once

#include <cstdint>

#include "base/view.hpp"

namespace tael {

// bias += rate * sign(mean count - count), one row per MoE layer [layers, E], in float32.
void update_expert_bias(Mat<float> bias_LE, Mat<const int64_t> counts_LE, double rate);

// How far the busiest expert of one layer is above the mean: max count / mean count - 1; 0 without tokens.
double max_violation(Vec<const int64_t> counts_E);

}  // namespace tael
