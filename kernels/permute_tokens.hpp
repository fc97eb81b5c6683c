// Tokens to experts and back, dropless, for any skew. Position of (token, expert): experts ascending, inside an expert
// tokens ascending (a counting sort, so it is the same for every thread count and every cut of the work).
//
// combine adds a token's K rows in float32, inside each group of consecutive experts by ascending expert, then the
// groups ascending, in every layout; groups = 1 is one sum. dispatch's derivative is combine and the other way round.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

struct SortTokens {
  Vec<int64_t> offset_E1;        // expert e owns rows [offset[e], offset[e + 1])
  Mat<int32_t> position_TK;      // row of (token, its k-th expert)
  Vec<int32_t> token_R;          // token of a row; R = T K
  Mat<const int32_t> expert_TK;  // ascending in a row
};

template <class T>
struct DispatchTokens {  // y[position[t, k]] = x[t]
  Mat<T> y_RD;
  Mat<const T> x_TD;
  Vec<const int32_t> token_R;
};

template <class T>
struct CombineTokens {  // y[t] = (accumulate ? y[t] : 0) + sum over groups of (sum over the group's k of x[pos[t, k]])
  Mat<T> y_TD;
  Mat<const T> x_RD;
  Mat<const int32_t> position_TK;
  Mat<const int32_t> expert_TK;
  int64_t experts = 1, groups = 1;  // group g: experts from piece_begin(experts, groups, g)
  bool accumulate = false;
};

template <class T>
struct GatherRows {  // weight_R[position[t, k]] = weight_TK[t, k]
  Vec<T> y_R;
  Mat<const T> x_TK;
  Mat<const int32_t> position_TK;
};

template <class T>
struct ScatterRows {  // the way back: y_TK[t, k] = x_R[position[t, k]]
  Mat<T> y_TK;
  Vec<const T> x_R;
  Mat<const int32_t> position_TK;
};

void sort_tokens(const Stream& stream, const SortTokens& args);
void dispatch_tokens(const Stream& stream, const DispatchTokens<float>& args);
void combine_tokens(const Stream& stream, const CombineTokens<float>& args);
void gather_rows(const Stream& stream, const GatherRows<float>& args);
void scatter_rows(const Stream& stream, const ScatterRows<float>& args);

}  // namespace tael
