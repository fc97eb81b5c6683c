#include "kernels/vector.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "base/rng.hpp"
#include "tests/kernels/isa_cases.hpp"
#include "tests/kernels/vector_probe.hpp"

namespace tael {
namespace {

using testing::VectorOp;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kCanary = -12345.5f;

std::vector<float> normal(const char* purpose, int64_t n) {
  const Rng rng(1, purpose);
  std::vector<float> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.normal(i));
  return x;
}

bool same_bits(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

class VectorTest : public testing::IsaTest {
 protected:
  std::vector<float> run(VectorOp op, const std::vector<float>& a, std::vector<float> b = {},
                         std::vector<float> c = {}) {
    b.resize(a.size());
    c.resize(a.size());
    const auto n = static_cast<int64_t>(a.size());
    std::vector<float> y(a.size() + 32, kCanary);
    vector_probe(stream(), {vec(y.data() + 16, n), vec(a.data(), n), vec(b.data(), n), vec(c.data(), n), op});
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(y[i], kCanary) << "written before the array, " << n << " elements";
      EXPECT_EQ(y[y.size() - 1 - i], kCanary) << "written behind the array, " << n << " elements";
    }
    return {y.begin() + 16, y.end() - 16};
  }
};

TEST_P(VectorTest, EveryFunctionEqualsTheScalarOneForEveryLength) {
  struct Case {
    const char* name;
    VectorOp op;
    std::function<float(size_t i, float a, float b, float c)> scalar;
  };
  const std::vector<Case> cases = {
      {"add", VectorOp::add, [](size_t, float a, float b, float) { return a + b; }},
      {"sub", VectorOp::sub, [](size_t, float a, float b, float) { return a - b; }},
      {"mul", VectorOp::mul, [](size_t, float a, float b, float) { return a * b; }},
      {"div", VectorOp::div, [](size_t, float a, float b, float) { return a / b; }},
      {"fma", VectorOp::fma, [&](size_t, float a, float b, float c) { return multiply_add(a, b, c); }},
      {"max", VectorOp::max, [](size_t, float a, float b, float) { return a > b ? a : b; }},
      {"min", VectorOp::min, [](size_t, float a, float b, float) { return a < b ? a : b; }},
      {"sqrt", VectorOp::sqrt, [](size_t, float a, float, float) { return std::sqrt(a); }},
      {"negate", VectorOp::negate, [](size_t, float a, float, float) { return -a; }},
      {"absolute", VectorOp::absolute, [](size_t, float a, float, float) { return std::fabs(a); }},
      {"less", VectorOp::select_less, [](size_t, float a, float b, float c) { return a < b ? a : c; }},
      {"less_equal", VectorOp::select_less_equal, [](size_t, float a, float b, float c) { return a <= b ? a : c; }},
      {"equal", VectorOp::select_equal, [](size_t, float a, float b, float c) { return a == b ? a : c; }},
      {"first", VectorOp::select_first, [](size_t i, float a, float b, float) { return i % 16 < 5 ? a : b; }},
  };
  for (const Case& test : cases)
    for (int64_t n = 1; n <= 37; ++n) {
      std::vector<float> a = normal("a", n), b = normal("b", n), c = normal("c", n);
      for (size_t i = 0; i < a.size(); i += 5) b[i] = a[i];
      if (n > 20) a[3] = b[4] = c[6] = kNan, a[7] = kInfinity, b[8] = -kInfinity, a[9] = 0.0f, b[9] = -0.0f;
      const std::vector<float> y = run(test.op, a, b, c);
      for (size_t i = 0; i < y.size(); ++i)
        EXPECT_TRUE(same_bits(y[i], test.scalar(i, a[i], b[i], c[i])))
            << test.name << "(" << a[i] << ", " << b[i] << ", " << c[i] << ") = " << y[i] << ", element " << i << " of "
            << n;
    }
}

TEST_P(VectorTest, PairsAreSwappedAndDoubled) {
  for (int64_t n : {2, 16, 18, 48}) {
    const std::vector<float> a = normal("pairs", n);
    const std::vector<float> swapped = run(VectorOp::swap_pairs, a), twice = run(VectorOp::load_twice, a);
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(swapped[i], a[i ^ 1]);
      EXPECT_EQ(twice[i], a[i / 2]);
    }
  }
}

// Written out, so that a change of the order does not pass by changing both sides.
TEST_P(VectorTest, SumsOverLanesFollowTheTree) {
  const int64_t n = 160;
  const std::vector<float> a = normal("tree", n), b = normal("factor", n);
  const std::vector<float> sum = run(VectorOp::reduce_add, a), largest = run(VectorOp::reduce_max, a);
  const std::vector<float> sum_double = run(VectorOp::reduce_double, a, b);
  for (size_t block = 0; block < a.size(); block += 16) {
    const float* x = a.data() + block;
    float eight[8];
    for (int i = 0; i < 8; ++i) eight[i] = x[i] + x[i + 8];
    const float expected =
        ((eight[0] + eight[4]) + (eight[2] + eight[6])) + ((eight[1] + eight[5]) + (eight[3] + eight[7]));
    EXPECT_TRUE(same_bits(sum[block], expected));
    float maximum = x[0];
    double exact = 0;
    for (size_t i = 0; i < 16; ++i) {
      maximum = std::max(maximum, x[i]);
      exact += static_cast<double>(x[i]) + static_cast<double>(x[i]) * static_cast<double>(b[block + i]);
    }
    EXPECT_EQ(largest[block], maximum);
    EXPECT_FLOAT_EQ(sum_double[block], static_cast<float>(exact));
  }
}

TEST_P(VectorTest, DoubleSumsKeepWhatFloatSumsLose) {
  std::vector<float> a(16, 0.0f);
  a[0] = 1e8f, a[3] = 1.0f, a[9] = -1e8f;
  EXPECT_EQ(run(VectorOp::reduce_double, a)[0], 1.0f);
  EXPECT_EQ(run(VectorOp::reduce_add, {1e8f, 0, 0, 1.0f, 0, 0, 0, 0, 0, 0, 0, 0, -1e8f, 0, 0, 0})[0], 1.0f);
}

TEST_P(VectorTest, AnySeesEveryLane) {
  for (size_t lane = 0; lane < 16; ++lane) {
    std::vector<float> a(16, 1.0f), b(16, 1.0f);
    EXPECT_EQ(run(VectorOp::any_less, a, b)[0], 0.0f);
    a[lane] = 0.5f;
    EXPECT_EQ(run(VectorOp::any_less, a, b)[0], 1.0f);
  }
}

TEST_P(VectorTest, ExponentialIsWithinAnUlpAndAHalf) {
  // Every 4096th float of the range where the result is a normal number, and the borders.
  std::vector<float> x = {0.0f,         -0.0f,  1.0f,    -1.0f,       88.7228317f,
                          -87.3365402f, 1e-30f, -1e-30f, 0.34657359f, -0.34657359f};
  for (uint32_t bits = 0x00800000u; bits < 0x42b17218u; bits += 4096) x.push_back(std::bit_cast<float>(bits));
  for (uint32_t bits = 0x80800000u; bits < 0xc2aeac50u; bits += 4096) x.push_back(std::bit_cast<float>(bits));
  const std::vector<float> y = run(VectorOp::exp, x);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - exact) / ulp);
  }
  EXPECT_LT(worst, 1.5);
  EXPECT_EQ(y[0], 1.0f);
  EXPECT_EQ(y[1], 1.0f);
}

TEST_P(VectorTest, ExponentialAtTheEnds) {
  const std::vector<float> y =
      run(VectorOp::exp, {-kInfinity, kInfinity, kNan, 88.7228394f, 1e30f, -87.3365479f, -1e30f, -kNan,
                          std::numeric_limits<float>::denorm_min(), std::bit_cast<float>(0x7f800001u),
                          std::bit_cast<float>(0x7fc001ffu)});
  EXPECT_TRUE(same_bits(y[0], 0.0f));
  EXPECT_EQ(y[1], kInfinity);
  EXPECT_TRUE(std::isnan(y[2]));
  EXPECT_EQ(y[3], kInfinity);
  EXPECT_EQ(y[4], kInfinity);
  EXPECT_TRUE(same_bits(y[5], 0.0f));
  EXPECT_TRUE(same_bits(y[6], 0.0f));
  EXPECT_TRUE(std::isnan(y[7]));
  EXPECT_EQ(y[8], 1.0f);
  EXPECT_TRUE(std::isnan(y[9]));
  EXPECT_TRUE(std::isnan(y[10]));
}

INSTANTIATE_FOR_EVERY_ISA(VectorTest);

TEST(VectorIsa, ExponentialHasTheSameBitsOnAvx2AndAvx512) {
  if (!machine_has(Isa::avx512)) GTEST_SKIP() << "no avx512 on this machine";
  const int64_t n = 100'003;
  std::vector<float> x = normal("exp", n), on_avx2(x.size()), on_avx512(x.size());
  for (float& v : x) v *= 30.0f;
  ThreadPool pool(1);
  const auto all = [&](std::vector<float>& y) {
    return VectorProbe{vec(y.data(), n), vec<const float>(x.data(), n), vec<const float>(x.data(), n),
                       vec<const float>(x.data(), n), VectorOp::exp};
  };
  vector_probe(Stream(pool, Isa::avx2), all(on_avx2));
  vector_probe(Stream(pool, Isa::avx512), all(on_avx512));
  for (size_t i = 0; i < x.size(); ++i) ASSERT_TRUE(same_bits(on_avx2[i], on_avx512[i])) << "exp(" << x[i] << ")";
}

}  // namespace
}  // namespace tael
