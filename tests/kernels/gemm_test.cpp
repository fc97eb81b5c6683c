#include "kernels/gemm.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "kernels/gemm_reference.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"
#include "tests/kernels/isa_cases.hpp"

namespace tael {
namespace {

using testing::Random;
using testing::same_bits;

constexpr float kCanary = -7777.25f;

// A matrix (or a cube) of its own memory with a pitch, and canaries before, behind and in the gaps between the rows.
struct Block {
  Block(Random& random, int64_t pieces, int64_t rows, int64_t cols, int64_t gap)
      : view{nullptr, {pieces, rows, cols}, cols + gap},
        memory(static_cast<size_t>(kMargin * 2 + pieces * rows * (cols + gap)), kCanary) {
    view.data = memory.data() + kMargin;
    for (int64_t r = 0; r < view.rows(); ++r)
      for (int64_t c = 0; c < cols; ++c) view.row(r)[c] = static_cast<float>(random.normal());
  }
  Block(const Block& other) : view(other.view), memory(other.memory) { view.data = memory.data() + kMargin; }
  Block& operator=(const Block&) = delete;

  Mat<float> matrix() const { return slice(view, 0); }

  static constexpr int64_t kMargin = 64;
  Cube<float> view;
  std::vector<float> memory;
};

struct Fma {
  const testing::IsaTest* test;
  float operator()(float a, float b, float c) const;
};

class GemmTest : public testing::IsaTest {
 public:
  using testing::IsaTest::multiply_add;

 protected:
  Fma link() const { return {this}; }
  Random random{7};
};

float Fma::operator()(float a, float b, float c) const {
  return static_cast<const GemmTest*>(test)->multiply_add(a, b, c);
}

struct Sizes {
  int64_t m, n, k;
};

// Around the tiles (6 x 16, 12 x 32, 3 x 16), the packing chunks of 8 and 16, the smallest task and the blocks of the
// summed index.
const std::vector<Sizes> kSizes = {{1, 1, 1},    {1, 16, 8},    {5, 15, 7},    {6, 16, 16},   {7, 17, 9},
                                   {12, 32, 24}, {13, 33, 25},  {11, 31, 40},  {16, 5, 100},  {31, 100, 6},
                                   {100, 31, 5}, {33, 64, 300}, {24, 130, 17}, {25, 48, 520}, {3, 1, 257},
                                   {97, 7, 31},  {2, 200, 64},  {150, 40, 33}};

std::string describe(const Sizes& s, int64_t pieces, bool accumulate) {
  return fmt::format("m {} n {} k {}, {} pieces{}", s.m, s.n, s.k, pieces, accumulate ? ", accumulated" : "");
}

TEST_P(GemmTest, ForwardIsTheChainBitForBit) {
  for (const Sizes& s : kSizes)
    for (int64_t pieces : {1, 2, 3, 8})
      for (bool accumulate : {false, true}) {
        Block y(random, pieces, s.m, s.n, 3), x(random, 1, s.m, s.k, 2), w(random, 1, s.n, s.k, 5);
        Block expected = y;
        gemm_forward(stream(), {y.view, x.matrix(), w.matrix(), accumulate});
        reference::gemm_forward<float>({expected.view, x.matrix(), w.matrix(), accumulate}, link());
        EXPECT_TRUE(same_bits(y.memory, expected.memory)) << describe(s, pieces, accumulate);
      }
}

TEST_P(GemmTest, InputGradIsTheChainBitForBit) {
  for (const Sizes& s : kSizes)
    for (int64_t pieces : {1, 2, 3, 8})
      for (bool accumulate : {false, true}) {
        Block dx(random, pieces, s.m, s.k, 1), dy(random, 1, s.m, s.n, 4), w(random, 1, s.n, s.k, 0);
        Block expected = dx;
        gemm_input_grad(stream(), {dx.view, dy.matrix(), w.matrix(), accumulate});
        reference::gemm_input_grad<float>({expected.view, dy.matrix(), w.matrix(), accumulate}, link());
        EXPECT_TRUE(same_bits(dx.memory, expected.memory)) << describe(s, pieces, accumulate);
      }
}

TEST_P(GemmTest, WeightGradIsTheChainBitForBit) {
  for (const Sizes& s : kSizes) {
    Block dw(random, 1, s.n, s.k, 3), dy(random, 1, s.m, s.n, 1), x(random, 1, s.m, s.k, 7);
    Block expected = dw;
    gemm_weight_grad(stream(), {dw.matrix(), dy.matrix(), x.matrix()});
    reference::gemm_weight_grad<float>({expected.matrix(), dy.matrix(), x.matrix()}, link());
    EXPECT_TRUE(same_bits(dw.memory, expected.memory)) << describe(s, 1, true);
  }
}

// More rows and columns than one task holds, more of the summed index than one block.
TEST_P(GemmTest, LargeProductsAreTheChainToo) {
  const Sizes s = {1601, 30, 20};
  Block y(random, 1, s.m, s.n, 0), x(random, 1, s.m, s.k, 0), w(random, 1, s.n, s.k, 0);
  Block expected = y;
  gemm_forward(stream(), {y.view, x.matrix(), w.matrix()});
  reference::gemm_forward<float>({expected.view, x.matrix(), w.matrix()}, link());
  EXPECT_TRUE(same_bits(y.memory, expected.memory));

  Block dx(random, 1, 7, 1040, 0), dy(random, 1, 7, 270, 0), wide(random, 1, 270, 1040, 0);
  Block expected_dx = dx;
  gemm_input_grad(stream(), {dx.view, dy.matrix(), wide.matrix()});
  reference::gemm_input_grad<float>({expected_dx.view, dy.matrix(), wide.matrix()}, link());
  EXPECT_TRUE(same_bits(dx.memory, expected_dx.memory));
}

TEST_P(GemmTest, EmptyExtents) {
  for (const Sizes& s : {Sizes{0, 4, 5}, Sizes{4, 0, 5}, Sizes{4, 5, 0}, Sizes{0, 0, 0}})
    for (bool accumulate : {false, true}) {
      Block y(random, 2, s.m, s.n, 2), x(random, 1, s.m, s.k, 1), w(random, 1, s.n, s.k, 1);
      Block expected = y;
      gemm_forward(stream(), {y.view, x.matrix(), w.matrix(), accumulate});
      reference::gemm_forward<float>({expected.view, x.matrix(), w.matrix(), accumulate}, link());
      EXPECT_TRUE(same_bits(y.memory, expected.memory)) << describe(s, 2, accumulate);

      Block dx(random, 2, s.m, s.k, 2), dy(random, 1, s.m, s.n, 1);
      Block expected_dx = dx;
      gemm_input_grad(stream(), {dx.view, dy.matrix(), w.matrix(), accumulate});
      reference::gemm_input_grad<float>({expected_dx.view, dy.matrix(), w.matrix(), accumulate}, link());
      EXPECT_TRUE(same_bits(dx.memory, expected_dx.memory)) << describe(s, 2, accumulate);

      Block dw(random, 1, s.n, s.k, 1);
      Block expected_dw = dw;
      gemm_weight_grad(stream(), {dw.matrix(), dy.matrix(), x.matrix()});
      reference::gemm_weight_grad<float>({expected_dw.matrix(), dy.matrix(), x.matrix()}, link());
      EXPECT_TRUE(same_bits(dw.memory, expected_dw.memory)) << describe(s, 1, true);
    }
  // Nothing to sum and nothing to start from: zeros, no matter what was there.
  Block y(random, 1, 3, 19, 2), x(random, 1, 3, 0, 1), w(random, 1, 19, 0, 1);
  y.matrix()(1, 1) = std::numeric_limits<float>::quiet_NaN();
  gemm_forward(stream(), {y.view, x.matrix(), w.matrix()});
  for (int64_t m = 0; m < 3; ++m)
    for (int64_t n = 0; n < 19; ++n) EXPECT_EQ(testing::bits_of(y.matrix()(m, n)), 0u);
  EXPECT_EQ(y.matrix().row(0)[19], kCanary);
}

TEST_P(GemmTest, ARowDoesNotDependOnTheOtherRows) {
  const int64_t m = 45, n = 37, k = 333;
  Block y(random, 1, m, n, 0), x(random, 1, m, k, 0), w(random, 1, n, k, 0);
  gemm_forward(stream(), {y.view, x.matrix(), w.matrix()});
  Block dx(random, 1, m, k, 0);
  gemm_input_grad(stream(), {dx.view, y.matrix(), w.matrix()});
  for (int64_t r = 0; r < m; ++r) {
    Block alone(random, 1, 1, n, 0), alone_dx(random, 1, 1, k, 0);
    gemm_forward(stream(), {alone.view, rows(x.matrix(), r, r + 1), w.matrix()});
    gemm_input_grad(stream(), {alone_dx.view, rows(y.matrix(), r, r + 1), w.matrix()});
    for (int64_t j = 0; j < n; ++j)
      ASSERT_EQ(testing::bits_of(alone.matrix()(0, j)), testing::bits_of(y.matrix()(r, j))) << "row " << r;
    for (int64_t j = 0; j < k; ++j)
      ASSERT_EQ(testing::bits_of(alone_dx.matrix()(0, j)), testing::bits_of(dx.matrix()(r, j))) << "row " << r;
  }
}

TEST_P(GemmTest, NanStaysInItsRow) {
  const int64_t m = 20, n = 40, k = 50;
  Block y(random, 1, m, n, 0), x(random, 1, m, k, 0), w(random, 1, n, k, 0);
  Block dx(random, 1, m, k, 0), dy(random, 1, m, n, 0);
  x.matrix()(7, 13) = dy.matrix()(7, 13) = std::numeric_limits<float>::quiet_NaN();
  gemm_forward(stream(), {y.view, x.matrix(), w.matrix()});
  gemm_input_grad(stream(), {dx.view, dy.matrix(), w.matrix()});
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t j = 0; j < n; ++j) EXPECT_EQ(std::isnan(y.matrix()(r, j)), r == 7) << r << ", " << j;
    for (int64_t j = 0; j < k; ++j) EXPECT_EQ(std::isnan(dx.matrix()(r, j)), r == 7) << r << ", " << j;
  }
}

TEST_P(GemmTest, AWeightGradientInPiecesOfTokensEqualsTheOneAtOnce) {
  const int64_t tokens = 700, n = 50, k = 35;
  Block dy(random, 1, tokens, n, 0), x(random, 1, tokens, k, 0), at_once(random, 1, n, k, 0);
  Block start = at_once;
  gemm_weight_grad(stream(), {at_once.matrix(), dy.matrix(), x.matrix()});
  for (const std::vector<int64_t>& cuts :
       {std::vector<int64_t>{0, 350, 700}, {0, 1, 2, 257, 258, 700}, {0, 100, 100, 699, 700}}) {
    Block pieces = start;
    for (size_t i = 0; i + 1 < cuts.size(); ++i)
      gemm_weight_grad(
          stream(), {pieces.matrix(), rows(dy.matrix(), cuts[i], cuts[i + 1]), rows(x.matrix(), cuts[i], cuts[i + 1])});
    EXPECT_TRUE(same_bits(pieces.memory, at_once.memory));
  }
}

struct Experts {
  int64_t out, in;
  std::vector<int64_t> rows;
};

const std::vector<Experts> kExperts = {
    {33, 20, {5, 0, 17, 1, 0, 0, 30, 6}},  // some without a token
    {16, 40, {0, 0, 61, 0}},               // all tokens on one
    {8, 8, {0, 0, 0}},                     // no token at all
    {40, 17, {3}},
    {17, 64, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
    {20, 12, {200, 7, 120}},
};

TEST_P(GemmTest, GroupedIsTheChainOfEveryExpertBitForBit) {
  for (const Experts& group : kExperts)
    for (int64_t pieces : {1, 2, 3})
      for (bool accumulate : {false, true}) {
        std::vector<int64_t> offset = {0};
        for (int64_t r : group.rows) offset.push_back(offset.back() + r);
        const auto experts = static_cast<int64_t>(group.rows.size());
        const int64_t all = offset.back(), n = group.out, k = group.in;
        const Vec<const int64_t> offset_E1 = vec<const int64_t>(offset.data(), experts + 1);
        // Experts lie further apart than their numbers need: the gap must not be touched.
        Block w(random, experts, n + 1, k, 2), dw(random, experts, n + 1, k, 2);
        const int64_t stride = (n + 1) * w.view.pitch;
        const Mat<float> w_NK = mat(w.view.data, n, k, w.view.pitch), dw_NK = mat(dw.view.data, n, k, dw.view.pitch);
        Block y(random, pieces, all, n, 1), x(random, 1, all, k, 3), dx(random, pieces, all, k, 0);
        Block dy(random, 1, all, n, 2), expected_y = y, expected_dx = dx, expected_dw = dw;
        const std::string what =
            fmt::format("{} experts, {} rows, {} pieces, accumulate {}", experts, all, pieces, accumulate);

        grouped_gemm_forward(stream(), {y.view, x.matrix(), w_NK, stride, offset_E1, accumulate});
        reference::grouped_gemm_forward<float>({expected_y.view, x.matrix(), w_NK, stride, offset_E1, accumulate},
                                               link());
        EXPECT_TRUE(same_bits(y.memory, expected_y.memory)) << what;

        grouped_gemm_input_grad(stream(), {dx.view, dy.matrix(), w_NK, stride, offset_E1, accumulate});
        reference::grouped_gemm_input_grad<float>({expected_dx.view, dy.matrix(), w_NK, stride, offset_E1, accumulate},
                                                  link());
        EXPECT_TRUE(same_bits(dx.memory, expected_dx.memory)) << what;

        grouped_gemm_weight_grad(stream(), {dw_NK, stride, dy.matrix(), x.matrix(), offset_E1});
        const Mat<float> expected_dw_NK = mat(expected_dw.view.data, n, k, dw.view.pitch);
        reference::grouped_gemm_weight_grad<float>({expected_dw_NK, stride, dy.matrix(), x.matrix(), offset_E1},
                                                   link());
        EXPECT_TRUE(same_bits(dw.memory, expected_dw.memory)) << what;
      }
}

// An expert's result is that of a plain product over its rows, and the other experts' rows do not matter.
TEST_P(GemmTest, GroupedEqualsPlain) {
  const std::vector<int64_t> offset = {0, 40, 40, 103};
  const int64_t n = 30, k = 45;
  Block w(random, 3, n, k, 0), x(random, 1, 103, k, 0), y(random, 1, 103, n, 0), plain(random, 1, 63, n, 0);
  grouped_gemm_forward(stream(), {y.view, x.matrix(), slice(w.view, 0), n * k, vec<const int64_t>(offset.data(), 4)});
  gemm_forward(stream(), {plain.view, rows(x.matrix(), 40, 103), slice(w.view, 2)});
  for (int64_t m = 0; m < 63; ++m)
    for (int64_t j = 0; j < n; ++j)
      ASSERT_EQ(testing::bits_of(y.matrix()(40 + m, j)), testing::bits_of(plain.matrix()(m, j)));
}

TEST_P(GemmTest, EveryNumberOfThreadsGivesTheSameBits) {
  const std::vector<int64_t> offset = {0, 250, 250, 251, 400};
  const Vec<const int64_t> offset_E1 = vec<const int64_t>(offset.data(), 5);
  const int64_t tokens = 400, n = 300, k = 270;
  Block w(random, 4, n, k, 0), x(random, 1, tokens, k, 0), dy(random, 1, tokens, n, 0);
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    const Stream s(pool, isa());
    Random same(3);
    Block y(same, 2, tokens, n, 0), dx(same, 2, tokens, k, 0), dw(same, 4, n, k, 0);
    gemm_forward(s, {y.view, x.matrix(), slice(w.view, 1)});
    gemm_input_grad(s, {dx.view, dy.matrix(), slice(w.view, 1)});
    gemm_weight_grad(s, {slice(dw.view, 1), dy.matrix(), x.matrix()});
    grouped_gemm_forward(s, {y.view, x.matrix(), slice(w.view, 0), n * k, offset_E1, true});
    grouped_gemm_input_grad(s, {dx.view, dy.matrix(), slice(w.view, 0), n * k, offset_E1, true});
    grouped_gemm_weight_grad(s, {slice(dw.view, 0), n * k, dy.matrix(), x.matrix(), offset_E1});
    std::vector<float> all = y.memory;
    all.insert(all.end(), dx.memory.begin(), dx.memory.end());
    all.insert(all.end(), dw.memory.begin(), dw.memory.end());
    results.push_back(all);
  }
  for (size_t i = 1; i < results.size(); ++i) EXPECT_TRUE(same_bits(results[0], results[i]));
}

// What the three forms have to do with each other: <dy, forward(x)> = <input_grad(dy), x> = <weight_grad(dy, x), w>.
TEST_P(GemmTest, TheFormsAreEachOthersDerivatives) {
  const int64_t m = 29, n = 23, k = 19;
  Block y(random, 1, m, n, 0), x(random, 1, m, k, 0), w(random, 1, n, k, 0), dy(random, 1, m, n, 0);
  Block dx(random, 1, m, k, 0), dw(random, 1, n, k, 0);
  for (float& v : dw.memory) v = 0.0f;
  gemm_forward(stream(), {y.view, x.matrix(), w.matrix()});
  gemm_input_grad(stream(), {dx.view, dy.matrix(), w.matrix()});
  gemm_weight_grad(stream(), {dw.matrix(), dy.matrix(), x.matrix()});
  const auto dot = [](const Block& a, const Block& b) {
    double sum = 0;
    for (int64_t r = 0; r < a.view.rows(); ++r)
      for (int64_t c = 0; c < a.view.cols(); ++c)
        sum += static_cast<double>(a.view.row(r)[c]) * static_cast<double>(b.view.row(r)[c]);
    return sum;
  };
  double magnitude = 0;  // sum over m, n, k of |dy x w|
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t l = 0; l < k; ++l)
        magnitude += std::fabs(static_cast<double>(dy.matrix()(i, j)) * static_cast<double>(x.matrix()(i, l)) *
                               static_cast<double>(w.matrix()(j, l)));
  const double bound = 2 * testing::rounding_bound(2 * 29) * magnitude;
  EXPECT_NEAR(dot(dy, y), dot(dx, x), bound);
  EXPECT_NEAR(dot(dy, y), dot(dw, w), bound);
}

INSTANTIATE_FOR_EVERY_ISA(GemmTest);

// One rounding per link on both, in the same order.
TEST(GemmIsa, Avx2AndAvx512GiveTheSameBits) {
  if (!machine_has(Isa::avx512)) GTEST_SKIP() << "no avx512 on this machine";
  Random random(5);
  ThreadPool pool(2);
  Block y(random, 1, 70, 90, 0), x(random, 1, 70, 400, 0), w(random, 1, 90, 400, 0);
  Block other = y;
  gemm_forward(Stream(pool, Isa::avx2), {y.view, x.matrix(), w.matrix()});
  gemm_forward(Stream(pool, Isa::avx512), {other.view, x.matrix(), w.matrix()});
  EXPECT_TRUE(same_bits(y.memory, other.memory));
}

}  // namespace
}  // namespace tael
