// What swiglu.hpp means, in the plainest loops; with a recording scalar, the source of exact gradients.
#pragma once

#include <cmath>

#include "kernels/swiglu.hpp"

namespace tael::reference {

template <class A>
A logistic(const A& x) {
  using std::exp;
  return A(1) / (A(1) + exp(-x));
}

template <class T>
void swiglu_forward(const SwigluForward<T>& args) {
  using A = acc_t<T>;
  const int64_t width = args.a_TF.cols();
  for (int64_t t = 0; t < args.a_TF.rows(); ++t) {
    for (int64_t f = 0; f < width; ++f) {
      const A gate = A(args.gu_T2F(t, f)), up = A(args.gu_T2F(t, width + f));
      A a = gate * logistic(gate) * up;
      if (args.weight_T) a = a * args.weight_T(t);
      args.a_TF(t, f) = T(a);
    }
  }
}

template <class T>
void swiglu_backward(const SwigluBackward<T>& args) {
  using A = acc_t<T>;
  const int64_t width = args.da_TF.cols();
  for (int64_t t = 0; t < args.da_TF.rows(); ++t) {
    const A weight = args.weight_T ? A(args.weight_T(t)) : A(1);
    A dweight = 0;
    for (int64_t f = 0; f < width; ++f) {
      const A gate = A(args.gu_T2F(t, f)), up = A(args.gu_T2F(t, width + f)), da = A(args.da_TF(t, f));
      const A s = logistic(gate);
      const A silu = gate * s;
      dweight += da * (silu * up);
      args.dgu_T2F(t, f) = T(da * weight * up * (s * (A(1) + gate * (A(1) - s))));
      args.dgu_T2F(t, width + f) = T(da * weight * silu);
    }
    if (args.dweight_T) args.dweight_T(t) = dweight;
  }
}

}  // namespace tael::reference
