#include "tests/kernels/vector_probe.hpp"

#include "kernels/vector.hpp"

namespace tael::TAEL_ISA {
namespace {

F16 apply(testing::VectorOp op, F16 a, F16 b, F16 c, const float* p) {
  using testing::VectorOp;
  float lane[16] = {};
  switch (op) {
    case VectorOp::add: return add(a, b);
    case VectorOp::sub: return sub(a, b);
    case VectorOp::mul: return mul(a, b);
    case VectorOp::div: return div(a, b);
    case VectorOp::fma: return fma(a, b, c);
    case VectorOp::max: return max(a, b);
    case VectorOp::min: return min(a, b);
    case VectorOp::sqrt: return sqrt(a);
    case VectorOp::negate: return negate(a);
    case VectorOp::absolute: return absolute(a);
    case VectorOp::exp: return exp(a);
    case VectorOp::select_less: return select(less(a, b), a, c);
    case VectorOp::select_less_equal: return select(less_equal(a, b), a, c);
    case VectorOp::select_equal: return select(equal(a, b), a, c);
    case VectorOp::select_first: return select(first_lanes(5), a, b);
    case VectorOp::swap_pairs: return swap_pairs(a);
    case VectorOp::load_twice: return load_twice(p);
    case VectorOp::reduce_add: lane[0] = reduce_add(a); return load(lane);
    case VectorOp::reduce_max: lane[0] = reduce_max(a); return load(lane);
    case VectorOp::reduce_double:
      lane[0] = static_cast<float>(reduce_add(add(add(zero_double(), to_double(a)), mul(to_double(a), to_double(b)))));
      return load(lane);
    case VectorOp::any_less: lane[0] = any(less(a, b)) ? 1.0f : 0.0f; return load(lane);
  }
  return zero();
}

}  // namespace

void vector_probe(const Stream& stream, const VectorProbe& args) {
  stream.pool().parallel_for(1, [&](int64_t, int) {
    const int64_t size = args.y.dim[0];
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      store(args.y.data + i,
            apply(args.op, load(args.a.data + i), load(args.b.data + i), load(args.c.data + i), args.a.data + i / 2));
    const int64_t n = size - i;
    if (n == 0) return;
    float half[8] = {};
    for (int64_t j = 0; j < n / 2 + n % 2; ++j) half[j] = args.a(i / 2 + j);
    store(args.y.data + i,
          apply(args.op, load(args.a.data + i, n), load(args.b.data + i, n), load(args.c.data + i, n), half), n);
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(vector_probe, VectorProbe)
