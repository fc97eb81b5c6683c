// What permute_tokens.hpp means, in the plainest loops.
#pragma once

#include "kernels/gemm.hpp"
#include "kernels/permute_tokens.hpp"

namespace tael::reference {

inline void sort_tokens(const SortTokens& args) {
  int64_t row = 0;
  for (int64_t e = 0; e + 1 < args.offset_E1.size(); ++e) {
    args.offset_E1(e) = row;
    for (int64_t t = 0; t < args.expert_TK.rows(); ++t) {
      for (int64_t k = 0; k < args.expert_TK.cols(); ++k) {
        if (args.expert_TK(t, k) != e) continue;
        args.position_TK(t, k) = static_cast<int32_t>(row);
        args.token_R(row++) = static_cast<int32_t>(t);
      }
    }
  }
  args.offset_E1(args.offset_E1.size() - 1) = row;
}

template <class T>
void dispatch_tokens(const DispatchTokens<T>& args) {
  for (int64_t r = 0; r < args.y_RD.rows(); ++r)
    for (int64_t d = 0; d < args.y_RD.cols(); ++d) args.y_RD(r, d) = args.x_TD(args.token_R(r), d);
}

template <class T>
void combine_tokens(const CombineTokens<T>& args) {
  for (int64_t t = 0; t < args.y_TD.rows(); ++t) {
    for (int64_t d = 0; d < args.y_TD.cols(); ++d) {
      T total = 0;
      for (int64_t g = 0; g < args.groups; ++g) {
        T sum = 0;
        for (int64_t k = 0; k < args.expert_TK.cols(); ++k)
          if (args.expert_TK(t, k) >= piece_begin(args.experts, args.groups, g) &&
              args.expert_TK(t, k) < piece_begin(args.experts, args.groups, g + 1))
            sum += args.x_RD(args.position_TK(t, k), d);
        total += sum;
      }
      args.y_TD(t, d) = args.accumulate ? args.y_TD(t, d) + total : total;
    }
  }
}

template <class T>
void gather_rows(const GatherRows<T>& args) {
  for (int64_t t = 0; t < args.x_TK.rows(); ++t)
    for (int64_t k = 0; k < args.x_TK.cols(); ++k) args.y_R(args.position_TK(t, k)) = args.x_TK(t, k);
}

template <class T>
void scatter_rows(const ScatterRows<T>& args) {
  for (int64_t t = 0; t < args.y_TK.rows(); ++t)
    for (int64_t k = 0; k < args.y_TK.cols(); ++k) args.y_TK(t, k) = args.x_R(args.position_TK(t, k));
}

}  // namespace tael::reference
