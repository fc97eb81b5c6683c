// What cross_entropy.hpp means, in the plainest loops. loss_of_row, with a recording scalar, is the source of exact
// gradients.
#pragma once

#include <cmath>

#include "kernels/cross_entropy.hpp"

namespace tael::reference {

// log(sum of exp(logit)) - logit[target].
template <class T>
T loss_of_row(Vec<const T> logit_V, int64_t target) {
  using std::exp;
  using std::log;
  T maximum = logit_V(0);
  for (int64_t v = 1; v < logit_V.size(); ++v)
    if (maximum < logit_V(v)) maximum = logit_V(v);
  T sum = 0;
  for (int64_t v = 0; v < logit_V.size(); ++v) sum += exp(logit_V(v) - maximum);
  return log(sum) + maximum - logit_V(target);
}

// For scalars that convert to double.
template <class T>
void cross_entropy(const CrossEntropy<T>& args) {
  const int64_t vocab = args.logit_TV.cols();
  for (int64_t t = 0; t < args.logit_TV.rows(); ++t) {
    const Vec<T> logit_V = vec(args.logit_TV.row(t), vocab);
    const int64_t sequence = (args.first_row + t) / args.sequence_length;
    const int64_t position = (args.first_row + t) % args.sequence_length;
    if (position >= args.sequence_length - args.unscored) {
      args.loss_T(t) = 0;
      if (args.backward)
        for (int64_t v = 0; v < vocab; ++v) logit_V(v) = T(0);
      continue;
    }
    const int32_t target = args.token_BS(sequence, position + args.shift);
    args.loss_T(t) = static_cast<double>(loss_of_row<T>(logit_V, target));
    if (!args.backward) continue;
    // softmax(v) = exp(logit(v) - logit(target)) * softmax(target), the latter known from the loss.
    const double log_sum = args.loss_T(t) + static_cast<double>(logit_V(target));
    for (int64_t v = 0; v < vocab; ++v) {
      const double probability = std::exp(static_cast<double>(logit_V(v)) - log_sum);
      logit_V(v) = T(args.coefficient * (probability - (v == target ? 1.0 : 0.0)));
    }
  }
}

}  // namespace tael::reference
