// Table lookup and its derivative. Token t of sequence b is token_BS(b, t + shift): MTP reads shifted tokens.
//
// The derivative adds rows in token order: one chain per element of the table, whatever the threads (they share out
// columns). The caller checked that every token lies in the table.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

template <class T>
struct EmbeddingForward {  // y[b * S + s] = table[token(b, s + shift)]
  Mat<T> y_TD;
  Mat<const T> table_VD;
  Mat<const int32_t> token_BS;  // at least sequence_length + shift columns
  int64_t sequence_length = 0, shift = 0;
};

template <class T>
struct EmbeddingGrad {  // dtable[token(b, s + shift)] += dy[b * S + s]
  Mat<acc_t<T>> dtable_VD;
  Mat<const T> dy_TD;
  Mat<const int32_t> token_BS;
  int64_t sequence_length = 0, shift = 0;
};

void embedding_forward(const Stream& stream, const EmbeddingForward<float>& args);
void embedding_grad(const Stream& stream, const EmbeddingGrad<float>& args);

}  // namespace tael
