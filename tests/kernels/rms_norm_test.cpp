#include "kernels/rms_norm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/rms_norm_reference.hpp"
#include "tests/kernels/row_cases.hpp"

namespace tael {
namespace {

using namespace testing;

constexpr double kEps = 1e-6;

struct Norm {  // inputs and outputs of all three functions on T x D
  int64_t tokens, channels;
  Matrix<float> x, dy, y, dx;
  std::vector<float> gain, r, dgain;

  Norm(int64_t t, int64_t d, uint64_t seed = 1, double deviation = 1.0)
      : tokens(t),
        channels(d),
        x(t, d),
        dy(t, d),
        y(t, d),
        dx(t, d),
        r(static_cast<size_t>(t)),
        dgain(static_cast<size_t>(d), 0.5f) {
    Random random(seed);
    x = Matrix<float>(t, d, random.normals(t * d, deviation));
    dy = Matrix<float>(t, d, random.normals(t * d));
    gain = random.uniforms(d, 0.5, 1.5);
  }
  void forward(const Stream& stream, int64_t begin, int64_t end) {
    rms_norm_forward(stream,
                     {rows(y.mat(), begin, end), vec(r.data() + begin, end - begin),
                      rows(Mat<const float>(x.mat()), begin, end), vec<const float>(gain.data(), channels), kEps});
  }
  void input_grad(const Stream& stream, int64_t begin, int64_t end, bool accumulate = false) {
    rms_norm_input_grad(stream,
                        {rows(dx.mat(), begin, end), rows(Mat<const float>(dy.mat()), begin, end),
                         rows(Mat<const float>(x.mat()), begin, end), vec<const float>(r.data() + begin, end - begin),
                         vec<const float>(gain.data(), channels), accumulate});
  }
  void weight_grad(const Stream& stream, int64_t begin, int64_t end, int64_t length, int64_t pieces) {
    rms_norm_weight_grad(stream, {vec(dgain.data(), channels), rows(Mat<const float>(dy.mat()), begin, end),
                                  rows(Mat<const float>(x.mat()), begin, end),
                                  vec<const float>(r.data() + begin, end - begin), length, pieces});
  }
  std::vector<float> all() const {
    std::vector<float> out = y.values();
    append(out, dx.values());
    append(out, r);
    append(out, dgain);
    return out;
  }
};

class RmsNormTest : public IsaTest {};
INSTANTIATE_FOR_EVERY_ISA(RmsNormTest);

TEST_P(RmsNormTest, ForwardAndGradientsAgreeWithTheExactOnes) {
  for (auto [tokens, channels] : {std::pair{1, 1}, {1, 16}, {3, 7}, {5, 17}, {2, 33}, {4, 128}, {3, 131}}) {
    Norm n(tokens, channels, 7);
    n.forward(stream(), 0, tokens);
    n.input_grad(stream(), 0, tokens);
    n.weight_grad(stream(), 0, tokens, tokens, 1);

    Tape tape;
    const std::vector<Recorded> x = variables(tape, n.x.values()), gain = variables(tape, n.gain);
    std::vector<Recorded> y(x.size()), r(static_cast<size_t>(tokens));
    reference::rms_norm_forward<Recorded>({mat(y.data(), tokens, channels), vec(r.data(), tokens),
                                           mat(x.data(), tokens, channels), vec(gain.data(), channels), kEps});
    const std::vector<double> dy = to_double(n.dy.values());
    const Gradient gradient = tape.gradient(y, dy);

    // r: the sum, its terms' products, division, eps and its rounding, root, reciprocal.
    const double r_steps = row_sum_steps(channels) + 6;
    std::vector<double> exact_y, exact_r, dx_size, dgain_size(static_cast<size_t>(channels), 0.5);
    for (const Recorded& v : y) exact_y.push_back(v.value);
    for (const Recorded& v : r) exact_r.push_back(v.value);
    EXPECT_TRUE(close(n.r, exact_r, r_steps));
    EXPECT_TRUE(close(n.y.values(), exact_y, r_steps + 2));
    for (int64_t t = 0; t < tokens; ++t) {
      const double r_t = exact_r[static_cast<size_t>(t)];
      auto term = [&](int64_t d) { return std::abs(n.gain[static_cast<size_t>(d)] * n.dy.mat()(t, d)); };
      double dot = 0;
      for (int64_t d = 0; d < channels; ++d) dot += term(d) * std::abs(n.x.mat()(t, d));
      for (int64_t d = 0; d < channels; ++d) {
        dx_size.push_back(r_t *
                          (term(d) + std::abs(n.x.mat()(t, d)) * r_t * r_t * dot / static_cast<double>(channels)));
        dgain_size[static_cast<size_t>(d)] += std::abs(n.dy.mat()(t, d) * n.x.mat()(t, d) * r_t);
      }
    }
    // r enters three times; then the dot product's sum and products, and the last four operations.
    EXPECT_TRUE(close(n.dx.values(), gradients(gradient, x), dx_size, 3 * r_steps + row_sum_steps(channels) + 10));
    std::vector<double> dgain = gradients(gradient, gain);
    for (double& g : dgain) g += 0.5;  // what was there
    EXPECT_TRUE(close(n.dgain, dgain, dgain_size, r_steps + static_cast<double>(tokens) + 3));
    EXPECT_TRUE(n.y.intact() && n.dx.intact());
  }
}

TEST(RmsNorm, TheHandWrittenDerivativeIsThatOfTheReference) {
  Random random(3);
  const int64_t tokens = 3, channels = 9;
  Tape tape;
  const std::vector<double> dy = random.normals<double>(tokens * channels);
  const std::vector<Recorded> x = variables(tape, random.normals<double>(tokens * channels));
  const std::vector<Recorded> gain = variables(tape, random.normals<double>(channels));
  std::vector<Recorded> y(x.size()), r(3);
  reference::rms_norm_forward<Recorded>({mat(y.data(), tokens, channels), vec(r.data(), tokens),
                                         mat(x.data(), tokens, channels), vec(gain.data(), channels), kEps});
  const Gradient exact = tape.gradient(y, dy);

  std::vector<double> x_value, gain_value, r_value, dx(x.size()), dgain(gain.size());
  for (const Recorded& v : x) x_value.push_back(v.value);
  for (const Recorded& v : gain) gain_value.push_back(v.value);
  for (const Recorded& v : r) r_value.push_back(v.value);
  reference::rms_norm_input_grad<double>({mat(dx.data(), tokens, channels), mat(dy.data(), tokens, channels),
                                          mat<const double>(x_value.data(), tokens, channels),
                                          vec<const double>(r_value.data(), tokens),
                                          vec<const double>(gain_value.data(), channels)});
  reference::rms_norm_weight_grad<double>({vec(dgain.data(), channels), mat(dy.data(), tokens, channels),
                                           mat<const double>(x_value.data(), tokens, channels),
                                           vec<const double>(r_value.data(), tokens), tokens, 2});
  EXPECT_TRUE(close(dx, gradients(exact, x), 200, 1.0, kRoundF64));
  EXPECT_TRUE(close(dgain, gradients(exact, gain), 200, 1.0, kRoundF64));
}

TEST_P(RmsNormTest, SumsInTheFixedOrderBitForBit) {
  for (int64_t channels : {1, 15, 16, 17, 100, 515}) {
    Norm n(2, channels, 11);
    n.forward(stream(), 0, 2);
    for (int64_t t = 0; t < 2; ++t) {
      std::vector<float> squares;
      for (int64_t d = 0; d < channels; ++d) squares.push_back(n.x.mat()(t, d) * n.x.mat()(t, d));
      const float r =
          1.0f / std::sqrt(row_sum_in_order(squares) / static_cast<float>(channels) + static_cast<float>(kEps));
      EXPECT_EQ(bits_of(n.r[static_cast<size_t>(t)]), bits_of(r)) << channels;
      for (int64_t d = 0; d < channels; ++d)
        EXPECT_EQ(bits_of(n.y.mat()(t, d)), bits_of(n.x.mat()(t, d) * r * n.gain[static_cast<size_t>(d)]));
    }
  }
}

TEST_P(RmsNormTest, NoTraceOfThreadsOrCuts) {
  const int64_t tokens = 300, channels = 261, length = 100;
  expect_no_trace_of_threads(isa(), [&](const Stream& stream) {
    Norm n(tokens, channels);
    n.forward(stream, 0, tokens);
    n.input_grad(stream, 0, tokens);
    n.weight_grad(stream, 0, tokens, length, 4);
    return n.all();
  });
  Norm n(37, channels);
  expect_no_trace_of_cuts(
      stream(), 37,
      [&](const Stream& s, int64_t begin, int64_t end) {
        n.forward(s, begin, end);
        n.input_grad(s, begin, end);
      },
      [&] { return n.all(); });
}

TEST(RmsNorm, NoTraceOfTheInstructionSet) {
  expect_no_trace_of_isa([](const Stream& stream) {
    Norm n(12, 77);
    n.forward(stream, 0, 12);
    n.input_grad(stream, 0, 12);
    n.weight_grad(stream, 0, 12, 6, 3);
    return n.all();
  });
}

TEST_P(RmsNormTest, GainGradientAddsPiecesByTheTreeSequenceAfterSequence) {
  const int64_t tokens = 22, channels = 19, length = 11;
  for (int64_t pieces : {1, 2, 3, 4, 7, 11, 16}) {
    Norm n(tokens, channels, 5);
    n.forward(stream(), 0, tokens);
    std::vector<float> expected(n.dgain);
    const std::vector<float> dy = n.dy.values(), x = n.x.values();
    reference::rms_norm_weight_grad<float>({vec(expected.data(), channels), mat(dy.data(), tokens, channels),
                                            mat(x.data(), tokens, channels), vec<const float>(n.r.data(), tokens),
                                            length, pieces});
    // Two sequences in one call, and each in its own.
    Norm singly = n;
    n.weight_grad(stream(), 0, tokens, length, pieces);
    EXPECT_TRUE(same_bits(n.dgain, expected)) << pieces << " pieces";
    singly.weight_grad(stream(), 0, length, length, pieces);
    singly.weight_grad(stream(), length, tokens, length, pieces);
    EXPECT_TRUE(same_bits(singly.dgain, expected)) << pieces << " pieces";
  }
}

TEST_P(RmsNormTest, AccumulatesOnTopOfWhatIsThere) {
  Norm n(3, 21), once = n;
  n.forward(stream(), 0, 3);
  n.input_grad(stream(), 0, 3);
  once.r = n.r;
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t d = 0; d < 21; ++d) once.dx.mat()(t, d) = 0.25f;
  once.input_grad(stream(), 0, 3, true);
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t d = 0; d < 21; ++d) EXPECT_EQ(once.dx.mat()(t, d), 0.25f + n.dx.mat()(t, d));
}

TEST_P(RmsNormTest, ARowThatIsNotANumberStaysAlone) {
  Norm clean(4, 35), n = clean;
  n.x.mat()(2, 34) = std::numeric_limits<float>::quiet_NaN();
  clean.forward(stream(), 0, 4);
  n.forward(stream(), 0, 4);
  for (int64_t t = 0; t < 4; ++t)
    for (int64_t d = 0; d < 35; ++d) {
      if (t == 2)
        EXPECT_TRUE(std::isnan(n.y.mat()(t, d)));
      else
        EXPECT_EQ(n.y.mat()(t, d), clean.y.mat()(t, d));
    }
}

TEST_P(RmsNormTest, ZerosAndTinyAndHugeNumbers) {
  Norm zeros(1, 40);
  zeros.x = Matrix<float>(1, 40, std::vector<float>(40, 0.0f));
  zeros.forward(stream(), 0, 1);
  EXPECT_EQ(zeros.r[0], 1.0f / std::sqrt(static_cast<float>(kEps)));
  for (float y : zeros.y.values()) EXPECT_EQ(y, 0.0f);
  Norm huge(1, 40, 3, 1e15);  // squares near 1e30 stay in range
  huge.forward(stream(), 0, 1);
  for (float y : huge.y.values()) EXPECT_TRUE(std::isfinite(y));
}

TEST_P(RmsNormTest, NoRowsAndNoRootIsFine) {
  Norm n(2, 8);
  n.forward(stream(), 1, 1);
  rms_norm_forward(stream(), {n.y.mat(), {}, n.x.mat(), vec<const float>(n.gain.data(), 8), kEps});
  EXPECT_EQ(n.r[0], 0.0f);
}

}  // namespace
}  // namespace tael
