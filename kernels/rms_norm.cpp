#include "kernels/rms_norm.hpp"

#include "kernels/gemm.hpp"
#include "kernels/rows.hpp"
#include "kernels/tree_sum.hpp"

namespace tael::TAEL_ISA {

void rms_norm_forward(const Stream& stream, const RmsNormForward<float>& args) {
  const int64_t channels = args.x_TD.cols();
  const float eps = static_cast<float>(args.eps);
  for_row_blocks(stream, args.x_TD.rows(), 2 * channels * 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* x = args.x_TD.row(t);
      float* y = args.y_TD.row(t);
      F16 sum = zero();
      along(channels, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        const F16 v = load(x + j, part);
        sum = add(sum, mul(v, v));
      });
      const float r = 1.0f / __builtin_sqrtf(reduce_add(sum) / static_cast<float>(channels) + eps);
      if (args.r_T) args.r_T(t) = r;
      const F16 r16 = set1(r);
      along(channels, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        store(y + j, mul(mul(load(x + j, part), r16), load(args.gain_D.data + j, part)), part);
      });
    }
  });
}

void rms_norm_input_grad(const Stream& stream, const RmsNormInputGrad<float>& args) {
  const int64_t channels = args.x_TD.cols();
  const float* gain = args.gain_D.data;
  for_row_blocks(stream, args.x_TD.rows(), 3 * channels * 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* x = args.x_TD.row(t);
      const float* dy = args.dy_TD.row(t);
      float* dx = args.dx_TD.row(t);
      F16 sum = zero();
      along(channels, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        sum = add(sum, mul(mul(load(gain + j, part), load(dy + j, part)), load(x + j, part)));
      });
      const float r = args.r_T(t);
      const F16 r16 = set1(r), c = set1(r * r * (reduce_add(sum) / static_cast<float>(channels)));
      const bool accumulate = args.accumulate;
      along(channels, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        const F16 scaled = mul(load(gain + j, part), load(dy + j, part));
        const F16 d = mul(r16, sub(scaled, mul(load(x + j, part), c)));
        store(dx + j, accumulate ? add(load(dx + j, part), d) : d, part);
      });
    }
  });
}

namespace {

// Columns of one task: the chains of all pieces fit the second-level cache.
constexpr int64_t kStrip = 128;

// chain[j] += dy[t, j] * (x[t, j] * r[t]) for rows [begin, end) in order; four rows between loading and storing a
// chain.
TAEL_INLINE void add_rows(float* chain, const RmsNormWeightGrad<float>& args, int64_t begin, int64_t end,
                          int64_t column, int64_t width) {
  int64_t t = begin;
  for (; t + 4 <= end; t += 4) {
    const float *x = args.x_TD.row(t) + column, *dy = args.dy_TD.row(t) + column;
    const int64_t px = args.x_TD.pitch, py = args.dy_TD.pitch;
    const F16 r0 = set1(args.r_T(t)), r1 = set1(args.r_T(t + 1)), r2 = set1(args.r_T(t + 2)),
              r3 = set1(args.r_T(t + 3));
    along(width, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
      F16 sum = load(chain + j, part);
      sum = add(sum, mul(load(dy + j, part), mul(load(x + j, part), r0)));
      sum = add(sum, mul(load(dy + py + j, part), mul(load(x + px + j, part), r1)));
      sum = add(sum, mul(load(dy + 2 * py + j, part), mul(load(x + 2 * px + j, part), r2)));
      sum = add(sum, mul(load(dy + 3 * py + j, part), mul(load(x + 3 * px + j, part), r3)));
      store(chain + j, sum, part);
    });
  }
  for (; t < end; ++t) {
    const float *x = args.x_TD.row(t) + column, *dy = args.dy_TD.row(t) + column;
    const F16 r = set1(args.r_T(t));
    along(width, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
      store(chain + j, add(load(chain + j, part), mul(load(dy + j, part), mul(load(x + j, part), r))), part);
    });
  }
}

}  // namespace

void rms_norm_weight_grad(const Stream& stream, const RmsNormWeightGrad<float>& args) {
  const int64_t channels = args.x_TD.cols(), length = args.sequence_length, pieces = args.pieces;
  static_assert(kMaxPieces * kStrip * 4 <= static_cast<int64_t>(ThreadPool::kWorkspaceBytes));
  stream.pool().parallel_for((channels + kStrip - 1) / kStrip, [&](int64_t task, int thread) {
    const int64_t column = task * kStrip, width = channels - column < kStrip ? channels - column : kStrip;
    float* chains = reinterpret_cast<float*>(stream.pool().workspace(thread));  // [pieces, kStrip]
    float* dgain = args.dgain_D.data + column;
    for (int64_t first = 0; first < args.x_TD.rows(); first += length) {
      for (int64_t p = 0; p < pieces; ++p) {
        float* chain = chains + p * kStrip;
        for (int64_t j = 0; j < kStrip; ++j) chain[j] = 0.0f;
        add_rows(chain, args, first + piece_begin(length, pieces, p), first + piece_begin(length, pieces, p + 1),
                 column, width);
      }
      along(width, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        F16 piece[kMaxPieces];
        for (int64_t p = 0; p < pieces; ++p) piece[p] = load(chains + p * kStrip + j);
        const F16 sum = tree_sum(piece, pieces, [](F16 a, F16 b) TAEL_INLINE_LAMBDA { return add(a, b); });
        store(dgain + j, add(load(dgain + j, part), sum), part);
      });
    }
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(rms_norm_forward, RmsNormForward<float>)
TAEL_KERNEL(rms_norm_input_grad, RmsNormInputGrad<float>)
TAEL_KERNEL(rms_norm_weight_grad, RmsNormWeightGrad<float>)
