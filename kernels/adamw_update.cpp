#include "kernels/adamw_update.hpp"

#include "kernels/rows.hpp"

namespace tael::TAEL_ISA {

void adamw_update(const Stream& stream, const AdamwUpdate<float>& args) {
  const double step = static_cast<double>(args.step);
  const double correction1 = 1.0 - __builtin_pow(args.beta1, step), correction2 = 1.0 - __builtin_pow(args.beta2, step);
  const F16 clip = set1(static_cast<float>(args.clip));
  const F16 decay = set1(static_cast<float>(args.lr * args.weight_decay));
  const F16 beta1 = set1(static_cast<float>(args.beta1)), rest1 = set1(static_cast<float>(1.0 - args.beta1));
  const F16 beta2 = set1(static_cast<float>(args.beta2)), rest2 = set1(static_cast<float>(1.0 - args.beta2));
  const F16 rate = set1(static_cast<float>(args.lr / correction1));
  const F16 unbias2 = set1(static_cast<float>(1.0 / __builtin_sqrt(correction2)));
  const F16 eps = set1(static_cast<float>(args.eps));
  // A "row" is one vector: any cut gives the same bits, since every element is on its own.
  const int64_t n = args.weight.size();
  for_row_blocks(stream, (n + kLanes - 1) / kLanes, 28 * kLanes, [&](int64_t begin, int64_t end, int) {
    const int64_t first = begin * kLanes, count = (end * kLanes < n ? end * kLanes : n) - first;
    float *weight = args.weight.data + first, *moment1 = args.moment1.data + first,
          *moment2 = args.moment2.data + first;
    const float* grad = args.grad.data + first;
    along(count, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
      const F16 g = mul(clip, load(grad + j, part));
      const F16 w = load(weight + j, part);
      const F16 m = add(mul(beta1, load(moment1 + j, part)), mul(rest1, g));
      const F16 v = add(mul(beta2, load(moment2 + j, part)), mul(rest2, mul(g, g)));
      store(moment1 + j, m, part);
      store(moment2 + j, v, part);
      const F16 update = div(mul(rate, m), add(mul(sqrt(v), unbias2), eps));
      store(weight + j, sub(sub(w, mul(decay, w)), update), part);
    });
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(adamw_update, AdamwUpdate<float>)
