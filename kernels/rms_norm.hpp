// RMSNorm over the last dimension: y = x * r * gain, r = 1 / sqrt(mean(x^2) + eps).
//
// Shapes: T tokens, D channels. Formats: T in and out, the mean of squares, r and gradients in acc_t<T>. Moves: 2 T D
// elements each way. Numerics: a row's sum has a fixed order (16 interleaved chains by channel, then a tree), the same
// on every instruction set. Source: arXiv 1910.07467; Hugging Face DeepseekV3RMSNorm.
//
// The gain's gradient is a sum over tokens, which sequence parallelism splits: per sequence of `sequence_length` rows,
// P pieces (piece_begin) of one chain each in token order from zero, joined by the tree, then added to what is there,
// sequence after sequence. So it depends on neither micro-batches nor threads.
#pragma once

#include "kernels/isa.hpp"
#include "kernels/pieces.hpp"

namespace tael {

template <class T>
struct RmsNormForward {
  Mat<T> y_TD;
  Vec<acc_t<T>> r_T;  // may be empty: only backward needs it
  Mat<const T> x_TD;
  Vec<const T> gain_D;
  double eps = 1e-6;
};

template <class T>
struct RmsNormInputGrad {  // dx = r (gain dy - x r^2 mean(gain dy x)), added to what is there if `accumulate`
  Mat<T> dx_TD;
  Mat<const T> dy_TD;
  Mat<const T> x_TD;
  Vec<const acc_t<T>> r_T;
  Vec<const T> gain_D;
  bool accumulate = false;
};

template <class T>
struct RmsNormWeightGrad {  // dgain[d] += over sequences: tree over pieces of the chain of dy[t, d] * (x[t, d] * r[t])
  Vec<acc_t<T>> dgain_D;
  Mat<const T> dy_TD;
  Mat<const T> x_TD;
  Vec<const acc_t<T>> r_T;
  int64_t sequence_length = 0;  // divides T
  int64_t pieces = 1;           // at most kMaxPieces
};

void rms_norm_forward(const Stream& stream, const RmsNormForward<float>& args);
void rms_norm_input_grad(const Stream& stream, const RmsNormInputGrad<float>& args);
void rms_norm_weight_grad(const Stream& stream, const RmsNormWeightGrad<float>& args);

}  // namespace tael
