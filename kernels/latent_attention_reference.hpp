// What absorbed latent attention means: all scores of a row, their softmax, the weighted sum of the latents.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/latent_attention.hpp"

namespace tael::reference {

template <class T>
void latent_attention(const LatentAttention<T>& args) {
  using std::exp;
  using A = acc_t<T>;
  const LatentAttentionShape& shape = args.shape;
  const int64_t depth = shape.latent + shape.rope, rows = args.o_TX.rows(), positions = args.cache_SX.rows();
  std::vector<A> score(static_cast<size_t>(positions));
  for (int64_t t = 0; t < rows; ++t) {
    const int64_t seen = positions - rows + t + 1;
    for (int64_t h = 0; h < shape.heads; ++h) {
      const T* q = args.q_TX.row(t) + h * depth;
      A largest = A(0), total = A(0);
      for (int64_t s = 0; s < seen; ++s) {
        A sum = A(0);
        for (int64_t d = 0; d < depth; ++d) sum += A(q[d]) * A(args.cache_SX(s, d));
        score[static_cast<size_t>(s)] = sum * A(shape.scale);
        if (s == 0 || largest < score[static_cast<size_t>(s)]) largest = score[static_cast<size_t>(s)];
      }
      for (int64_t s = 0; s < seen; ++s) {
        A& p = score[static_cast<size_t>(s)];
        p = exp(p - largest);
        total += p;
      }
      for (int64_t c = 0; c < shape.latent; ++c) {
        A sum = A(0);
        for (int64_t s = 0; s < seen; ++s) sum += score[static_cast<size_t>(s)] * A(args.cache_SX(s, c));
        args.o_TX(t, h * shape.latent + c) = T(sum / total);
      }
    }
  }
}

}  // namespace tael::reference
