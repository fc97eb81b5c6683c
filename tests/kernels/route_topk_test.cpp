#include "kernels/route_topk.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/route_topk_reference.hpp"
#include "tests/kernels/row_cases.hpp"

namespace tael {
namespace {

using namespace testing;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Gate {
  int64_t tokens, experts;
  RouteOptions options;
  Matrix<float> logit, score, weight, dlogit, dweight;
  Matrix<int32_t> expert;
  std::vector<float> bias;
  std::vector<int64_t> counts;

  Gate(int64_t t, int64_t e, const RouteOptions& o, uint64_t seed = 1, double deviation = 1.0)
      : tokens(t),
        experts(e),
        options(o),
        logit(t, e),
        score(t, e),
        weight(t, o.top_k),
        dlogit(t, e),
        dweight(t, o.top_k),
        expert(t, o.top_k),
        counts(static_cast<size_t>(e), -7) {
    Random random(seed);
    logit = Matrix<float>(t, e, random.normals(t * e, deviation));
    dweight = Matrix<float>(t, o.top_k, random.normals(t * o.top_k));
    bias = random.normals(e, 0.2);
  }
  void forward(const Stream& stream, int64_t begin, int64_t end) {
    route_forward(stream,
                  {rows(expert.mat(), begin, end), rows(weight.mat(), begin, end), rows(score.mat(), begin, end),
                   vec(counts.data(), experts), rows(Mat<const float>(logit.mat()), begin, end), biases(), options});
  }
  void backward(const Stream& stream, int64_t begin, int64_t end) {
    route_backward(stream, {rows(dlogit.mat(), begin, end), rows(Mat<const float>(dweight.mat()), begin, end),
                            rows(Mat<const float>(score.mat()), begin, end),
                            rows(Mat<const int32_t>(expert.mat()), begin, end), options});
  }
  Vec<const float> biases() const { return bias.empty() ? Vec<const float>{} : vec(bias.data(), experts); }
  std::vector<float> all() const {
    std::vector<float> out = weight.values();
    append(out, score.values());
    append(out, dlogit.values());
    for (int32_t e : expert.values()) out.push_back(static_cast<float>(e));
    return out;
  }
};

RouteOptions v3(int64_t top_k, int64_t groups, int64_t topk_group) {
  return {.top_k = top_k, .groups = groups, .topk_group = topk_group, .scale = 2.5};
}
RouteOptions v2(int64_t top_k, int64_t groups, int64_t topk_group) {
  return {.top_k = top_k,
          .groups = groups,
          .topk_group = topk_group,
          .softmax = true,
          .normalize = false,
          .group_score = GroupScore::maximum,
          .scale = 16.0};
}

// The gate with exact arithmetic and its gradient.
struct ExactGate {
  Tape tape;
  std::vector<Recorded> logit, bias, weight, score;
  std::vector<int32_t> expert;
  std::vector<int64_t> counts;
  explicit ExactGate(const Gate& g)
      : logit(variables(tape, g.logit.values())),
        bias(constants(g.bias)),
        weight(static_cast<size_t>(g.tokens * g.options.top_k)),
        score(logit.size()),
        expert(weight.size()),
        counts(static_cast<size_t>(g.experts)) {
    reference::route_forward<Recorded>(
        {mat(expert.data(), g.tokens, g.options.top_k), mat(weight.data(), g.tokens, g.options.top_k),
         mat(score.data(), g.tokens, g.experts), vec(counts.data(), g.experts), mat(logit.data(), g.tokens, g.experts),
         bias.empty() ? Vec<const Recorded>{} : vec(bias.data(), g.experts), g.options});
  }
};
std::vector<double> values_of(const std::vector<Recorded>& x) {
  std::vector<double> out;
  for (const Recorded& v : x) out.push_back(v.value);
  return out;
}

class RouteTopkTest : public IsaTest {};
INSTANTIATE_FOR_EVERY_ISA(RouteTopkTest);

// DeepSeek-V3 by hand: 4 groups of 2, keep 2, top 2. All choice scores are negative, which is what shows a mask of
// zero.
TEST_P(RouteTopkTest, TheCaseByHandAndItsFourWrongAnswers) {
  Gate g(1, 8, v3(2, 4, 2));
  g.logit = Matrix<float>(1, 8, {2, -3, 1, 0.9f, 0.5f, 0.4f, -1, 0});
  g.bias = {-1, -1, -1.2f, -1, -0.9f, -1.3f, -1, -1.4f};
  g.forward(stream(), 0, 1);
  EXPECT_EQ(g.expert.values(), (std::vector<int32_t>{3, 4}));
  EXPECT_NEAR(g.weight.mat()(0, 0), 1.3330, 5e-5);
  EXPECT_NEAR(g.weight.mat()(0, 1), 1.1670, 5e-5);
  EXPECT_EQ(g.counts, (std::vector<int64_t>{0, 0, 0, 1, 1, 0, 0, 0}));

  // Dropped groups at zero instead of minus infinity would choose 0 and 1; weights from biased scores would be 1.2754
  // and 1.2246; both are excluded above. The two that are other options of ours must give their own answers:
  Gate maximum = g;
  maximum.options.group_score = GroupScore::maximum;
  maximum.forward(stream(), 0, 1);
  EXPECT_EQ(maximum.expert.values(), (std::vector<int32_t>{0, 4}));
  EXPECT_NEAR(maximum.weight.mat()(0, 0), 1.4648, 5e-5);
  EXPECT_NEAR(maximum.weight.mat()(0, 1), 1.0352, 5e-5);
  Gate unbiased = g;
  unbiased.bias.clear();
  unbiased.forward(stream(), 0, 1);
  EXPECT_EQ(unbiased.expert.values(), (std::vector<int32_t>{2, 3}));
}

TEST_P(RouteTopkTest, ForwardAndGradientAgreeWithTheExactOnes) {
  struct Case {
    int64_t experts;
    RouteOptions options;
    bool biased;
  };
  RouteOptions greedy = v2(6, 1, 1);
  greedy.scale = 1.0;
  RouteOptions plain = v3(3, 1, 1);
  plain.normalize = false;
  for (const Case& c : {Case{16, v3(4, 4, 2), true},
                        {32, v3(8, 8, 4), true},
                        {24, v3(4, 1, 1), true},
                        {40, v2(6, 8, 3), false},
                        {64, greedy, false},
                        {7, plain, false},
                        {1, v3(1, 1, 1), true},
                        {5, v3(5, 1, 1), true},
                        {6, v3(2, 6, 3), true}}) {
    for (double deviation : {0.5, 3.0}) {
      Gate g(20, c.experts, c.options, 3, deviation);
      if (!c.biased) g.bias.clear();
      g.forward(stream(), 0, 20);
      g.backward(stream(), 0, 20);
      ExactGate exact(g);
      ASSERT_EQ(g.expert.values(), exact.expert) << c.experts;
      EXPECT_EQ(g.counts, exact.counts);
      // Sigmoid: exp within two units, sum, quotient: 6. Softmax: the difference to the maximum adds up to its size, 4
      // and a sum; both sides of the quotient.
      const double spread = c.options.softmax ? 10 * deviation : 0.0;
      const double steps = c.options.softmax ? 2 * (spread + 4) + row_sum_steps(c.experts) + 2 : 6.0;
      EXPECT_TRUE(close(g.score.values(), values_of(exact.score), steps));
      // A score over a sum of scores, scaled.
      const double weight_steps = 2 * steps + static_cast<double>(c.options.top_k) + 4;
      EXPECT_TRUE(close(g.weight.values(), values_of(exact.weight), weight_steps));
      // Gradient: scale * s_i * (|dw_i| + mean |dw|) bounds what cancels, divided by the sum if normalised.
      const std::vector<double> score = values_of(exact.score);
      std::vector<double> size;
      for (int64_t t = 0; t < 20; ++t) {
        double sum = 0, largest = 0;
        for (int64_t k = 0; k < c.options.top_k; ++k) {
          sum += score[static_cast<size_t>(t * c.experts + g.expert.mat()(t, k))];
          largest = std::max(largest, static_cast<double>(std::abs(g.dweight.mat()(t, k))));
        }
        for (int64_t e = 0; e < c.experts; ++e)
          size.push_back(c.options.scale * score[static_cast<size_t>(t * c.experts + e)] * 4 * largest /
                         (c.options.normalize ? sum : 1.0));
      }
      EXPECT_TRUE(close(g.dlogit.values(),
                        gradients(exact.tape.gradient(exact.weight, to_double(g.dweight.values())), exact.logit), size,
                        3 * weight_steps + 10));
      EXPECT_TRUE(g.score.intact() && g.weight.intact() && g.expert.intact() && g.dlogit.intact());
    }
  }
}

TEST_P(RouteTopkTest, TiesGoToTheSmallerGroupAndExpert) {
  Gate g(1, 12, v3(3, 4, 2));
  g.bias.clear();
  g.logit = Matrix<float>(1, 12, std::vector<float>(12, 0.25f));
  g.forward(stream(), 0, 1);
  EXPECT_EQ(g.expert.values(), (std::vector<int32_t>{0, 1, 2}));
  g.logit = Matrix<float>(1, 12, {0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1});  // groups 1 and 3, their experts all equal
  g.forward(stream(), 0, 1);
  EXPECT_EQ(g.expert.values(), (std::vector<int32_t>{3, 4, 5}));
  for (float w : g.weight.values()) EXPECT_NEAR(w, 2.5 / 3, rounding_bound(20));
}

TEST_P(RouteTopkTest, ATieIsKeptWhenALargerOneComesLater) {
  Gate g(1, 3, v3(2, 1, 1));
  g.bias.clear();
  g.logit = Matrix<float>(1, 3, {1, 1, 2});
  g.forward(stream(), 0, 1);
  EXPECT_EQ(g.expert.values(), (std::vector<int32_t>{0, 2}));
  // Group 1 is better than group 0, but experts 0 and 3 are equal.
  Gate grouped(1, 8, v3(2, 4, 2));
  grouped.bias.clear();
  grouped.logit = Matrix<float>(1, 8, {1, 0, 2, 1, -5, -5, -5, -5});
  grouped.forward(stream(), 0, 1);
  EXPECT_EQ(grouped.expert.values(), (std::vector<int32_t>{0, 2}));
}

TEST_P(RouteTopkTest, AScoreThatIsNotANumberIsTheFirstChoiceAndABiasThatIsNotOneTheLast) {
  Gate g(1, 4, v3(2, 1, 1));
  g.bias.clear();
  g.logit = Matrix<float>(1, 4, {0, kNan, 2, 1});
  g.forward(stream(), 0, 1);
  EXPECT_EQ(g.expert.values(), (std::vector<int32_t>{1, 2}));
  for (const float bad : {kNan, -kInfinity}) {
    g.bias = {0, 0, bad, 0};
    g.forward(stream(), 0, 1);
    EXPECT_EQ(g.expert.values(), (std::vector<int32_t>{1, 3})) << bad;
    g.bias = {0, bad, 0, 0};
    g.forward(stream(), 0, 1);
    EXPECT_EQ(g.expert.values(), (std::vector<int32_t>{1, 2})) << bad;
  }
  Gate grouped(1, 4, v3(2, 2, 1));  // its group wins, whatever the bias beside it is
  grouped.logit = Matrix<float>(1, 4, {kNan, 0, 9, 9});
  for (const float beside : {0.0f, kNan, -kInfinity}) {
    grouped.bias = {0, beside, 0, 0};
    grouped.forward(stream(), 0, 1);
    EXPECT_EQ(grouped.expert.values(), (std::vector<int32_t>{0, 1})) << beside;
  }
}

TEST_P(RouteTopkTest, AGroupOfOneExpertIsScoredByIt) {
  Gate g(1, 4, v3(2, 4, 2));
  g.bias.clear();
  g.logit = Matrix<float>(1, 4, {-5, 1, -5, 2});
  g.forward(stream(), 0, 1);
  EXPECT_EQ(g.expert.values(), (std::vector<int32_t>{1, 3}));
}

TEST_P(RouteTopkTest, AllTokensOnOneExpertAndExtremeLogits) {
  Gate g(50, 6, v3(1, 1, 1));
  g.bias.clear();
  for (int64_t t = 0; t < 50; ++t)
    for (int64_t e = 0; e < 6; ++e) g.logit.mat()(t, e) = e == 5 ? 1e4f : -1e4f;
  g.forward(stream(), 0, 50);
  g.backward(stream(), 0, 50);
  EXPECT_EQ(g.counts, (std::vector<int64_t>{0, 0, 0, 0, 0, 50}));
  for (float w : g.weight.values()) EXPECT_EQ(w, 2.5f);
  for (float d : g.dlogit.values()) EXPECT_EQ(d, 0.0f);
  // Every score zero: still K experts, weights zero, nothing that is not a number.
  Gate none(1, 6, v3(2, 3, 2));
  none.logit = Matrix<float>(1, 6, std::vector<float>(6, -1e4f));
  none.bias.clear();
  none.forward(stream(), 0, 1);
  none.backward(stream(), 0, 1);
  EXPECT_EQ(none.expert.values(), (std::vector<int32_t>{0, 1}));
  for (float w : none.weight.values()) EXPECT_EQ(w, 0.0f);
  for (float d : none.dlogit.values()) EXPECT_EQ(d, 0.0f);
  Gate softmax(2, 6, v2(2, 3, 2), 1, 1e4);
  softmax.bias.clear();
  softmax.forward(stream(), 0, 2);
  for (float w : softmax.weight.values()) EXPECT_TRUE(std::isfinite(w));
}

TEST_P(RouteTopkTest, ARowThatIsNotANumberStaysAloneAndChoosesDifferentExperts) {
  for (bool softmax : {false, true}) {
    Gate clean(5, 8, softmax ? v2(3, 4, 2) : v3(3, 4, 2)), g = clean;
    for (int64_t e = 0; e < 8; ++e) g.logit.mat()(2, e) = kNan;
    g.logit.mat()(4, 1) = kNan;
    for (Gate* one : {&clean, &g}) {
      one->forward(stream(), 0, 5);
      one->backward(stream(), 0, 5);
    }
    for (int64_t t = 0; t < 5; ++t) {
      EXPECT_GE(g.expert.mat()(t, 0), 0);
      EXPECT_LT(g.expert.mat()(t, 0), g.expert.mat()(t, 1));
      EXPECT_LT(g.expert.mat()(t, 1), g.expert.mat()(t, 2));
      EXPECT_LT(g.expert.mat()(t, 2), 8);
      for (int64_t k = 0; k < 3 && t != 2 && t != 4; ++k) EXPECT_EQ(g.weight.mat()(t, k), clean.weight.mat()(t, k));
    }
    EXPECT_TRUE(std::isnan(g.weight.mat()(2, 0)));
    EXPECT_TRUE(std::isnan(g.weight.mat()(4, 0))) << "one score of eight, which any choice by size could leave out";
    EXPECT_EQ(std::accumulate(g.counts.begin(), g.counts.end(), int64_t{0}), 15);
  }
}

TEST_P(RouteTopkTest, NoTraceOfThreadsOrCuts) {
  for (const RouteOptions& options : {v3(6, 8, 3), v2(6, 8, 3)}) {
    expect_no_trace_of_threads(isa(), [&](const Stream& stream) {
      Gate g(1500, 40, options);
      g.forward(stream, 0, 1500);
      g.backward(stream, 0, 1500);
      return g.all();
    });
    Gate g(21, 40, options);
    expect_no_trace_of_cuts(
        stream(), 21,
        [&](const Stream& s, int64_t begin, int64_t end) {
          g.forward(s, begin, end);
          g.backward(s, begin, end);
        },
        [&] { return g.all(); });
  }
}

TEST(RouteTopk, Avx512LikeAvx2) {
  expect_avx512_like_avx2([](const Stream& stream) {
    std::vector<float> out;
    for (const RouteOptions& options : {v3(6, 8, 3), v2(6, 8, 3)}) {
      Gate g(30, 40, options);
      g.forward(stream, 0, 30);
      g.backward(stream, 0, 30);
      append(out, g.all());
    }
    return out;
  });
}

struct Balance {
  int64_t sequences, length, experts, top_k;
  bool softmax;
  Matrix<float> logit, score, fraction, dlogit;
  std::vector<double> loss;

  Balance(int64_t b, int64_t s, int64_t e, int64_t k, bool soft, uint64_t seed = 1)
      : sequences(b),
        length(s),
        experts(e),
        top_k(k),
        softmax(soft),
        logit(b * s, e),
        score(b * s, e),
        fraction(b, e),
        dlogit(b * s, e),
        loss(static_cast<size_t>(b), -1.0) {
    Random random(seed);
    logit = Matrix<float>(b * s, e, random.normals(b * s * e));
    dlogit = Matrix<float>(b * s, e, random.normals(b * s * e, 1e-3));
    set_scores();
  }
  void set_scores() {
    for (int64_t t = 0; t < sequences * length; ++t)
      reference::scores_of_row(score.mat().row(t), logit.mat().row(t), experts, softmax);
  }
  void forward(const Stream& stream) {
    balance_forward(stream, {vec(loss.data(), sequences), fraction.mat(), score.mat(), top_k, length});
  }
  void backward(const Stream& stream, double coefficient) {
    balance_backward(stream, {dlogit.mat(), score.mat(), fraction.mat(), softmax, length, coefficient});
  }
  std::vector<float> all() const {
    std::vector<float> out = fraction.values();
    append(out, dlogit.values());
    for (double l : loss) out.push_back(static_cast<float>(l));
    return out;
  }
};

TEST_P(RouteTopkTest, BalanceLossAndGradientAgreeWithTheExactOnes) {
  for (bool softmax : {false, true}) {
    for (auto [experts, top_k] : {std::pair{8, 2}, {16, 4}, {21, 3}, {1, 1}}) {
      const int64_t sequences = 3, length = 7;
      Balance b(sequences, length, experts, top_k, softmax);
      const std::vector<float> there = b.dlogit.values();
      const double coefficient = 1e-2;
      b.forward(stream());
      b.backward(stream(), coefficient);

      Tape tape;
      const std::vector<Recorded> logit = variables(tape, b.logit.values());
      std::vector<Recorded> score(logit.size()), losses;
      for (int64_t t = 0; t < sequences * length; ++t)
        reference::scores_of_row(score.data() + t * experts, logit.data() + t * experts, experts, softmax);
      for (int64_t q = 0; q < sequences; ++q) {
        const Mat<const Recorded> score_SE = mat<const Recorded>(score.data() + q * length * experts, length, experts);
        const std::vector<double> fraction = reference::balance_fraction(score_SE, top_k);
        losses.push_back(reference::balance_loss(score_SE, fraction));
        for (int64_t e = 0; e < experts; ++e)
          EXPECT_NEAR(b.fraction.mat()(q, e), fraction[static_cast<size_t>(e)],
                      rounding_bound(2) * fraction[static_cast<size_t>(e)]);
        // Float32 scores (6 roundings, softmax: 30) over their float32 sum.
        EXPECT_NEAR(b.loss[static_cast<size_t>(q)], losses.back().value,
                    rounding_bound(2 * 30 + row_sum_steps(experts)) * losses.back().value);
      }
      std::vector<double> exact = gradients(tape.gradient(losses), logit), size;
      for (size_t i = 0; i < exact.size(); ++i) {
        exact[i] = there[i] + coefficient * exact[i];
        // f is at most E / K, p at most 1, so a token's part is at most 2 E / K / S.
        size.push_back(std::abs(there[i]) +
                       coefficient * 2 * static_cast<double>(experts) / static_cast<double>(top_k * length));
      }
      EXPECT_TRUE(close(b.dlogit.values(), exact, size, 3 * 30 + 3 * row_sum_steps(experts)));
      EXPECT_TRUE(b.fraction.intact() && b.dlogit.intact());
    }
  }
}

TEST_P(RouteTopkTest, PerfectBalanceCostsOne) {
  // Each expert is chosen equally often and has the same mean probability: E tokens that are rotations of one row.
  const int64_t experts = 8;
  for (int64_t top_k : {1, 3}) {
    Balance b(1, experts, experts, top_k, false);
    for (int64_t t = 0; t < experts; ++t)
      for (int64_t e = 0; e < experts; ++e) b.logit.mat()(t, e) = 0.3f * static_cast<float>((e + t) % experts) - 1.0f;
    b.set_scores();
    b.forward(stream());
    EXPECT_NEAR(b.loss[0], 1.0, rounding_bound(20));
    for (float f : b.fraction.values()) EXPECT_EQ(f, 1.0f);
  }
  // The worst case: one expert takes all, with all the probability.
  Balance worst(1, 5, 4, 1, true);
  for (int64_t t = 0; t < 5; ++t)
    for (int64_t e = 0; e < 4; ++e) worst.logit.mat()(t, e) = e == 2 ? 50.0f : -50.0f;
  worst.set_scores();
  worst.forward(stream());
  EXPECT_NEAR(worst.loss[0], 4.0, 4 * rounding_bound(20));
}

TEST_P(RouteTopkTest, BalanceSurvivesScoresThatAreAllZero) {
  Balance b(1, 3, 6, 2, false);
  b.logit = Matrix<float>(3, 6, std::vector<float>(18, -1e4f));
  b.set_scores();
  b.forward(stream());
  b.backward(stream(), 1.0);
  EXPECT_EQ(b.loss[0], 0.0);
  for (float d : b.dlogit.values()) EXPECT_TRUE(std::isfinite(d));
}

TEST_P(RouteTopkTest, BalanceHasNoTraceOfThreadsOrOtherSequences) {
  for (bool softmax : {false, true}) {
    expect_no_trace_of_threads(isa(), [&](const Stream& stream) {
      Balance b(9, 70, 40, 6, softmax);
      b.forward(stream);
      b.backward(stream, 0.1);
      return b.all();
    });
    Balance b(3, 5, 20, 2, softmax), apart = b;
    b.forward(stream());
    b.backward(stream(), 0.1);
    for (int64_t q = 0; q < 3; ++q) {
      const Mat<const float> score = rows(Mat<const float>(apart.score.mat()), q * 5, q * 5 + 5);
      balance_forward(stream(), {vec(apart.loss.data() + q, 1), rows(apart.fraction.mat(), q, q + 1), score, 2, 5});
      balance_backward(stream(), {rows(apart.dlogit.mat(), q * 5, q * 5 + 5), score,
                                  rows(Mat<const float>(apart.fraction.mat()), q, q + 1), softmax, 5, 0.1});
    }
    EXPECT_TRUE(same_bits(b.all(), apart.all()));
  }
}

TEST(RouteTopk, BalanceHasNoTraceOfTheInstructionSet) {
  expect_no_trace_of_isa([](const Stream& stream) {
    Balance b(2, 9, 37, 4, false);
    b.forward(stream);
    b.backward(stream, 0.1);
    return b.all();
  });
}

TEST_P(RouteTopkTest, InfiniteLogitsAreAChoiceToo) {
  Gate g(1, 4, v3(2, 1, 1));
  g.bias.clear();
  g.logit = Matrix<float>(1, 4, {-kInfinity, kInfinity, 0, -1});
  g.forward(stream(), 0, 1);
  EXPECT_EQ(g.expert.values(), (std::vector<int32_t>{1, 2}));
  EXPECT_NEAR(g.weight.mat()(0, 0), 2.5 * 2 / 3, 2.5 * rounding_bound(20));
}

}  // namespace
}  // namespace tael
