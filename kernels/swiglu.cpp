#include "kernels/swiglu.hpp"

#include "kernels/rows.hpp"

namespace tael::TAEL_ISA {

void swiglu_forward(const Stream& stream, const SwigluForward<float>& args) {
  const int64_t width = args.a_TF.cols();
  for_row_blocks(stream, args.a_TF.rows(), 3 * width * 4, [&](int64_t begin, int64_t end, int) {
    const F16 one = set1(1.0f);
    for (int64_t t = begin; t < end; ++t) {
      const float *gate = args.gu_T2F.row(t), *up = gate + width;
      float* a = args.a_TF.row(t);
      const F16 weight = args.weight_T ? set1(args.weight_T(t)) : one;
      along(width, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        const F16 g = load(gate + j, part);
        const F16 silu = div(g, add(one, exp(negate(g))));
        store(a + j, mul(mul(silu, load(up + j, part)), weight), part);
      });
    }
  });
}

void swiglu_backward(const Stream& stream, const SwigluBackward<float>& args) {
  const int64_t width = args.da_TF.cols();
  for_row_blocks(stream, args.da_TF.rows(), 5 * width * 4, [&](int64_t begin, int64_t end, int) {
    const F16 one = set1(1.0f);
    for (int64_t t = begin; t < end; ++t) {
      const float *gate = args.gu_T2F.row(t), *up = gate + width, *da = args.da_TF.row(t);
      float *dgate = args.dgu_T2F.row(t), *dup = dgate + width;
      const F16 weight = args.weight_T ? set1(args.weight_T(t)) : one;
      F16 dot = zero();
      along(width, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        const F16 g = load(gate + j, part), u = load(up + j, part), d = load(da + j, part);
        const F16 s = div(one, add(one, exp(negate(g))));
        const F16 silu = mul(g, s);
        dot = add(dot, mul(d, mul(silu, u)));
        const F16 weighted = mul(d, weight);
        const F16 slope = mul(s, add(one, mul(g, sub(one, s))));
        store(dgate + j, mul(mul(weighted, u), slope), part);
        store(dup + j, mul(weighted, silu), part);
      });
      if (args.dweight_T) args.dweight_T(t) = reduce_add(dot);
    }
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(swiglu_forward, SwigluForward<float>)
TAEL_KERNEL(swiglu_backward, SwigluBackward<float>)
