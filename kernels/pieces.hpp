// Sums of pieces by the fixed binary tree, and the elementwise sums of a residual stream.
//
// tree over P pieces: halves first, then their sum: ((0 + 1) + (2 + 3)) + ...; an odd count gives the first half the
// smaller part (piece_begin of gemm.hpp with two halves). P need not be a power of two.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

inline constexpr int64_t kMaxPieces = 64;

template <class T>
struct JoinPieces {  // y[m, n] = base[m, n] + (tree over p of x[p, m, n]); without a base (no data) the tree alone
  Mat<T> y_MN;       // may be the memory of base, or of x's piece 0
  Mat<const T> base_MN;
  Cube<const T> x_PMN;
};

template <class T>
struct AddTo {  // y += x, elementwise
  Mat<T> y_MN;
  Mat<const T> x_MN;
};

template <class T>
struct CopyRows {  // y = x; the pitches may differ
  Mat<T> y_MN;
  Mat<const T> x_MN;
};

void join_pieces(const Stream& stream, const JoinPieces<float>& args);
void add_to(const Stream& stream, const AddTo<float>& args);
void copy_rows(const Stream& stream, const CopyRows<float>& args);

}  // namespace tael
