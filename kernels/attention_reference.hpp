// What attention means: the full row of scores, its softmax, the weighted sum of the values, position by position.
// Templates over the scalar; run with a recording scalar they yield the exact gradients that the tests demand.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/attention.hpp"

namespace tael::reference {

template <class T>
void attention_forward(const AttentionForward<T>& args) {
  using std::exp;
  using std::log;
  using A = acc_t<T>;
  const AttentionShape& shape = args.shape;
  const int64_t query_head = shape.nope + shape.rope, key_head = shape.nope + shape.value;
  std::vector<A> score(static_cast<size_t>(shape.sequence_length));
  for (int64_t t = 0; t < args.o_TX.rows(); ++t) {
    const int64_t position = t % shape.sequence_length, sequence = t - position;  // first row of the sequence
    const int64_t first = args.document_start_T.size() > 0 ? args.document_start_T(t) : 0;
    for (int64_t h = 0; h < shape.heads; ++h) {
      const T* q = args.q_TX.row(t) + h * query_head;
      A largest = A(0);
      for (int64_t j = first; j <= position; ++j) {
        const T* k = args.kv_TX.row(sequence + j) + h * key_head;
        const T* k_rope = args.k_rope_TR.row(sequence + j);
        A sum = A(0);
        for (int64_t d = 0; d < shape.nope; ++d) sum += A(q[d]) * A(k[d]);
        for (int64_t d = 0; d < shape.rope; ++d) sum += A(q[shape.nope + d]) * A(k_rope[d]);
        score[static_cast<size_t>(j)] = sum * A(shape.scale);
        if (j == first || largest < score[static_cast<size_t>(j)]) largest = score[static_cast<size_t>(j)];
      }
      A total = A(0);
      for (int64_t j = first; j <= position; ++j) {
        A& s = score[static_cast<size_t>(j)];
        s = exp(s - largest);
        total += s;
      }
      for (int64_t v = 0; v < shape.value; ++v) {
        A sum = A(0);
        for (int64_t j = first; j <= position; ++j)
          sum += score[static_cast<size_t>(j)] * A(args.kv_TX(sequence + j, h * key_head + shape.nope + v));
        args.o_TX(t, h * shape.value + v) = T(sum / total);
      }
      args.lse_TH(t, h) = largest + log(total);
    }
  }
}

}  // namespace tael::reference
