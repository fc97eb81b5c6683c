// What rope.hpp means, in the plainest loops.
#pragma once

#include "kernels/rope.hpp"

namespace tael::reference {

template <class T>
void rope(const Rope<T>& args) {
  using A = acc_t<T>;
  for (int64_t t = 0; t < args.x_TD.rows(); ++t) {
    const int64_t position = t % args.cos_SJ.rows();
    for (int64_t h = 0; h < args.heads; ++h) {
      for (int64_t j = 0; j < args.cos_SJ.cols(); ++j) {
        T& real = args.x_TD(t, h * args.head_dim + args.offset + 2 * j);
        T& imaginary = args.x_TD(t, h * args.head_dim + args.offset + 2 * j + 1);
        const A c = args.cos_SJ(position, j);
        const A s = args.inverse ? A(0) - args.sin_SJ(position, j) : A(args.sin_SJ(position, j));
        const A x = A(real), y = A(imaginary);
        real = T(x * c - y * s);
        imaginary = T(x * s + y * c);
      }
    }
  }
}

}  // namespace tael::reference
