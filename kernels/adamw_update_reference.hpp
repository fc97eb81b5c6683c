// What adamw_update.hpp means, one line per line of PyTorch's single-tensor AdamW.
#pragma once

#include <cmath>

#include "kernels/adamw_update.hpp"

namespace tael::reference {

template <class T>
void adamw_update(const AdamwUpdate<T>& args) {
  using std::sqrt;
  const double step = static_cast<double>(args.step);
  const T correction1 = T(1.0 - std::pow(args.beta1, step));
  const T correction2 = T(1.0 - std::pow(args.beta2, step));
  for (int64_t i = 0; i < args.weight.size(); ++i) {
    T& w = args.weight(i);
    T& m = args.moment1(i);
    T& v = args.moment2(i);
    const T g = T(args.clip) * args.grad(i);
    w = w - T(args.lr * args.weight_decay) * w;
    m = T(args.beta1) * m + T(1.0 - args.beta1) * g;
    v = T(args.beta2) * v + T(1.0 - args.beta2) * g * g;
    w = w - T(args.lr) / correction1 * m / (sqrt(v) / sqrt(correction2) + T(args.eps));
  }
}

}  // namespace tael::reference
