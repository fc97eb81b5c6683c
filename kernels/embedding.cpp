#include "kernels/embedding.hpp"

#include "kernels/rows.hpp"

namespace tael::TAEL_ISA {
namespace {

TAEL_INLINE int32_t token_of(Mat<const int32_t> token_BS, int64_t row, int64_t sequence_length, int64_t shift) {
  return token_BS(row / sequence_length, row % sequence_length + shift);
}

// Columns of one task of the derivative: a few pages, so that a row's read is long enough to be prefetched.
constexpr int64_t kStrip = 256;

}  // namespace

void embedding_forward(const Stream& stream, const EmbeddingForward<float>& args) {
  const int64_t channels = args.y_TD.cols();
  for_row_blocks(stream, args.y_TD.rows(), 2 * channels * 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* from = args.table_VD.row(token_of(args.token_BS, t, args.sequence_length, args.shift));
      float* y = args.y_TD.row(t);
      along(channels, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { store(y + j, load(from + j, part), part); });
    }
  });
}

void embedding_grad(const Stream& stream, const EmbeddingGrad<float>& args) {
  const int64_t channels = args.dy_TD.cols();
  stream.pool().parallel_for((channels + kStrip - 1) / kStrip, [&](int64_t task, int) {
    const int64_t column = task * kStrip, width = channels - column < kStrip ? channels - column : kStrip;
    for (int64_t t = 0; t < args.dy_TD.rows(); ++t) {
      const float* dy = args.dy_TD.row(t) + column;
      float* to = args.dtable_VD.row(token_of(args.token_BS, t, args.sequence_length, args.shift)) + column;
      along(width, [&](int64_t j, auto part)
                       TAEL_INLINE_LAMBDA { store(to + j, add(load(to + j, part), load(dy + j, part)), part); });
    }
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(embedding_forward, EmbeddingForward<float>)
TAEL_KERNEL(embedding_grad, EmbeddingGrad<float>)
