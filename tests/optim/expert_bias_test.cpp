#include "optim/expert_bias.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace tael {
namespace {

std::vector<float> update(std::vector<float> bias, std::vector<int64_t> counts, double rate, int64_t layers = 1) {
  const int64_t experts = static_cast<int64_t>(bias.size()) / layers;
  update_expert_bias(mat(bias.data(), layers, experts), mat<const int64_t>(counts.data(), layers, experts), rate);
  return bias;
}

TEST(ExpertBias, MovesTowardsTheMeanByTheRate) {
  const float step = 1e-3f;
  EXPECT_EQ(update({0.5f, 0.5f, 0.5f, 0.5f}, {10, 20, 30, 20}, 1e-3),
            (std::vector<float>{0.5f + step, 0.5f, 0.5f - step, 0.5f}));
  EXPECT_EQ(update({0.5f, -0.25f}, {3, 9}, 0.0), (std::vector<float>{0.5f, -0.25f}));
  EXPECT_EQ(update({1.0f, 1.0f}, {0, 0}, 1e-3), (std::vector<float>{1.0f, 1.0f}));
  EXPECT_EQ(update({0.0f, 0.0f, 0.0f}, {0, 0, 12}, 1.0), (std::vector<float>{1.0f, 1.0f, -1.0f}));
}

TEST(ExpertBias, EachLayerHasItsOwnMean) {
  EXPECT_EQ(update({0, 0, 0, 0}, {1, 3, 100, 100}, 1.0, 2), (std::vector<float>{1, -1, 0, 0}));
}

TEST(ExpertBias, CountsThatFloatsCannotHoldDecideCorrectly) {
  // In bfloat16 40,840 is 41,216 or 40,704: the first would be above the mean of 40,960, the second below the third
  // count here. As integers all is clear.
  EXPECT_EQ(update({0, 0, 0}, {40'840, 40'960, 41'080}, 1.0), (std::vector<float>{1, 0, -1}));
  EXPECT_EQ(update({0, 0}, {40'840, 40'841}, 1.0), (std::vector<float>{1, -1}));
  // A mean that is no integer: 40,840.33; and a total where a float's last digit is 4.
  EXPECT_EQ(update({0, 0, 0}, {40'840, 40'840, 40'841}, 1.0), (std::vector<float>{1, 1, -1}));
  EXPECT_EQ(update({0, 0, 0}, {62'914'561, 62'914'560, 62'914'560}, 1.0), (std::vector<float>{-1, 1, 1}));
  // And products beyond 64 bits.
  const int64_t huge = int64_t{1} << 61;
  EXPECT_EQ(update({0, 0, 0}, {huge + 1, huge, huge - 1}, 1.0), (std::vector<float>{-1, 0, 1}));
}

TEST(MaxViolation, IsTheExcessOfTheBusiestExpert) {
  const auto of = [](std::vector<int64_t> counts) {
    return max_violation(vec<const int64_t>(counts.data(), static_cast<int64_t>(counts.size())));
  };
  EXPECT_EQ(of({5, 5, 5, 5}), 0.0);
  EXPECT_EQ(of({0, 0, 20, 0}), 3.0);
  EXPECT_EQ(of({10, 30}), 0.5);
  EXPECT_EQ(of({0, 0}), 0.0);
}

}  // namespace
}  // namespace tael
