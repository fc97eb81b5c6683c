// What squared_norm.hpp means, in the plainest loops.
#pragma once

#include "kernels/squared_norm.hpp"

namespace tael::reference {

template <class T>
void squared_norm(const SquaredNorm<T>& args) {
  for (int64_t m = 0; m < args.x_MN.rows(); ++m) {
    args.sum_M(m) = 0;
    for (int64_t n = 0; n < args.x_MN.cols(); ++n)
      args.sum_M(m) += static_cast<double>(args.x_MN(m, n)) * static_cast<double>(args.x_MN(m, n));
  }
}

}  // namespace tael::reference
