// AdamW on a flat span (Loshchilov & Hutter, arXiv 1711.05101; PyTorch's torch.optim.AdamW, step by step):
//   g = clip * grad;  w -= lr * weight_decay * w;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   w -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
// One pass: reads four arrays, writes three: 28 bytes an element. Elementwise and without fused multiply-add: any cut
// and every instruction set give the same bits.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

template <class T>
struct AdamwUpdate {
  Vec<T> weight, moment1, moment2;
  Vec<const T> grad;
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  double clip = 1;   // the factor on the gradient
  int64_t step = 1;  // from 1
};

void adamw_update(const Stream& stream, const AdamwUpdate<float>& args);

}  // namespace tael
