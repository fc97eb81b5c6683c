#include "kernels/pieces.hpp"

#include <cstring>

#include "kernels/gemm.hpp"
#include "kernels/vector.hpp"

namespace tael::TAEL_ISA {
namespace {

constexpr int64_t kRowsPerTask = 16;

// The tree over pieces [begin, end) of sixteen columns; p is the first of them in piece 0. The depth is that of the
// tree.
template <bool kPartial>
F16 tree_sum(const float* p, int64_t piece_stride, int64_t begin, int64_t end, int64_t n) {
  if (end - begin == 1) return kPartial ? load(p + begin * piece_stride, n) : load(p + begin * piece_stride);
  const int64_t middle = begin + piece_begin(end - begin, 2, 1);
  return add(tree_sum<kPartial>(p, piece_stride, begin, middle, n),
             tree_sum<kPartial>(p, piece_stride, middle, end, n));
}

// body(row) for every row, shared out in blocks.
template <class Body>
TAEL_INLINE void for_rows(const Stream& stream, int64_t rows, const Body& body) {
  stream.pool().parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t end = rows < (task + 1) * kRowsPerTask ? rows : (task + 1) * kRowsPerTask;
    for (int64_t m = task * kRowsPerTask; m < end; ++m) body(m);
  });
}

}  // namespace

void join_pieces(const Stream& stream, const JoinPieces<float>& args) {
  const int64_t pieces = args.x_PMN.dim[0], cols = args.y_MN.dim[1];
  const int64_t stride = args.x_PMN.dim[1] * args.x_PMN.pitch;
  for_rows(stream, args.y_MN.dim[0], [&](int64_t m) {
    float* y = args.y_MN.row(m);
    const float* base = args.base_MN ? args.base_MN.row(m) : nullptr;
    const float* x = args.x_PMN.data + m * args.x_PMN.pitch;
    int64_t j = 0;
    for (; j + kLanes <= cols; j += kLanes) {
      const F16 sum = tree_sum<false>(x + j, stride, 0, pieces, kLanes);
      store(y + j, base != nullptr ? add(load(base + j), sum) : sum);
    }
    if (j == cols) return;
    const F16 sum = tree_sum<true>(x + j, stride, 0, pieces, cols - j);
    store(y + j, base != nullptr ? add(load(base + j, cols - j), sum) : sum, cols - j);
  });
}

void add_to(const Stream& stream, const AddTo<float>& args) {
  const int64_t cols = args.y_MN.dim[1];
  for_rows(stream, args.y_MN.dim[0], [&](int64_t m) {
    float* y = args.y_MN.row(m);
    const float* x = args.x_MN.row(m);
    int64_t j = 0;
    for (; j + kLanes <= cols; j += kLanes) store(y + j, add(load(y + j), load(x + j)));
    if (j < cols) store(y + j, add(load(y + j, cols - j), load(x + j, cols - j)), cols - j);
  });
}

void copy_rows(const Stream& stream, const CopyRows<float>& args) {
  const size_t bytes = static_cast<size_t>(args.y_MN.dim[1]) * sizeof(float);
  for_rows(stream, args.y_MN.dim[0], [&](int64_t m) { std::memcpy(args.y_MN.row(m), args.x_MN.row(m), bytes); });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(join_pieces, JoinPieces<float>)
TAEL_KERNEL(add_to, AddTo<float>)
TAEL_KERNEL(copy_rows, CopyRows<float>)
