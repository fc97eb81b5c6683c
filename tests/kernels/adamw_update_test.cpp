#include "kernels/adamw_update.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/adamw_update_reference.hpp"
#include "tests/kernels/row_cases.hpp"

namespace tael {
namespace {

using namespace testing;

struct State {
  std::vector<float> weight, moment1, moment2, grad;
  double lr = 3e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 0.7;
  int64_t step = 5;

  explicit State(int64_t n, uint64_t seed = 1) {
    Random random(seed);
    weight = random.normals(n, 0.02);
    moment1 = random.normals(n, 1e-3);
    grad = random.normals(n, 1e-2);
    for (float m : random.normals(n, 1e-3)) moment2.push_back(m * m);
  }
  int64_t size() const { return static_cast<int64_t>(weight.size()); }
  void run(const Stream& stream, int64_t begin, int64_t end) {
    adamw_update(stream, {vec(weight.data() + begin, end - begin), vec(moment1.data() + begin, end - begin),
                          vec(moment2.data() + begin, end - begin), vec<const float>(grad.data() + begin, end - begin),
                          lr, beta1, beta2, eps, weight_decay, clip, step});
  }
  std::vector<float> all() const {
    std::vector<float> out = weight;
    append(out, moment1);
    append(out, moment2);
    return out;
  }
};

struct Exact {  // the reference in double, from the same numbers
  std::vector<double> weight, moment1, moment2, grad;
  explicit Exact(const State& s)
      : weight(to_double(s.weight)),
        moment1(to_double(s.moment1)),
        moment2(to_double(s.moment2)),
        grad(to_double(s.grad)) {
    const int64_t n = s.size();
    reference::adamw_update<double>({vec(weight.data(), n), vec(moment1.data(), n), vec(moment2.data(), n),
                                     vec<const double>(grad.data(), n), s.lr, s.beta1, s.beta2, s.eps, s.weight_decay,
                                     s.clip, s.step});
  }
};

void expect_exact(const State& before, const State& after) {
  const Exact exact(before);
  std::vector<double> moment1_size, weight_size;
  const double unbias1 = 1 - std::pow(before.beta1, static_cast<double>(before.step));
  const double unbias2 = 1 - std::pow(before.beta2, static_cast<double>(before.step));
  for (size_t i = 0; i < before.weight.size(); ++i) {
    const double m =
        before.beta1 * std::abs(before.moment1[i]) + (1 - before.beta1) * before.clip * std::abs(before.grad[i]);
    moment1_size.push_back(m);
    const double update = before.lr / unbias1 * m / (std::sqrt(exact.moment2[i] / unbias2) + before.eps);
    // The moments' roundings (6 and 8, halved by the root but counted whole) and six of the quotient's make 20; the
    // weight itself is rounded in the decay's product, and twice as a sum.
    weight_size.push_back(update + std::abs(before.weight[i]) * 4 / 20);
  }
  EXPECT_TRUE(close(after.moment1, exact.moment1, moment1_size, 6));
  EXPECT_TRUE(close(after.moment2, exact.moment2, 8));
  EXPECT_TRUE(close(after.weight, exact.weight, weight_size, 20));
}

class AdamwUpdateTest : public IsaTest {};
INSTANTIATE_FOR_EVERY_ISA(AdamwUpdateTest);

TEST_P(AdamwUpdateTest, AgreesWithTheFormulaInDouble) {
  for (int64_t n : {1, 15, 16, 17, 100, 1000}) {
    for (int64_t step : {1, 2, 100, 100000}) {
      State s(n, static_cast<uint64_t>(step));
      s.step = step;
      const State before = s;
      s.run(stream(), 0, n);
      expect_exact(before, s);
    }
  }
}

TEST_P(AdamwUpdateTest, TheFirstStepMovesByTheLearningRateAgainstTheGradientsSign) {
  State s(3);
  s.moment1 = s.moment2 = {0, 0, 0};
  s.weight = {1, 1, 1};
  s.grad = {2.0f, -1e-3f, 0.0f};
  s.step = 1;
  s.weight_decay = 0;
  s.clip = 1;
  s.run(stream(), 0, 3);
  EXPECT_NEAR(s.weight[0], 1 - s.lr, 1e-7);
  EXPECT_NEAR(s.weight[1], 1 + s.lr * (1e-3 / (1e-3 + 1e-8)), 1e-7);
  EXPECT_EQ(s.weight[2], 1.0f);  // no gradient and no moments: 0 / (0 + eps)
}

TEST_P(AdamwUpdateTest, DecayIsOnTheWeightAndNotOnTheGradient) {
  State s(1);
  s.moment1 = s.moment2 = s.grad = {0};
  s.weight = {2};
  s.run(stream(), 0, 1);
  EXPECT_NEAR(s.weight[0], 2 * (1 - s.lr * s.weight_decay), 4 * kRoundF32);
  EXPECT_EQ(s.moment1[0], 0.0f);
}

TEST_P(AdamwUpdateTest, TwentyStepsFollowTheFormula) {
  // From equal moments each step is within its bound; over n steps the bounds add up, as the map of a step is not
  // expanding in the weights and shrinks the moments.
  State s(64);
  Exact exact(s);  // only for its type; it starts again from s below
  exact.weight = to_double(s.weight), exact.moment1 = to_double(s.moment1), exact.moment2 = to_double(s.moment2);
  Random random(77);
  double bound = 0;
  for (int64_t step = 1; step <= 20; ++step) {
    s.step = step;
    s.grad = random.normals(64, 1e-2);
    exact.grad = to_double(s.grad);
    s.run(stream(), 0, 64);
    reference::adamw_update<double>({vec(exact.weight.data(), 64), vec(exact.moment1.data(), 64),
                                     vec(exact.moment2.data(), 64), vec<const double>(exact.grad.data(), 64), s.lr,
                                     s.beta1, s.beta2, s.eps, s.weight_decay, s.clip, step});
    // An update is at most lr * sum of |g| weights / root of v: with these betas below 5 lr once gradients flow; the
    // first steps carry the given moments, which are smaller still.
    bound += rounding_bound(20 * static_cast<double>(step)) * 5 * s.lr + rounding_bound(4) * 0.1;
    for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(s.weight[i], exact.weight[i], bound) << step;
  }
}

TEST_P(AdamwUpdateTest, NoTraceOfThreadsOrCuts) {
  const int64_t n = 30011;
  expect_no_trace_of_threads(isa(), [&](const Stream& stream) {
    State s(n);
    s.run(stream, 0, n);
    return s.all();
  });
  const State original(53);
  State s = original;
  expect_no_trace_of_cuts(
      stream(), 53,
      [&](const Stream& where, int64_t begin, int64_t end) {
        if (begin == 0) s = original;
        s.run(where, begin, end);
      },
      [&] { return s.all(); });
}

TEST(AdamwUpdate, NoTraceOfTheInstructionSet) {
  expect_no_trace_of_isa([](const Stream& stream) {
    State s(1234);
    s.run(stream, 0, 1234);
    return s.all();
  });
}

TEST_P(AdamwUpdateTest, WhatIsNotANumberStaysAlone) {
  State clean(40), s = clean;
  s.grad[33] = std::numeric_limits<float>::quiet_NaN();
  clean.run(stream(), 0, 40);
  s.run(stream(), 0, 40);
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(std::isnan(s.weight[i]), i == 33);
    if (i == 33) continue;
    EXPECT_EQ(s.weight[i], clean.weight[i]);
  }
  s.run(stream(), 7, 7);  // nothing at all
}

}  // namespace
}  // namespace tael
