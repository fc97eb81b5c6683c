#include "kernels/fma_peak.hpp"

#include <time.h>

#include "kernels/vector.hpp"

namespace tael::TAEL_ISA {
namespace {

// Chains enough to cover the latency of two multiply-adds a cycle, few enough to stay in the registers.
#if defined(TAEL_ISA_AVX512)
constexpr int kChains = 12;
#elif defined(TAEL_ISA_AVX2)
constexpr int kChains = 6;
#else
constexpr int kChains = 3;
#endif
constexpr int64_t kSteps = 4096;
constexpr double kFlopsPerCall = 2.0 * kLanes * kChains * kSteps;

double now() {  // std::chrono would leave inline functions of its own in this instruction set's object
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

[[gnu::noinline]] float multiply_add(float start) {
  const F16 factor = set1(0.999f), term = set1(0.001f);
  F16 chain[kChains];
  // Every lane starts elsewhere: of two equal registers the compiler would keep one.
  float first[kLanes * kChains];
  for (int i = 0; i < kLanes * kChains; ++i) first[i] = start + static_cast<float>(i);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) chain[i] = load(first + i * kLanes);
  for (int64_t step = 0; step < kSteps; ++step)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chain[i] = fma(chain[i], factor, term);
  F16 sum = zero();
  for (int i = 0; i < kChains; ++i) sum = add(sum, chain[i]);
  return reduce_add(sum);
}

}  // namespace

void fma_peak(const Stream& stream, const FmaPeak& args) {
  const int threads = stream.pool().threads();
  *args.flops_per_second = 0.0;
  for (int repeat = 0; repeat < args.repeats; ++repeat) {
    stream.pool().parallel_for(threads, [&](int64_t task, int) {
      float kept = 0.0f;
      double calls = 0.0, elapsed = 0.0;
      const double start = now();
      do {
        for (int i = 0; i < 16; ++i) kept += multiply_add(kept);
        calls += 16.0;
        elapsed = now() - start;
      } while (elapsed < args.seconds);
      // Every task owns the first two numbers of workspace `task`: its rate, and its result so that the work is not
      // idle.
      double* out = reinterpret_cast<double*>(stream.pool().workspace(static_cast<int>(task)));
      out[0] = calls * kFlopsPerCall / elapsed;
      out[1] = static_cast<double>(kept);
    });
    double rate = 0.0;
    for (int t = 0; t < threads; ++t) rate += *reinterpret_cast<const double*>(stream.pool().workspace(t));
    if (rate > *args.flops_per_second) *args.flops_per_second = rate;
  }
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(fma_peak, FmaPeak)
