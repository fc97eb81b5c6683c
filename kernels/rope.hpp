// Decoupled rotary embedding, interleaved as the released weights have it: the pair (2j, 2j + 1) of a head's rotary
// part is a complex number, multiplied in place by (cos + i sin) of its position's angle j.
//
// Rows are tokens; a row holds `heads` heads of `head_dim` numbers, the rotary part is the R numbers from `offset`. Row
// t has position t modulo the table's length. `inverse` multiplies by the conjugate: the derivative. Source:
// DeepSeek-V3 inference/model.py apply_rotary_emb; Hugging Face with rope_interleave.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

template <class T>
struct Rope {
  Mat<T> x_TD;
  Mat<const acc_t<T>> cos_SJ;  // [sequence length, R / 2], already times YaRN's attention factor
  Mat<const acc_t<T>> sin_SJ;
  int64_t heads = 1, head_dim = 0, offset = 0;  // in numbers
  bool inverse = false;
};

void rope(const Stream& stream, const Rope<float>& args);

}  // namespace tael
