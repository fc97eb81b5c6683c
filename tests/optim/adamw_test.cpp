#include "optim/adamw.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/harness/random.hpp"

namespace tael {
namespace {

// Matrices decay, vectors do not; a gap between the spans belongs to nobody.
const std::vector<ParamSpan> kSpans = {
    {.offset = 0, .rows = 7, .cols = 13, .decay = true},   {.offset = 91, .rows = 1, .cols = 13, .decay = false},
    {.offset = 104, .rows = 1, .cols = 1, .decay = false}, {.offset = 110, .rows = 3, .cols = 5, .decay = true},
    {.offset = 125, .rows = 4, .cols = 5, .decay = true},
};
constexpr int64_t kElements = 150;  // five more than the spans reach

struct Trained {
  std::vector<float> weights, moment1, moment2;
};

Trained train(const std::vector<ParamSpan>& spans, int steps, int threads) {
  ThreadPool pool(threads);
  const Stream stream(pool, best_isa());
  testing::Random random(5);
  Arena arena("optimizer", 4096);
  const AdamwState state = plan_adamw(arena, kElements);
  std::vector<float> weights = random.normals(kElements);
  for (int step = 1; step <= steps; ++step) {
    const std::vector<float> grads = random.normals(kElements, 0.1);
    adamw_step(stream, {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1}, spans,
               {.weights = vec(weights.data(), kElements),
                .state = state,
                .grads = vec<const float>(grads.data(), kElements),
                .lr = 1e-2,
                .clip = 0.5,
                .step = step});
  }
  return {weights,
          {state.moment1.data, state.moment1.data + kElements},
          {state.moment2.data, state.moment2.data + kElements}};
}

TEST(Adamw, IsPyTorchsFormulaTensorByTensor) {
  constexpr int kSteps = 5;
  const Trained got = train(kSpans, kSteps, 1);
  testing::Random random(5);
  const std::vector<float> start = random.normals(kElements);
  std::vector<double> w(start.begin(), start.end()), m(kElements), v(kElements);
  for (int step = 1; step <= kSteps; ++step) {
    const std::vector<float> grads = random.normals(kElements, 0.1);
    for (const ParamSpan& span : kSpans)
      for (auto i = static_cast<size_t>(span.offset); i < static_cast<size_t>(span.end()); ++i) {
        const double g = 0.5 * grads[i];
        if (span.decay) w[i] *= 1.0 - 1e-2 * 0.1;
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.95 * v[i] + 0.05 * g * g;
        const double m_hat = m[i] / (1.0 - std::pow(0.9, step)), v_hat = v[i] / (1.0 - std::pow(0.95, step));
        w[i] -= 1e-2 * m_hat / (std::sqrt(v_hat) + 1e-8);
      }
  }
  std::vector<bool> owned(kElements);
  for (const ParamSpan& span : kSpans)
    for (int64_t i = span.offset; i < span.end(); ++i) owned[static_cast<size_t>(i)] = true;
  for (size_t i = 0; i < w.size(); ++i) {
    if (!owned[i]) {
      EXPECT_EQ(got.weights[i], start[i]);
      EXPECT_EQ(got.moment1[i], 0.0f);
      continue;
    }
    // Per step about four roundings of the weight and a dozen of an update of at most 0.01 x 3.
    EXPECT_NEAR(got.weights[i], w[i], kSteps * 0x1p-24 * (4 * std::abs(w[i]) + 12 * 0.03)) << i;
    EXPECT_NEAR(got.moment1[i], m[i], kSteps * 0x1p-22 * 0.25) << i;
    EXPECT_NEAR(got.moment2[i], v[i], kSteps * 0x1p-22 * 0.05) << i;
  }
}

TEST(Adamw, TheCutOfSpansAndThreadsChangeNoBit) {
  const Trained whole = train(kSpans, 3, 1);
  std::vector<ParamSpan> cut;  // every row a span of its own
  for (const ParamSpan& span : kSpans)
    for (int64_t r = 0; r < span.rows; ++r)
      cut.push_back({.offset = span.offset + r * span.cols, .rows = 1, .cols = span.cols, .decay = span.decay});
  for (const int threads : {1, 3}) {
    const Trained pieces = train(cut, 3, threads);
    EXPECT_EQ(pieces.weights, whole.weights);
    EXPECT_EQ(pieces.moment1, whole.moment1);
    EXPECT_EQ(pieces.moment2, whole.moment2);
  }
}

TEST(Adamw, RefusesSpansThatOverlapOrReachTooFar) {
  EXPECT_THROW(train({{.offset = 0, .rows = 1, .cols = 10}, {.offset = 9, .rows = 1, .cols = 10}}, 1, 1), Error);
  EXPECT_THROW(train({{.offset = 145, .rows = 1, .cols = 6}}, 1, 1), Error);
}

TEST(Adamw, NothingIsDoneForNothing) { EXPECT_EQ(train({}, 1, 1).weights, train({}, 0, 1).weights); }

}  // namespace
}  // namespace tael
