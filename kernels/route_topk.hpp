// The gate: from logits to chosen experts and their weights, and back. DeepSeek-V3 report eq. 12-16 and 17-20,
// DeepSeek-V2 report section 2.2; Hugging Face modeling_deepseek_v3 / _v2; traps in the tests.
//
// Scores s in float32: sigmoid(logit), or softmax over all experts. Choice scores c = s + bias (bias empty: s). With
// groups (G consecutive groups of E / G): a group's score is the sum of its two largest c (GroupScore::top2_sum; one
// expert in a group: that one) or its maximum; the best `topk_group` groups stay, all other experts are at minus
// infinity. The K largest c are chosen. Ties go to the smaller number, of groups and of experts. Weights are the
// unbiased s of the chosen, divided by (their sum + 1e-20) if `normalize`, times `scale`.
//
// K different experts are always chosen. A score that is not a number is chosen before all others, as torch.topk does,
// so that the token's weights show it. REQUIRES top_k <= topk_group * (E / groups) and that groups divides E.
//
// Outputs are per token in ascending order of expert. `counts_E` counts tokens per expert over all rows (overwritten).
//
// Balance loss, per sequence of `sequence_length` rows: alpha * sum over experts of f P, with f = E / (K S) * the
// number of tokens whose unbiased, ungrouped top K holds the expert, and P = mean over tokens of s / (sum(s) + 1e-20).
// Its gradient goes through P only. Needs two passes over a sequence; a sum over tokens is one chain in token order.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

enum class GroupScore { top2_sum, maximum };

struct RouteOptions {
  int64_t top_k = 1, groups = 1, topk_group = 1;
  bool softmax = false;  // else sigmoid
  bool normalize = true;
  GroupScore group_score = GroupScore::top2_sum;
  double scale = 1.0;
};

template <class T>
struct RouteForward {
  Mat<int32_t> expert_TK;  // ascending in a row
  Mat<T> weight_TK;
  Mat<T> score_TE;  // s, needed backward
  Vec<int64_t> counts_E;
  Mat<const T> logit_TE;
  Vec<const T> bias_E;  // may be empty
  RouteOptions options;
};

template <class T>
struct RouteBackward {  // dlogit from the weights' gradient; the choice is held fixed. Overwrites dlogit.
  Mat<T> dlogit_TE;
  Mat<const T> dweight_TK;
  Mat<const T> score_TE;
  Mat<const int32_t> expert_TK;
  RouteOptions options;
};

template <class T>
struct BalanceForward {
  Vec<double> loss_B;  // one per sequence, without alpha: sum over experts of f P
  Mat<T> fraction_BE;  // f, needed backward
  Mat<const T> score_TE;
  int64_t top_k = 1, sequence_length = 0;
};

template <class T>
struct BalanceBackward {  // dlogit += coefficient * d(sum f P)/dlogit, for each sequence
  Mat<T> dlogit_TE;
  Mat<const T> score_TE;
  Mat<const T> fraction_BE;
  bool softmax = false;
  int64_t sequence_length = 0;
  double coefficient = 0.0;  // alpha / sequences of the global batch
};

// Of a thread's workspace, by the function that takes the most; must be at most ThreadPool::kWorkspaceBytes.
int64_t route_workspace_bytes(int64_t experts, int64_t top_k);

void route_forward(const Stream& stream, const RouteForward<float>& args);
void route_backward(const Stream& stream, const RouteBackward<float>& args);
void balance_forward(const Stream& stream, const BalanceForward<float>& args);
void balance_backward(const Stream& stream, const BalanceBackward<float>& args);

}  // namespace tael
