#include "kernels/rope.hpp"

#include "kernels/rows.hpp"

namespace tael::TAEL_ISA {

void rope(const Stream& stream, const Rope<float>& args) {
  const int64_t pairs = args.cos_SJ.cols(), positions = args.cos_SJ.rows();
  // (a, b) -> (a c - b s, b c + a s): the pair times c, plus the swapped pair times (-s, s).
  alignas(64) float sign[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) sign[i] = (i % 2 == 0) != args.inverse ? -1.0f : 1.0f;
  const F16 sign16 = load(sign);
  for_row_blocks(stream, args.x_TD.rows(), 2 * 4 * args.heads * 2 * pairs, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* cosine = args.cos_SJ.row(t % positions);
      const float* sine = args.sin_SJ.row(t % positions);
      float* x = args.x_TD.row(t) + args.offset;
      along(2 * pairs, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        F16 c, s;
        if constexpr (requires { part.n; }) {
          float few[2][kLanes / 2] = {};
          for (int64_t i = 0; i < part.n / 2; ++i) few[0][i] = cosine[j / 2 + i], few[1][i] = sine[j / 2 + i];
          c = load_twice(few[0]);
          s = load_twice(few[1]);
        } else {
          c = load_twice(cosine + j / 2);
          s = load_twice(sine + j / 2);
        }
        s = mul(s, sign16);
        for (int64_t h = 0; h < args.heads; ++h) {
          float* pair = x + h * args.head_dim + j;
          const F16 v = load(pair, part);
          store(pair, add(mul(v, c), mul(swap_pairs(v), s)), part);
        }
      });
    }
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(rope, Rope<float>)
