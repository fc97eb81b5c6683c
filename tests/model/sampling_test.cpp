#include "model/sampling.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace tael {
namespace {

constexpr int64_t kDraws = 200'000;

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  for (const float x : logits) p.push_back(std::exp(static_cast<double>(x) / temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

std::vector<int64_t> drawn(const std::vector<float>& logits, const SamplingRule& rule) {
  TokenSampler sampler(rule, static_cast<int64_t>(logits.size()));
  std::vector<int64_t> counts(logits.size());
  for (int64_t i = 0; i < kDraws; ++i)
    ++counts[static_cast<size_t>(sampler.choose(vec(logits.data(), static_cast<int64_t>(logits.size())), i))];
  return counts;
}

// Each count is binomial: five deviations leave one false alarm in some 100,000 counts, and the seeds are fixed.
void expect_distribution(const std::vector<int64_t>& counts, const std::vector<double>& p) {
  for (size_t i = 0; i < p.size(); ++i) {
    const double n = static_cast<double>(kDraws), deviation = std::sqrt(n * p[i] * (1 - p[i]));
    EXPECT_NEAR(static_cast<double>(counts[i]), n * p[i], 5 * deviation + 1e-9) << "token " << i;
  }
}

const std::vector<float> kLogits = {1.0f, -2.0f, 3.0f, 0.5f, 3.0f, -60.0f, 2.0f};

TEST(Sampling, TemperatureDrawsFromTheSoftmax) {
  for (const double temperature : {0.3, 1.0, 4.0})
    expect_distribution(drawn(kLogits, {.temperature = temperature, .seed = 3}), softmax(kLogits, temperature));
}

TEST(Sampling, NucleusIsTheSmallestSetThatReachesTopP) {
  // Sorted: 2 and 4 (0.3866 each), 6 (0.1422), 0 (0.0523), 3 (0.0317), 1 (0.0026), 5 (nothing).
  const std::vector<double> p = softmax(kLogits, 1.0);
  ASSERT_NEAR(p[2], 0.3852, 0.002);
  struct {
    double top_p;
    std::vector<size_t> kept;
  } const cases[] = {
      {0.2, {2}}, {0.5, {2, 4}}, {p[2] * 2 + 0.01, {2, 4, 6}}, {0.93, {2, 4, 6, 0}}, {0.9999, {2, 4, 6, 0, 3, 1}}};
  for (const auto& c : cases) {
    std::vector<double> expected(p.size());
    double sum = 0;
    for (const size_t i : c.kept) sum += p[i];
    for (const size_t i : c.kept) expected[i] = p[i] / sum;
    SCOPED_TRACE(c.top_p);
    expect_distribution(drawn(kLogits, {.temperature = 1.0, .top_p = c.top_p, .seed = 5}), expected);
  }
  // With a temperature the nucleus is that of the changed distribution.
  const std::vector<double> flat = softmax(kLogits, 3.0);
  std::vector<double> expected(p.size());
  for (const size_t i : {2, 4, 6}) expected[i] = flat[i] / (flat[2] + flat[4] + flat[6]);
  expect_distribution(drawn(kLogits, {.temperature = 3.0, .top_p = flat[2] + flat[4] + 0.01, .seed = 5}), expected);
}

TEST(Sampling, EqualProbabilitiesKeepTheSmallerNumbers) {
  const std::vector<float> flat(10, 0.25f);
  const std::vector<int64_t> counts = drawn(flat, {.top_p = 0.35, .seed = 1});
  expect_distribution(counts, {0.25, 0.25, 0.25, 0.25, 0, 0, 0, 0, 0, 0});
}

TEST(Sampling, GreedyTakesTheFirstOfTheLargest) {
  TokenSampler sampler({.temperature = 0}, 7);
  EXPECT_EQ(sampler.choose(vec(kLogits.data(), 7), 0), 2);
  const std::vector<float> one = {-5.0f};
  EXPECT_EQ(sampler.choose(vec(one.data(), 1), 9), 0);
}

TEST(Sampling, ANumberIsAFunctionOfSeedAndPosition) {
  const auto text = [](uint64_t seed, int64_t first) {
    TokenSampler sampler({.temperature = 2.0, .seed = seed}, 7);
    std::vector<int32_t> tokens;
    for (int64_t i = first; i < 40; ++i) tokens.push_back(sampler.choose(vec(kLogits.data(), 7), i));
    return tokens;
  };
  const std::vector<int32_t> whole = text(1, 0);
  EXPECT_EQ(whole, text(1, 0));
  EXPECT_NE(whole, text(2, 0));
  EXPECT_EQ(std::vector<int32_t>(whole.begin() + 15, whole.end()), text(1, 15));
}

TEST(Sampling, ExtremesChooseATokenThatHasAChance) {
  const std::vector<float> spread = {-3e38f, 3e38f, 0.0f};
  for (const double temperature : {1e-300, 1.0, 1e300}) {
    TokenSampler sampler({.temperature = temperature, .top_p = 0.5}, 3);
    for (int64_t i = 0; i < 100; ++i) EXPECT_GE(sampler.choose(vec(spread.data(), 3), i), 0);
  }
  TokenSampler cold({.temperature = 1e-3}, 3);
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(cold.choose(vec(spread.data(), 3), i), 1);
}

TEST(Sampling, WhatIsNotFiniteIsSaid) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> logits = {1.0f, bad};
    TokenSampler sampler({}, 2);
    EXPECT_EQ(sampler.choose(vec(logits.data(), 2), 0), -1);
  }
}

}  // namespace
}  // namespace tael
