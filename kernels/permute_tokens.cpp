#include "kernels/permute_tokens.hpp"

#include "kernels/gemm.hpp"
#include "kernels/rows.hpp"

namespace tael::TAEL_ISA {

void sort_tokens(const Stream&, const SortTokens& args) {
  const int64_t experts = args.offset_E1.size() - 1, tokens = args.expert_TK.rows(), top_k = args.expert_TK.cols();
  int64_t* offset = args.offset_E1.data;
  // offset[e + 1] counts expert e, then is the end of expert e - 1's rows, then is moved on to the end of e's by
  // placing.
  for (int64_t e = 0; e <= experts; ++e) offset[e] = 0;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t k = 0; k < top_k; ++k) ++offset[args.expert_TK(t, k) + 1];
  int64_t row = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t count = offset[e + 1];
    offset[e + 1] = row;
    row += count;
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < top_k; ++k) {
      const int64_t place = offset[args.expert_TK(t, k) + 1]++;
      args.position_TK(t, k) = static_cast<int32_t>(place);
      args.token_R(place) = static_cast<int32_t>(t);
    }
  }
}

void dispatch_tokens(const Stream& stream, const DispatchTokens<float>& args) {
  const int64_t channels = args.y_RD.cols();
  for_row_blocks(stream, args.y_RD.rows(), 2 * channels * 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = args.x_TD.row(args.token_R(r));
      float* y = args.y_RD.row(r);
      along(channels, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { store(y + j, load(x + j, part), part); });
    }
  });
}

void combine_tokens(const Stream& stream, const CombineTokens<float>& args) {
  const int64_t channels = args.y_TD.cols(), top_k = args.expert_TK.cols();
  for_row_blocks(stream, args.y_TD.rows(), (top_k + 1) * channels * 4, [&](int64_t begin, int64_t end, int thread) {
    // The rows of one token, and which of them end a group. A group's sum starts from its first row and the token's
    // from its first group that has a row.
    const float** x = reinterpret_cast<const float**>(stream.pool().workspace(thread));
    bool* ends_group = reinterpret_cast<bool*>(x + top_k);
    for (int64_t t = begin; t < end; ++t) {
      int64_t group_end = 0, group = 0;
      for (int64_t k = 0; k < top_k; ++k) {
        x[k] = args.x_RD.row(args.position_TK(t, k));
        while (args.expert_TK(t, k) >= group_end) group_end = piece_begin(args.experts, args.groups, ++group);
        ends_group[k] = k + 1 == top_k || args.expert_TK(t, k + 1) >= group_end;
      }
      float* y = args.y_TD.row(t);
      const bool accumulate = args.accumulate;
      along(channels, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        int64_t k = 0;
        F16 total = load(x[0] + j, part);
        while (!ends_group[k++]) total = add(total, load(x[k] + j, part));
        while (k < top_k) {
          F16 sum = load(x[k] + j, part);
          while (!ends_group[k++]) sum = add(sum, load(x[k] + j, part));
          total = add(total, sum);
        }
        store(y + j, accumulate ? add(load(y + j, part), total) : total, part);
      });
    }
  });
}

void gather_rows(const Stream&, const GatherRows<float>& args) {
  for (int64_t t = 0; t < args.x_TK.rows(); ++t)
    for (int64_t k = 0; k < args.x_TK.cols(); ++k) args.y_R(args.position_TK(t, k)) = args.x_TK(t, k);
}

void scatter_rows(const Stream&, const ScatterRows<float>& args) {
  for (int64_t t = 0; t < args.y_TK.rows(); ++t)
    for (int64_t k = 0; k < args.y_TK.cols(); ++k) args.y_TK(t, k) = args.x_R(args.position_TK(t, k));
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(sort_tokens, SortTokens)
TAEL_KERNEL(dispatch_tokens, DispatchTokens<float>)
TAEL_KERNEL(combine_tokens, CombineTokens<float>)
TAEL_KERNEL(gather_rows, GatherRows<float>)
TAEL_KERNEL(scatter_rows, ScatterRows<float>)
