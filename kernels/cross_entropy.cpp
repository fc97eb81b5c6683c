#include "kernels/cross_entropy.hpp"

#include "kernels/gemm.hpp"
#include "kernels/rows.hpp"
#include "kernels/tree_sum.hpp"

namespace tael::TAEL_ISA {
namespace {

TAEL_INLINE float row_maximum(const float* logit, int64_t vocab) {
  const F16 lowest = set1(-__builtin_inff());
  F16 m0 = lowest, m1 = lowest;
  int64_t v = 0;
  for (; v + 2 * kLanes <= vocab; v += 2 * kLanes) {
    m0 = max(load(logit + v), m0);
    m1 = max(load(logit + v + kLanes), m1);
  }
  along(vocab - v,
        [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { m0 = max(keep(load(logit + v + j, part), lowest, part), m0); });
  return reduce_max(max(m0, m1));
}

// Numbers between taking exponentials and adding them up. Two short loops, the second over the first-level cache, are
// quicker than one that needs more registers than there are.
constexpr int64_t kBlock = 1024;

// The sum of exp(logit - maximum) over n numbers, in double; leaves the terms in their place if `keep_terms`.
TAEL_INLINE double sum_of_exponentials(float* logit, int64_t n, float maximum, bool keep_terms) {
  const F16 shift = set1(maximum);
  alignas(64) float scratch[kBlock];
  D16 sum = zero_double();
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    float* x = logit + begin;
    float* term = keep_terms ? x : scratch;
    const int64_t width = n - begin < kBlock ? n - begin : kBlock;
    along(width,
          [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { store(term + j, exp(sub(load(x + j, part), shift)), part); });
    along(width, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { sum = add(sum, to_double(load(term + j, part))); });
  }
  return reduce_add(sum);
}

// One row that has a target. The terms of the sum are kept in place, so that the exponential is taken once and the
// second and third walk along the row find it in a cache.
TAEL_INLINE double row_loss(float* logit, int64_t vocab, int32_t target, const CrossEntropy<float>& args) {
  const float maximum = row_maximum(logit, vocab);
  const double below_maximum = static_cast<double>(maximum) - static_cast<double>(logit[target]);
  double piece[kMaxPieces];
  for (int64_t p = 0; p < args.pieces; ++p) {
    const int64_t begin = piece_begin(vocab, args.pieces, p), n = piece_begin(vocab, args.pieces, p + 1) - begin;
    piece[p] = sum_of_exponentials(logit + begin, n, maximum, args.backward);
  }
  const double sum = tree_sum(piece, args.pieces, [](double a, double b) TAEL_INLINE_LAMBDA { return a + b; });
  if (args.backward) {
    const F16 scale = set1(static_cast<float>(args.coefficient / sum));
    along(vocab,
          [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { store(logit + j, mul(load(logit + j, part), scale), part); });
    logit[target] -= static_cast<float>(args.coefficient);
  }
  return __builtin_log(sum) + below_maximum;
}

}  // namespace

void cross_entropy(const Stream& stream, const CrossEntropy<float>& args) {
  const int64_t vocab = args.logit_TV.cols(), length = args.sequence_length;
  for_row_blocks(stream, args.logit_TV.rows(), 2 * vocab * 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t sequence = (args.first_row + t) / length, position = (args.first_row + t) % length;
      float* logit = args.logit_TV.row(t);
      if (position < length - args.unscored) {
        args.loss_T(t) = row_loss(logit, vocab, args.token_BS(sequence, position + args.shift), args);
        continue;
      }
      args.loss_T(t) = 0;
      if (args.backward) along(vocab, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { store(logit + j, zero(), part); });
    }
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(cross_entropy, CrossEntropy<float>)
