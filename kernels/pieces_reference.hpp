// join_pieces and add_to as plain loops over any scalar: what the kernels must equal bit for bit.
#pragma once

#include "kernels/gemm.hpp"
#include "kernels/pieces.hpp"

namespace tael::reference {

template <class T>
T tree_sum(const Cube<const T>& x_PMN, int64_t begin, int64_t end, int64_t m, int64_t n) {
  if (end - begin == 1) return x_PMN(begin, m, n);
  const int64_t middle = begin + piece_begin(end - begin, 2, 1);
  return tree_sum(x_PMN, begin, middle, m, n) + tree_sum(x_PMN, middle, end, m, n);
}

template <class T>
void join_pieces(const JoinPieces<T>& args) {
  for (int64_t m = 0; m < args.y_MN.dim[0]; ++m)
    for (int64_t n = 0; n < args.y_MN.dim[1]; ++n) {
      const T sum = tree_sum(args.x_PMN, 0, args.x_PMN.dim[0], m, n);
      args.y_MN(m, n) = args.base_MN ? args.base_MN(m, n) + sum : sum;
    }
}

template <class T>
void add_to(const AddTo<T>& args) {
  for (int64_t m = 0; m < args.y_MN.dim[0]; ++m)
    for (int64_t n = 0; n < args.y_MN.dim[1]; ++n) args.y_MN(m, n) = args.y_MN(m, n) + args.x_MN(m, n);
}

}  // namespace tael::reference
