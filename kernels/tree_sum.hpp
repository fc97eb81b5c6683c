// The fixed binary tree that joins pieces (pieces.hpp says the rule): halves first, then their sum.
#pragma once

#include "kernels/isa.hpp"

namespace tael::TAEL_ISA {

// REQUIRES n >= 1. `add(a, b)` is one addition of whatever V is.
template <class V, class Add>
V tree_sum(const V* piece, int64_t n, const Add& add) {
  if (n == 1) return piece[0];
  return add(tree_sum(piece, n / 2, add), tree_sum(piece + n / 2, n - n / 2, add));
}

}  // namespace tael::TAEL_ISA
