#include "kernels/cross_entropy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cross_entropy_reference.hpp"
#include "kernels/gemm.hpp"
#include "kernels/tree_sum.hpp"
#include "tests/kernels/row_cases.hpp"

namespace tael {
namespace {

using namespace testing;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Predictions {
  int64_t sequences, length, vocab, shift, unscored;
  Matrix<float> logit;
  std::vector<int32_t> token;
  std::vector<double> loss;
  double coefficient = 0.125;

  Predictions(int64_t b, int64_t s, int64_t v, int64_t ahead = 1, int64_t missing = 0, double deviation = 2.0,
              uint64_t seed = 1)
      : sequences(b),
        length(s),
        vocab(v),
        shift(ahead),
        unscored(missing),
        logit(b * s, v),
        loss(static_cast<size_t>(b * s), -1.0) {
    Random random(seed);
    logit = Matrix<float>(b * s, v, random.normals(b * s * v, deviation));
    token = random.integers(b * (s + 1), v);
  }
  int64_t tokens() const { return sequences * length; }
  Mat<const int32_t> tokens_BS() const { return mat<const int32_t>(token.data(), sequences, length + 1); }
  bool scored(int64_t t) const { return t % length < length - unscored; }
  int32_t target(int64_t t) const { return tokens_BS()(t / length, t % length + shift); }
  void run(const Stream& stream, int64_t begin, int64_t end, bool backward, int64_t pieces = 1) {
    cross_entropy(stream, {vec(loss.data() + begin, end - begin), rows(logit.mat(), begin, end), tokens_BS(), begin,
                           length, shift, unscored, pieces, backward, coefficient});
  }
};

// Relative error of float32 terms exp(x - max), weighted by the terms: rounding of the difference, exp within two
// units.
double error_of_sum(const std::vector<double>& logit) {
  const double maximum = *std::max_element(logit.begin(), logit.end());
  double sum = 0, error = 0;
  for (double x : logit) {
    sum += std::exp(x - maximum);
    error += std::exp(x - maximum) * (maximum - x + 4);
  }
  return kRoundF32 * error / sum + static_cast<double>(logit.size()) * kRoundF64;
}

void expect_exact(const Predictions& before, const Predictions& after) {
  for (int64_t t = 0; t < before.tokens(); ++t) {
    if (!before.scored(t)) {
      EXPECT_EQ(after.loss[static_cast<size_t>(t)], 0.0);
      for (int64_t v = 0; v < before.vocab; ++v) EXPECT_EQ(after.logit.mat()(t, v), 0.0f);
      continue;
    }
    Tape tape;
    const std::vector<float> row(before.logit.mat().row(t), before.logit.mat().row(t) + before.vocab);
    const std::vector<Recorded> x = variables(tape, row);
    const Recorded loss = reference::loss_of_row(vec(x.data(), before.vocab), before.target(t));
    const std::vector<double> exact = gradients(tape.gradient({&loss, 1}), x);
    const double sum_error = error_of_sum(to_double(row));
    EXPECT_NEAR(after.loss[static_cast<size_t>(t)], loss.value, sum_error + 8 * kRoundF64 * std::abs(loss.value)) << t;
    const double maximum = *std::max_element(row.begin(), row.end());
    for (int64_t v = 0; v < before.vocab; ++v) {
      const double hot = v == before.target(t) ? 1.0 : 0.0, p = exact[static_cast<size_t>(v)] + hot;
      // The term's own error, the sum's, the scale's rounding and product; at the target two roundings near
      // coefficient.
      const double bound =
          before.coefficient * (p * (kRoundF32 * (maximum - row[static_cast<size_t>(v)] + 4 + 3) + 2 * sum_error) +
                                hot * 2 * kRoundF32) +
          kTinyF32;
      EXPECT_NEAR(after.logit.mat()(t, v), before.coefficient * exact[static_cast<size_t>(v)], bound) << t << " " << v;
    }
  }
  EXPECT_TRUE(after.logit.intact());
}

class CrossEntropyTest : public IsaTest {};
INSTANTIATE_FOR_EVERY_ISA(CrossEntropyTest);

TEST_P(CrossEntropyTest, LossAndGradientAgreeWithTheExactOnes) {
  for (int64_t vocab : {1, 2, 15, 16, 17, 31, 32, 33, 100, 259}) {
    Predictions p(2, 3, vocab, 1, 0, 2.0, 5), before = p;
    p.run(stream(), 0, 6, true);
    expect_exact(before, p);
  }
}

TEST_P(CrossEntropyTest, ByHand) {
  // Two equal logits: log 2, and the gradient moves half of the coefficient.
  std::vector<float> logit = {3, 3};
  const std::vector<int32_t> token = {0, 1};
  double loss = 0;
  cross_entropy(stream(), {vec(&loss, 1), mat(logit.data(), 1, 2), mat<const int32_t>(token.data(), 1, 2), 0, 1, 1, 0,
                           1, true, 1.0});
  EXPECT_NEAR(loss, std::log(2.0), 1e-15);
  EXPECT_EQ(logit, (std::vector<float>{0.5f, -0.5f}));
}

TEST_P(CrossEntropyTest, TargetsAreShiftedInsideTheirSequenceAndTheLastAreUnscored) {
  for (int64_t shift : {1, 2, 3}) {
    Predictions p(3, 5, 20, 1, shift - 1, 2.0, 9);
    // MTP at depth k reads `shift` ahead; sequences carry length + 1 tokens, so the last shift - 1 have no target.
    p.shift = shift;
    Predictions before = p;
    p.run(stream(), 0, 15, true);
    expect_exact(before, p);
  }
}

TEST_P(CrossEntropyTest, WithoutBackwardTheLogitsStayAndTheLossIsTheSame) {
  Predictions p(2, 4, 77, 1, 1), before = p, backward = p;
  p.run(stream(), 0, 8, false);
  backward.run(stream(), 0, 8, true);
  EXPECT_TRUE(same_bits(p.logit.values(), before.logit.values()));
  EXPECT_TRUE(same_bits(p.loss, backward.loss));
}

// The terms exp(logit - maximum) of a row as the kernel has them: with the sum itself as coefficient, the scale is one.
std::vector<float> terms_of_row(const Stream& stream, const std::vector<float>& row) {
  const int64_t vocab = static_cast<int64_t>(row.size());
  const double maximum = *std::max_element(row.begin(), row.end());
  double sum = 0, loss = 0;
  for (float x : row) sum += std::exp(x - maximum);
  std::vector<float> terms(row.size());
  for (int32_t target : {0, 1}) {  // the target's own entry is taken from the other run
    std::vector<float> logit = row;
    const std::vector<int32_t> token = {0, target};
    cross_entropy(stream,
                  {vec(&loss, 1), mat(logit.data(), 1, vocab), mat(token.data(), 1, 2), 0, 1, 1, 0, 1, true, sum});
    for (size_t v = 0; v < row.size(); ++v)
      if (v != static_cast<size_t>(target)) terms[v] = logit[v];
  }
  return terms;
}

TEST_P(CrossEntropyTest, PiecesAreSummedApartInTheFixedOrderAndJoinedByTheTree) {
  const int64_t vocab = 211;
  for (int64_t pieces : {1, 2, 3, 8, 50, 64}) {
    Predictions p(1, 2, vocab);
    const Predictions before = p;
    p.run(stream(), 0, 2, true, pieces);
    expect_exact(before, p);
    for (int64_t t = 0; t < 2; ++t) {
      const std::vector<float> row(before.logit.mat().row(t), before.logit.mat().row(t) + vocab);
      const std::vector<float> terms = terms_of_row(stream(), row);
      std::vector<double> sums;
      for (int64_t q = 0; q < pieces; ++q)
        sums.push_back(row_sum_in_order(std::vector<double>(terms.begin() + piece_begin(vocab, pieces, q),
                                                            terms.begin() + piece_begin(vocab, pieces, q + 1))));
      const double total = portable::tree_sum(sums.data(), pieces, [](double a, double b) { return a + b; });
      const double maximum = *std::max_element(row.begin(), row.end());
      const double expected =
          std::log(total) + (maximum - static_cast<double>(row[static_cast<size_t>(before.target(t))]));
      EXPECT_EQ(p.loss[static_cast<size_t>(t)], expected) << pieces << " pieces";
    }
  }
}

TEST_P(CrossEntropyTest, NoTraceOfThreadsOrCuts) {
  auto outputs = [](const Predictions& p) {
    std::vector<double> out = p.loss;
    append(out, to_double(p.logit.values()));
    return out;
  };
  expect_no_trace_of_threads(isa(), [&](const Stream& stream) {
    Predictions p(5, 30, 1003, 1, 2);
    p.run(stream, 0, 150, true, 4);
    return outputs(p);
  });
  const Predictions original(3, 7, 61, 1, 1);
  Predictions p = original;
  expect_no_trace_of_cuts(
      stream(), 21,
      [&](const Stream& s, int64_t begin, int64_t end) {
        if (begin == 0) p = original;  // in place: start again
        p.run(s, begin, end, true);
      },
      [&] { return outputs(p); });
}

TEST(CrossEntropy, Avx512LikeAvx2) {
  expect_avx512_like_avx2([](const Stream& stream) {
    Predictions p(2, 5, 515, 1, 0, 30.0);
    p.run(stream, 0, 10, true, 3);
    std::vector<double> out = p.loss;
    append(out, to_double(p.logit.values()));
    return out;
  });
}

TEST_P(CrossEntropyTest, ExtremeLogitsDoNotOverflow) {
  for (int64_t vocab : {16, 21}) {
    Predictions p(1, 4, vocab);
    for (int64_t v = 0; v < vocab; ++v) {
      p.logit.mat()(0, v) = v % 2 == 0 ? 1e4f : -1e4f;  // half of the vocabulary at the top
      p.logit.mat()(1, v) = 1e4f;                       // uniform and large
      p.logit.mat()(2, v) = -1e4f;                      // uniform and all negative
      p.logit.mat()(3, v) = v == vocab - 1 ? 1e4f : -1e4f;
    }
    for (int64_t t = 0; t < 4; ++t)
      p.token[static_cast<size_t>(t + 1)] = static_cast<int32_t>(vocab - 1);  // the last entry
    p.run(stream(), 0, 4, true);
    const double tops = static_cast<double>((vocab + 1) / 2), all = static_cast<double>(vocab);
    EXPECT_NEAR(p.loss[0], std::log(tops) + (vocab % 2 == 0 ? 2e4 : 0.0), 1e-10);
    EXPECT_NEAR(p.loss[1], std::log(all), 1e-14);
    EXPECT_NEAR(p.loss[2], std::log(all), 1e-14);
    EXPECT_NEAR(p.loss[3], 0.0, 1e-14);
    for (float g : p.logit.values()) EXPECT_LE(std::abs(g), p.coefficient);
    EXPECT_EQ(p.logit.mat()(3, vocab - 1), 0.0f);
    EXPECT_NEAR(p.logit.mat()(1, vocab - 1), p.coefficient * (1 / all - 1), 4 * kRoundF32);
  }
}

TEST_P(CrossEntropyTest, ARowThatIsNotANumberStaysAloneAndShows) {
  for (int64_t where : {0, 15, 40}) {
    Predictions clean(1, 3, 41), p = clean;
    p.logit.mat()(1, where) = kNan;
    clean.run(stream(), 0, 3, true);
    p.run(stream(), 0, 3, true);
    EXPECT_TRUE(std::isnan(p.loss[1])) << where;
    for (int64_t t : {0, 2}) {
      EXPECT_EQ(p.loss[static_cast<size_t>(t)], clean.loss[static_cast<size_t>(t)]);
      for (int64_t v = 0; v < 41; ++v) EXPECT_EQ(p.logit.mat()(t, v), clean.logit.mat()(t, v));
    }
  }
  Predictions infinite(1, 1, 20);
  infinite.logit.mat()(0, 3) = std::numeric_limits<float>::infinity();
  infinite.run(stream(), 0, 1, false);
  EXPECT_FALSE(std::isfinite(infinite.loss[0]));
}

TEST(CrossEntropy, TheReferencesFormulaIsItsDerivative) {
  Predictions before(2, 3, 9, 1, 1);
  std::vector<double> logit = to_double(before.logit.values()), loss(6);
  reference::cross_entropy<double>(
      {vec(loss.data(), 6), mat(logit.data(), 6, 9), before.tokens_BS(), 0, 3, 1, 1, 1, true, before.coefficient});
  for (int64_t t = 0; t < 6; ++t) {
    if (!before.scored(t)) continue;
    Tape tape;
    const std::vector<Recorded> x =
        variables(tape, std::vector<float>(before.logit.mat().row(t), before.logit.mat().row(t) + 9));
    const Recorded exact = reference::loss_of_row(vec(x.data(), 9), before.target(t));
    const Gradient gradient = tape.gradient({&exact, 1});
    for (int64_t v = 0; v < 9; ++v)
      EXPECT_NEAR(logit[static_cast<size_t>(t * 9 + v)], before.coefficient * gradient[x[static_cast<size_t>(v)]],
                  1e-14);
  }
}

}  // namespace
}  // namespace tael
