#include "kernels/squared_norm.hpp"

#include "kernels/rows.hpp"

namespace tael::TAEL_ISA {

void squared_norm(const Stream& stream, const SquaredNorm<float>& args) {
  const int64_t cols = args.x_MN.cols();
  for_row_blocks(stream, args.x_MN.rows(), cols * 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t m = begin; m < end; ++m) {
      const float* x = args.x_MN.row(m);
      D16 sum = zero_double();
      along(cols, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        const D16 v = to_double(load(x + j, part));
        sum = add(sum, mul(v, v));
      });
      args.sum_M(m) = reduce_add(sum);
    }
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(squared_norm, SquaredNorm<float>)
