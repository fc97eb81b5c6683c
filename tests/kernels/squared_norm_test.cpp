#include "kernels/squared_norm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/squared_norm_reference.hpp"
#include "tests/kernels/row_cases.hpp"

namespace tael {
namespace {

using namespace testing;

std::vector<double> norms(const Stream& stream, const Matrix<float>& x) {
  std::vector<double> sum(static_cast<size_t>(x.mat().rows()), -1.0);
  squared_norm(stream, {vec(sum.data(), x.mat().rows()), x.mat()});
  return sum;
}

class SquaredNormTest : public IsaTest {};
INSTANTIATE_FOR_EVERY_ISA(SquaredNormTest);

TEST_P(SquaredNormTest, SumsInTheFixedOrderBitForBit) {
  Random random(2);
  for (int64_t cols : {1, 2, 15, 16, 17, 100, 4099}) {
    const Matrix<float> x(3, cols, random.normals(3 * cols));
    const std::vector<double> sum = norms(stream(), x);
    for (int64_t m = 0; m < 3; ++m) {
      std::vector<double> squares;
      for (int64_t n = 0; n < cols; ++n)
        squares.push_back(static_cast<double>(x.mat()(m, n)) * static_cast<double>(x.mat()(m, n)));
      const double expected = row_sum_in_order(squares);
      EXPECT_EQ(sum[static_cast<size_t>(m)], expected) << cols;
    }
    std::vector<double> plain(3);
    reference::squared_norm<float>({vec(plain.data(), 3), x.mat()});
    EXPECT_TRUE(close(sum, plain, static_cast<double>(2 * cols), 0, kRoundF64));
  }
}

TEST_P(SquaredNormTest, NoTraceOfThreads) {
  Random random(3);
  const Matrix<float> x(400, 301, random.normals(400 * 301));
  expect_no_trace_of_threads(isa(), [&](const Stream& stream) { return norms(stream, x); });
}

TEST(SquaredNorm, NoTraceOfTheInstructionSet) {
  Random random(4);
  const Matrix<float> x(5, 301, random.normals(5 * 301));
  expect_no_trace_of_isa([&](const Stream& stream) { return norms(stream, x); });
}

TEST_P(SquaredNormTest, FiniteExactlyWhereEverythingIs) {
  const float largest = std::numeric_limits<float>::max(), infinity = std::numeric_limits<float>::infinity();
  for (int64_t where : {0, 15, 16, 20}) {
    Matrix<float> x(4, 21, std::vector<float>(4 * 21, largest));
    x.mat()(1, where) = infinity;
    x.mat()(3, where) = std::numeric_limits<float>::quiet_NaN();
    const std::vector<double> sum = norms(stream(), x);
    EXPECT_TRUE(std::isfinite(sum[0]));
    EXPECT_EQ(sum[1], std::numeric_limits<double>::infinity());
    EXPECT_TRUE(std::isfinite(sum[2]));
    EXPECT_TRUE(std::isnan(sum[3]));
  }
}

TEST_P(SquaredNormTest, EmptyAndSmall) {
  EXPECT_EQ(norms(stream(), Matrix<float>(0, 7)).size(), 0u);
  EXPECT_EQ(norms(stream(), Matrix<float>(2, 0)), (std::vector<double>{0, 0}));
  EXPECT_EQ(norms(stream(), Matrix<float>(1, 2, std::vector<float>{3, 4})), (std::vector<double>{25}));
  // Squares far below float32's range count.
  EXPECT_GT(norms(stream(), Matrix<float>(1, 1, std::vector<float>{1e-30f}))[0], 0.9e-60);
}

}  // namespace
}  // namespace tael
