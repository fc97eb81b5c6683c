// The GEMM family of a linear layer y = x W^T, with W stored [out, in] as in every released checkpoint.
//
// The contract, tested bit for bit on every instruction set:
//   - each element of the result is ONE chain in ascending order of the summed index, every link a fused multiply-add
//     where the instruction set has one (portable: a product and a sum, two roundings);
//   - with `accumulate` the chain starts from what is there, else from zero;
// so a row of the result does not depend on the other rows, on the number of threads or on how the work is cut, and a
// weight gradient accumulated over tokens in several calls equals the one accumulated in one.
//
// Pieces: the result of forward and input_grad is a cube [P, rows, cols]. The summed index, of length K, is cut at
// piece_begin(K, P, p); matrix p holds the chain over piece p alone. P = 1 is the plain product. P > 1 is
// `reduction_segments`: the pieces are what tensor-parallel ranks would compute, and join_pieces (pieces.hpp) adds them
// by the tree, so every number of ranks gives the same bits.
//
// Grouped: rows of x and y belong to experts. Expert e owns rows [offset[e], offset[e + 1]), any number from zero to
// all of them, and matrix e of the weights, `weight_stride` elements after matrix e - 1.
//
// Shapes: M rows (tokens), N outputs, K inputs, E experts, P pieces. Formats: T in, acc_t<T> out and in between. Moves:
// 2 M N K FLOPs. Views may have any pitch; c must not overlap a or b. Empty extents are allowed (K = 0 leaves the
// accumulator as it is, or writes zeros). Packing goes through the pool's workspaces; nothing is allocated.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

// Of a thread's workspace, at most, for packed blocks of both operands.
inline constexpr int64_t kGemmWorkspaceBytes = int64_t{1200} << 10;

TAEL_INLINE int64_t piece_begin(int64_t length, int64_t pieces, int64_t piece) { return length * piece / pieces; }

template <class T>
struct GemmForward {  // y[p, m, n] (+)= sum over k in piece p of x[m, k] w[n, k]
  Cube<acc_t<T>> y_PMN;
  Mat<const T> x_MK;
  Mat<const T> w_NK;
  bool accumulate = false;
};

template <class T>
struct GemmInputGrad {  // dx[p, m, k] (+)= sum over n in piece p of dy[m, n] w[n, k]
  Cube<acc_t<T>> dx_PMK;
  Mat<const T> dy_MN;
  Mat<const T> w_NK;
  bool accumulate = false;
};

template <class T>
struct GemmWeightGrad {  // dw[n, k] += sum over m, ascending, of dy[m, n] x[m, k]; always accumulates
  Mat<acc_t<T>> dw_NK;
  Mat<const T> dy_MN;
  Mat<const T> x_MK;
};

template <class T>
struct GroupedGemmForward {
  Cube<acc_t<T>> y_PMN;
  Mat<const T> x_MK;
  Mat<const T> w_NK;  // of expert 0
  int64_t weight_stride = 0;
  Vec<const int64_t> offset_E1;  // E + 1 ascending row numbers
  bool accumulate = false;
};

template <class T>
struct GroupedGemmInputGrad {
  Cube<acc_t<T>> dx_PMK;
  Mat<const T> dy_MN;
  Mat<const T> w_NK;  // of expert 0
  int64_t weight_stride = 0;
  Vec<const int64_t> offset_E1;
  bool accumulate = false;
};

template <class T>
struct GroupedGemmWeightGrad {
  Mat<acc_t<T>> dw_NK;  // of expert 0
  int64_t weight_stride = 0;
  Mat<const T> dy_MN;
  Mat<const T> x_MK;
  Vec<const int64_t> offset_E1;
};

void gemm_forward(const Stream& stream, const GemmForward<float>& args);
void gemm_input_grad(const Stream& stream, const GemmInputGrad<float>& args);
void gemm_weight_grad(const Stream& stream, const GemmWeightGrad<float>& args);
void grouped_gemm_forward(const Stream& stream, const GroupedGemmForward<float>& args);
void grouped_gemm_input_grad(const Stream& stream, const GroupedGemmInputGrad<float>& args);
void grouped_gemm_weight_grad(const Stream& stream, const GroupedGemmWeightGrad<float>& args);

}  // namespace tael
