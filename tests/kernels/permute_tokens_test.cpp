#include "kernels/permute_tokens.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/permute_tokens_reference.hpp"
#include "tests/kernels/row_cases.hpp"

namespace tael {
namespace {

using namespace testing;

struct Assignment {
  int64_t tokens, top_k, experts;
  Matrix<int32_t> expert, position;
  std::vector<int64_t> offset;
  std::vector<int32_t> token;

  Assignment(int64_t t, int64_t k, int64_t e)
      : tokens(t),
        top_k(k),
        experts(e),
        expert(t, k),
        position(t, k),
        offset(static_cast<size_t>(e + 1), -1),
        token(static_cast<size_t>(t * k), -1) {}
  // K different experts of [first, end) for every token, ascending.
  void choose(Random& random, int64_t first, int64_t end) {
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<int32_t> all(static_cast<size_t>(end - first));
      std::iota(all.begin(), all.end(), static_cast<int32_t>(first));
      for (int64_t k = 0; k < top_k; ++k)
        std::swap(all[static_cast<size_t>(k)], all[static_cast<size_t>(k + random.below(end - first - k))]);
      std::sort(all.begin(), all.begin() + top_k);
      for (int64_t k = 0; k < top_k; ++k) expert.mat()(t, k) = all[static_cast<size_t>(k)];
    }
  }
  SortTokens args() {
    return {vec(offset.data(), experts + 1), position.mat(), vec(token.data(), tokens * top_k), expert.mat()};
  }
};

Assignment random_assignment(int64_t tokens, int64_t top_k, int64_t experts, uint64_t seed = 1) {
  Random random(seed);
  Assignment a(tokens, top_k, experts);
  a.choose(random, 0, experts);
  return a;
}

class PermuteTokensTest : public IsaTest {};
INSTANTIATE_FOR_EVERY_ISA(PermuteTokensTest);

TEST_P(PermuteTokensTest, SortsByExpertThenToken) {
  Random random(6);
  std::vector<Assignment> cases = {random_assignment(1, 1, 1), random_assignment(7, 2, 5), random_assignment(40, 4, 16),
                                   random_assignment(3, 6, 6), random_assignment(0, 2, 4)};
  cases.emplace_back(20, 1, 8);  // all tokens on one expert, the others empty
  cases.back().choose(random, 5, 6);
  cases.emplace_back(20, 2, 8);  // the first and the last expert empty
  cases.back().choose(random, 1, 7);
  for (Assignment& a : cases) {
    Assignment expected = a;
    sort_tokens(stream(), a.args());
    reference::sort_tokens(expected.args());
    EXPECT_EQ(a.offset, expected.offset);
    EXPECT_EQ(a.token, expected.token);
    EXPECT_EQ(a.position.values(), expected.position.values());
    EXPECT_TRUE(a.position.intact());
    EXPECT_EQ(a.offset.back(), a.tokens * a.top_k);
  }
}

TEST_P(PermuteTokensTest, SortByHand) {
  // Token 0 goes to experts 1 and 2, token 1 to 0 and 2, token 2 to 1 and 2; expert 3 has none.
  Assignment a(3, 2, 4);
  a.expert = Matrix<int32_t>(3, 2, {1, 2, 0, 2, 1, 2});
  sort_tokens(stream(), a.args());
  EXPECT_EQ(a.offset, (std::vector<int64_t>{0, 1, 3, 6, 6}));
  EXPECT_EQ(a.token, (std::vector<int32_t>{1, 0, 2, 0, 1, 2}));
  EXPECT_EQ(a.position.values(), (std::vector<int32_t>{1, 3, 0, 4, 2, 5}));
}

struct Trip {  // rows there and back
  Matrix<float> x, there, back;
  Trip(const Assignment& a, int64_t channels, uint64_t seed = 2)
      : x(a.tokens, channels), there(a.tokens * a.top_k, channels), back(a.tokens, channels) {
    Random random(seed);
    x = Matrix<float>(a.tokens, channels, random.normals(a.tokens * channels));
    there = Matrix<float>(a.tokens * a.top_k, channels, random.normals(a.tokens * a.top_k * channels));
    back = Matrix<float>(a.tokens, channels, random.normals(a.tokens * channels));
  }
  void dispatch(const Stream& stream, const Assignment& a) {
    dispatch_tokens(stream, {there.mat(), x.mat(), vec<const int32_t>(a.token.data(), a.tokens * a.top_k)});
  }
  CombineTokens<float> combine(const Assignment& a, int64_t groups = 1, bool accumulate = false) {
    return {back.mat(), there.mat(), a.position.mat(), a.expert.mat(), a.experts, groups, accumulate};
  }
};

TEST_P(PermuteTokensTest, ThereAndBackWithUnitWeightsIsKTimes) {
  for (int64_t channels : {1, 16, 37}) {
    for (int64_t top_k : {1, 2, 4}) {  // powers of two: k additions of one number are exact
      Assignment a = random_assignment(50, top_k, 9);
      sort_tokens(stream(), a.args());
      Trip trip(a, channels);
      trip.dispatch(stream(), a);
      combine_tokens(stream(), trip.combine(a));
      for (int64_t t = 0; t < 50; ++t)
        for (int64_t d = 0; d < channels; ++d)
          EXPECT_EQ(trip.back.mat()(t, d), static_cast<float>(top_k) * trip.x.mat()(t, d));
      EXPECT_TRUE(trip.there.intact() && trip.back.intact());
    }
  }
}

TEST_P(PermuteTokensTest, DispatchEqualsTheReference) {
  Assignment a = random_assignment(30, 3, 7);
  sort_tokens(stream(), a.args());
  Trip trip(a, 29), expected = trip;
  trip.dispatch(stream(), a);
  reference::dispatch_tokens<float>({expected.there.mat(), expected.x.mat(), vec<const int32_t>(a.token.data(), 90)});
  EXPECT_TRUE(same_bits(trip.there.values(), expected.there.values()));
}

TEST_P(PermuteTokensTest, CombineAddsInsideGroupsThenGroupsBitForBit) {
  for (int64_t groups : {1, 2, 4, 5, 16}) {  // 5 does not divide 16
    for (bool accumulate : {false, true}) {
      Assignment a = random_assignment(40, 6, 16, static_cast<uint64_t>(groups));
      sort_tokens(stream(), a.args());
      Trip trip(a, 35), expected = trip;
      combine_tokens(stream(), trip.combine(a, groups, accumulate));
      reference::combine_tokens(expected.combine(a, groups, accumulate));
      EXPECT_TRUE(same_bits(trip.back.values(), expected.back.values())) << groups << " groups";
    }
  }
}

TEST_P(PermuteTokensTest, GroupsChangeTheOrderOfTheSum) {
  // ((a + b) + c) + d against (a + b) + (c + d) with numbers where it matters.
  Assignment a(1, 4, 4);
  a.expert = Matrix<int32_t>(1, 4, {0, 1, 2, 3});
  sort_tokens(stream(), a.args());
  Trip trip(a, 1);
  trip.there = Matrix<float>(4, 1, {1.0f, 0.0f, 0x1p-24f, 0x1p-24f});
  combine_tokens(stream(), trip.combine(a, 1));
  EXPECT_EQ(trip.back.mat()(0, 0), 1.0f);
  combine_tokens(stream(), trip.combine(a, 2));
  EXPECT_EQ(trip.back.mat()(0, 0), 1.0f + 0x1p-23f);
}

TEST_P(PermuteTokensTest, CombineIsTheDerivativeOfDispatch) {
  Assignment a = random_assignment(6, 2, 4);
  sort_tokens(stream(), a.args());
  Trip trip(a, 3);
  Tape tape;
  const std::vector<Recorded> x = variables(tape, trip.x.values());
  std::vector<Recorded> y(12 * 3);
  reference::dispatch_tokens<Recorded>(
      {mat(y.data(), 12, 3), mat(x.data(), 6, 3), vec<const int32_t>(a.token.data(), 12)});
  const std::vector<double> exact = gradients(tape.gradient(y, to_double(trip.there.values())), x);
  combine_tokens(stream(), trip.combine(a));
  EXPECT_TRUE(close(trip.back.values(), exact, 1, 8.0));
}

TEST_P(PermuteTokensTest, NumbersGoThereAndBack) {
  Assignment a = random_assignment(25, 3, 8);
  sort_tokens(stream(), a.args());
  Random random(3);
  const Matrix<float> weight(25, 3, random.normals(75));
  std::vector<float> row(75, -1.0f);
  Matrix<float> back(25, 3);
  gather_rows(stream(), {vec(row.data(), 75), weight.mat(), a.position.mat()});
  scatter_rows(stream(), {back.mat(), vec<const float>(row.data(), 75), a.position.mat()});
  EXPECT_EQ(back.values(), weight.values());
  EXPECT_TRUE(back.intact());
  for (int64_t t = 0; t < 25; ++t)
    for (int64_t k = 0; k < 3; ++k) EXPECT_EQ(row[static_cast<size_t>(a.position.mat()(t, k))], weight.mat()(t, k));
}

TEST_P(PermuteTokensTest, NoTraceOfThreads) {
  expect_no_trace_of_threads(isa(), [&](const Stream& stream) {
    Assignment a = random_assignment(400, 4, 16);
    sort_tokens(stream, a.args());
    Trip trip(a, 130);
    std::vector<float> out;
    combine_tokens(stream, trip.combine(a, 4));
    append(out, trip.back.values());
    trip.dispatch(stream, a);
    append(out, trip.there.values());
    return out;
  });
}

TEST_P(PermuteTokensTest, AnyCutOfTheTokensGivesTheSameSums) {
  Assignment a = random_assignment(23, 4, 8);
  sort_tokens(stream(), a.args());
  Trip trip(a, 19);
  expect_no_trace_of_cuts(
      stream(), 23,
      [&](const Stream& s, int64_t begin, int64_t end) {
        combine_tokens(s, {rows(trip.back.mat(), begin, end), trip.there.mat(),
                           rows(Mat<const int32_t>(a.position.mat()), begin, end),
                           rows(Mat<const int32_t>(a.expert.mat()), begin, end), 8, 2, false});
      },
      [&] { return trip.back.values(); });
}

TEST(PermuteTokens, NoTraceOfTheInstructionSet) {
  expect_no_trace_of_isa([](const Stream& stream) {
    Assignment a = random_assignment(40, 5, 12);
    sort_tokens(stream, a.args());
    Trip trip(a, 45);
    combine_tokens(stream, trip.combine(a, 3, true));
    return trip.back.values();
  });
}

TEST_P(PermuteTokensTest, ARowThatIsNotANumberReachesItsTokenOnly) {
  Assignment a = random_assignment(12, 2, 5);
  sort_tokens(stream(), a.args());
  Trip trip(a, 17);
  trip.there.mat()(a.position.mat()(7, 1), 16) = std::numeric_limits<float>::quiet_NaN();
  combine_tokens(stream(), trip.combine(a));
  for (int64_t t = 0; t < 12; ++t)
    for (int64_t d = 0; d < 17; ++d) EXPECT_EQ(std::isnan(trip.back.mat()(t, d)), t == 7 && d == 16);
}

}  // namespace
}  // namespace tael
