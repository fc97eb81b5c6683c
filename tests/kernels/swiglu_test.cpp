#include "kernels/swiglu.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/swiglu_reference.hpp"
#include "tests/kernels/row_cases.hpp"

namespace tael {
namespace {

using namespace testing;

struct Gated {
  int64_t tokens, width;
  Matrix<float> gu, da, a, dgu;
  std::vector<float> weight, dweight;
  bool weighted;

  Gated(int64_t t, int64_t f, bool w, uint64_t seed = 1, double deviation = 3.0)
      : tokens(t),
        width(f),
        gu(t, 2 * f),
        da(t, f),
        a(t, f),
        dgu(t, 2 * f),
        dweight(static_cast<size_t>(t)),
        weighted(w) {
    Random random(seed);
    gu = Matrix<float>(t, 2 * f, random.normals(2 * t * f, deviation));
    da = Matrix<float>(t, f, random.normals(t * f));
    weight = random.uniforms(t, -1.0, 2.0);
  }
  void forward(const Stream& stream, int64_t begin, int64_t end) {
    swiglu_forward(stream,
                   {rows(a.mat(), begin, end), rows(Mat<const float>(gu.mat()), begin, end), weights(begin, end)});
  }
  void backward(const Stream& stream, int64_t begin, int64_t end) {
    swiglu_backward(stream,
                    {rows(dgu.mat(), begin, end), weighted ? vec(dweight.data() + begin, end - begin) : Vec<float>{},
                     rows(Mat<const float>(da.mat()), begin, end), rows(Mat<const float>(gu.mat()), begin, end),
                     weights(begin, end)});
  }
  Vec<const float> weights(int64_t begin, int64_t end) const {
    return weighted ? vec(weight.data() + begin, end - begin) : Vec<const float>{};
  }
  std::vector<float> all() const {
    std::vector<float> out = a.values();
    append(out, dgu.values());
    append(out, dweight);
    return out;
  }
};

class SwigluTest : public IsaTest {};
INSTANTIATE_FOR_EVERY_ISA(SwigluTest);

// Roundings of the logistic function: exp within two units (4 roundings), the sum, the quotient.
constexpr double kLogistic = 6;
// Where exp(-gate) leaves float32's range silu is taken as zero: at most 88.8 exp(-88.7) = 3e-37 is lost.
constexpr double kLost = 3e-37;

TEST_P(SwigluTest, ForwardAndGradientsAgreeWithTheExactOnes) {
  for (auto [tokens, width] : {std::pair{1, 1}, {2, 5}, {3, 16}, {2, 33}, {4, 100}}) {
    for (bool weighted : {false, true}) {
      Gated g(tokens, width, weighted, 5);
      g.forward(stream(), 0, tokens);
      g.backward(stream(), 0, tokens);
      Tape tape;
      const std::vector<Recorded> gu = variables(tape, g.gu.values()), weight = variables(tape, g.weight);
      std::vector<Recorded> a(static_cast<size_t>(tokens * width));
      reference::swiglu_forward<Recorded>({mat(a.data(), tokens, width), mat(gu.data(), tokens, 2 * width),
                                           weighted ? vec(weight.data(), tokens) : Vec<const Recorded>{}});
      const Gradient exact = tape.gradient(a, to_double(g.da.values()));
      std::vector<double> exact_a, dgu_size, dweight_size;
      for (const Recorded& v : a) exact_a.push_back(v.value);
      for (int64_t t = 0; t < tokens; ++t) {
        std::vector<double> dgate, dup;
        double dot = 0;
        for (int64_t f = 0; f < width; ++f) {
          const double gate = g.gu.mat()(t, f), up = g.gu.mat()(t, width + f), da = g.da.mat()(t, f);
          const double s = 1 / (1 + std::exp(-gate)), w = weighted ? g.weight[static_cast<size_t>(t)] : 1.0;
          dgate.push_back(std::abs(da * w * up) * s * (1 + std::abs(gate)));
          dup.push_back(std::abs(da * w * gate * s));
          dot += std::abs(da * gate * s * up);
        }
        append(dgu_size, dgate);
        append(dgu_size, dup);
        dweight_size.push_back(dot);
      }
      EXPECT_TRUE(close(g.a.values(), exact_a, kLogistic + 3));
      // s twice (once as 1 - s, whose error is that of s), and eight more operations.
      EXPECT_TRUE(close(g.dgu.values(), gradients(exact, gu), dgu_size, 2 * kLogistic + 8));
      if (weighted) {
        EXPECT_TRUE(close(g.dweight, gradients(exact, weight), dweight_size, kLogistic + row_sum_steps(width) + 3));
      }
      EXPECT_TRUE(g.a.intact() && g.dgu.intact());
    }
  }
}

TEST(Swiglu, TheHandWrittenDerivativeIsThatOfTheReference) {
  Random random(8);
  const int64_t tokens = 3, width = 7;
  Tape tape;
  const std::vector<double> gu_value = random.normals<double>(tokens * 2 * width, 2.0),
                            weight_value = random.normals<double>(tokens);
  const std::vector<double> da = random.normals<double>(tokens * width);
  const std::vector<Recorded> gu = variables(tape, gu_value), weight = variables(tape, weight_value);
  std::vector<Recorded> a(da.size());
  reference::swiglu_forward<Recorded>(
      {mat(a.data(), tokens, width), mat(gu.data(), tokens, 2 * width), vec(weight.data(), tokens)});
  const Gradient exact = tape.gradient(a, da);
  std::vector<double> dgu(gu.size()), dweight(weight.size());
  reference::swiglu_backward<double>({mat(dgu.data(), tokens, 2 * width), vec(dweight.data(), tokens),
                                      mat(da.data(), tokens, width), mat(gu_value.data(), tokens, 2 * width),
                                      vec(weight_value.data(), tokens)});
  EXPECT_TRUE(close(dgu, gradients(exact, gu), 50, 10.0, kRoundF64));
  EXPECT_TRUE(close(dweight, gradients(exact, weight), 50, 10.0, kRoundF64));
}

TEST_P(SwigluTest, TheDerivativeMayOverwriteItsInput) {
  Gated apart(5, 37, true), in_place = apart;
  apart.backward(stream(), 0, 5);
  swiglu_backward(stream(), {in_place.gu.mat(), vec(in_place.dweight.data(), 5), in_place.da.mat(), in_place.gu.mat(),
                             in_place.weights(0, 5)});
  EXPECT_TRUE(same_bits(in_place.gu.values(), apart.dgu.values()));
  EXPECT_TRUE(same_bits(in_place.dweight, apart.dweight));
}

TEST_P(SwigluTest, NoTraceOfThreadsOrCuts) {
  expect_no_trace_of_threads(isa(), [&](const Stream& stream) {
    Gated g(300, 131, true);
    g.forward(stream, 0, 300);
    g.backward(stream, 0, 300);
    return g.all();
  });
  Gated g(31, 45, true);
  expect_no_trace_of_cuts(
      stream(), 31,
      [&](const Stream& s, int64_t begin, int64_t end) {
        g.forward(s, begin, end);
        g.backward(s, begin, end);
      },
      [&] { return g.all(); });
}

TEST(Swiglu, Avx512LikeAvx2) {
  expect_avx512_like_avx2([](const Stream& stream) {
    Gated g(5, 77, true, 1, 20.0);
    g.forward(stream, 0, 5);
    g.backward(stream, 0, 5);
    return g.all();
  });
}

TEST_P(SwigluTest, ExtremeGates) {
  const std::vector<float> gate = {-1e4f, -100.0f, -88.8f, -88.0f, -20.0f, -0.0f, 0.0f, 20.0f, 88.0f, 89.0f, 1e4f};
  const int64_t width = static_cast<int64_t>(gate.size());
  std::vector<float> gu = gate, a(gate.size()), da(gate.size(), 1.0f), dgu(2 * gate.size());
  gu.resize(2 * gate.size(), 1.0f);  // up = 1
  swiglu_forward(stream(), {mat(a.data(), 1, width), mat<const float>(gu.data(), 1, 2 * width), {}});
  swiglu_backward(stream(), {mat(dgu.data(), 1, 2 * width),
                             {},
                             mat<const float>(da.data(), 1, width),
                             mat<const float>(gu.data(), 1, 2 * width),
                             {}});
  for (size_t i = 0; i < gate.size(); ++i) {
    const double g = gate[i], s = 1 / (1 + std::exp(-g));
    EXPECT_NEAR(a[i], g * s, rounding_bound(kLogistic + 3) * std::abs(g * s) + kLost) << g;
    EXPECT_NEAR(dgu[i], s * (1 + g * (1 - s)), rounding_bound(2 * kLogistic + 8) * s * (1 + std::abs(g)) + kLost) << g;
  }
}

TEST_P(SwigluTest, ARowThatIsNotANumberStaysAlone) {
  Gated clean(3, 18, true), g = clean;
  g.gu.mat()(1, 17) = std::numeric_limits<float>::quiet_NaN();
  for (Gated* one : {&clean, &g}) {
    one->forward(stream(), 0, 3);
    one->backward(stream(), 0, 3);
  }
  EXPECT_TRUE(std::isnan(g.a.mat()(1, 17)));
  EXPECT_TRUE(std::isnan(g.dweight[1]));
  for (int64_t t : {0, 2})
    for (int64_t f = 0; f < 18; ++f) EXPECT_EQ(g.a.mat()(t, f), clean.a.mat()(t, f));
}

}  // namespace
}  // namespace tael
