// SwiGLU with an optional weight per row: a = weight * silu(gate) * up, silu(g) = g / (1 + exp(-g)).
//
// gate and up are the left and the right half of gu [T, 2F] (one GEMM makes both). The weight of a row is a routed
// expert's (absent: 1): it multiplies here, before the down-projection, where its gradient is one dot product of the
// row. exp is our own, the same bits on every instruction set with fused multiply-add. A row's dot product has the
// fixed order of rms_norm.hpp. Moves: 3 T F elements forward, 5 T F backward. Source: arXiv 2002.05202.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

template <class T>
struct SwigluForward {
  Mat<T> a_TF;
  Mat<const T> gu_T2F;
  Vec<const acc_t<T>> weight_T;  // may be empty (no data): 1 for all
};

template <class T>
struct SwigluBackward {
  Mat<T> dgu_T2F;           // may be the same memory as gu
  Vec<acc_t<T>> dweight_T;  // empty if weight is
  Mat<const T> da_TF;
  Mat<const T> gu_T2F;
  Vec<const acc_t<T>> weight_T;
};

void swiglu_forward(const Stream& stream, const SwigluForward<float>& args);
void swiglu_backward(const Stream& stream, const SwigluBackward<float>& args);

}  // namespace tael
