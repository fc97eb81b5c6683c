// Sum of squares of every row of a matrix, in double, each row in the fixed 16-chain order of rms_norm.hpp. The caller
// adds rows and tensors in table order, so that no owner of a piece matters. Also tells whether everything is finite (a
// sum of squares in double of floats overflows only if one of them is not finite).
#pragma once

#include "kernels/isa.hpp"

namespace tael {

template <class T>
struct SquaredNorm {
  Vec<double> sum_M;
  Mat<const T> x_MN;
};

void squared_norm(const Stream& stream, const SquaredNorm<float>& args);

}  // namespace tael
