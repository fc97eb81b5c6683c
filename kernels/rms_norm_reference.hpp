// What rms_norm.hpp means, in the plainest loops; with a recording scalar, the source of exact gradients.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/gemm.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/tree_sum.hpp"

namespace tael::reference {

template <class T>
void rms_norm_forward(const RmsNormForward<T>& args) {
  using std::sqrt;
  using A = acc_t<T>;
  const int64_t channels = args.x_TD.cols();
  for (int64_t t = 0; t < args.x_TD.rows(); ++t) {
    A sum = 0;
    for (int64_t d = 0; d < channels; ++d) sum += A(args.x_TD(t, d)) * A(args.x_TD(t, d));
    const A r = A(1) / sqrt(sum / A(static_cast<double>(channels)) + A(args.eps));
    if (args.r_T) args.r_T(t) = r;
    for (int64_t d = 0; d < channels; ++d) args.y_TD(t, d) = T(A(args.x_TD(t, d)) * r * A(args.gain_D(d)));
  }
}

template <class T>
void rms_norm_input_grad(const RmsNormInputGrad<T>& args) {
  using A = acc_t<T>;
  const int64_t channels = args.x_TD.cols();
  for (int64_t t = 0; t < args.x_TD.rows(); ++t) {
    const A r = args.r_T(t);
    A dot = 0;
    for (int64_t d = 0; d < channels; ++d) dot += A(args.gain_D(d)) * A(args.dy_TD(t, d)) * A(args.x_TD(t, d));
    const A c = r * r * (dot / A(static_cast<double>(channels)));
    for (int64_t d = 0; d < channels; ++d) {
      const A dx = r * (A(args.gain_D(d)) * A(args.dy_TD(t, d)) - A(args.x_TD(t, d)) * c);
      args.dx_TD(t, d) = args.accumulate ? T(A(args.dx_TD(t, d)) + dx) : T(dx);
    }
  }
}

template <class T>
void rms_norm_weight_grad(const RmsNormWeightGrad<T>& args) {
  using A = acc_t<T>;
  const int64_t length = args.sequence_length;
  std::vector<A> piece(static_cast<size_t>(args.pieces));
  for (int64_t first = 0; first < args.x_TD.rows(); first += length) {
    for (int64_t d = 0; d < args.x_TD.cols(); ++d) {
      for (int64_t p = 0; p < args.pieces; ++p) {
        A sum = 0;
        for (int64_t s = piece_begin(length, args.pieces, p); s < piece_begin(length, args.pieces, p + 1); ++s)
          sum += A(args.dy_TD(first + s, d)) * (A(args.x_TD(first + s, d)) * args.r_T(first + s));
        piece[static_cast<size_t>(p)] = sum;
      }
      args.dgain_D(d) += TAEL_ISA::tree_sum(piece.data(), args.pieces, [](const A& a, const A& b) { return a + b; });
    }
  }
}

}  // namespace tael::reference
