// Softmax cross-entropy of a block of rows, loss and derivative in one pass over memory, in place.
//
// Row t belongs to token number first_row + t of the micro-batch: sequence b = number / S, position s = number % S. Its
// target is token_BS(b, s + shift); positions s >= S - unscored have none (MTP depth k: the last k): loss 0, gradient
// 0. loss[t] = log(sum exp(logit - max)) + max - logit[target], in double. dlogit = coefficient * (softmax - onehot).
// The maximum and the sum over the vocabulary are taken in P pieces joined by the tree (pieces.hpp); inside a piece the
// fixed 16-chain order of rms_norm.hpp from the piece's first element. The caller checked the targets' range.
#pragma once

#include "kernels/isa.hpp"
#include "kernels/pieces.hpp"

namespace tael {

template <class T>
struct CrossEntropy {
  Vec<double> loss_T;
  Mat<T> logit_TV;  // in: logits. out: dlogit, if `backward`; else untouched
  Mat<const int32_t> token_BS;
  int64_t first_row = 0, sequence_length = 0, shift = 1, unscored = 0;
  int64_t pieces = 1;  // at most kMaxPieces
  bool backward = false;
  double coefficient = 0.0;
};

void cross_entropy(const Stream& stream, const CrossEntropy<float>& args);

}  // namespace tael
