#include "kernels/rope.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/rope_reference.hpp"
#include "tests/kernels/row_cases.hpp"

namespace tael {
namespace {

using namespace testing;

struct Rotation {
  int64_t tokens, positions, pairs, heads, head_dim, offset;
  Matrix<float> x;
  std::vector<float> cosine, sine;

  Rotation(int64_t t, int64_t p, int64_t j, int64_t h, int64_t dim, int64_t o, uint64_t seed = 1)
      : tokens(t), positions(p), pairs(j), heads(h), head_dim(dim), offset(o), x(t, h * dim) {
    Random random(seed);
    x = Matrix<float>(t, h * dim, random.normals(t * h * dim));
    for (int64_t i = 0; i < p * j; ++i) {
      const double angle = random.uniform(0, 100);
      cosine.push_back(static_cast<float>(std::cos(angle)));
      sine.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  Rope<float> args(bool inverse = false) {
    return {x.mat(),
            mat<const float>(cosine.data(), positions, pairs),
            mat<const float>(sine.data(), positions, pairs),
            heads,
            head_dim,
            offset,
            inverse};
  }
};

class RopeTest : public IsaTest {};
INSTANTIATE_FOR_EVERY_ISA(RopeTest);

TEST_P(RopeTest, EqualsTheReferenceBitForBit) {
  struct Shape {
    int64_t pairs, heads, head_dim, offset;
  };
  for (const Shape& s :
       {Shape{1, 1, 2, 0}, {3, 2, 7, 1}, {8, 3, 40, 24}, {16, 2, 96, 64}, {32, 1, 576, 512}, {11, 4, 30, 5}}) {
    for (bool inverse : {false, true}) {
      Rotation r(10, 5, s.pairs, s.heads, s.head_dim, s.offset, 3);
      Rotation expected = r;
      rope(stream(), r.args(inverse));
      reference::rope(expected.args(inverse));
      EXPECT_TRUE(same_bits(r.x.values(), expected.x.values())) << s.pairs << " pairs";
      EXPECT_TRUE(r.x.intact());
    }
  }
}

TEST_P(RopeTest, ARotationByHand) {
  // Position 1, one pair, a quarter turn: (1, 2) becomes (-2, 1).
  std::vector<float> x = {1, 2, 1, 2}, cosine = {1, 0}, sine = {0, 1};
  rope(stream(),
       {mat(x.data(), 2, 2), mat<const float>(cosine.data(), 2, 1), mat<const float>(sine.data(), 2, 1), 1, 2, 0});
  EXPECT_EQ(x, (std::vector<float>{1, 2, -2, 1}));
}

TEST_P(RopeTest, InverseIsTheExactDerivative) {
  const int64_t tokens = 3, pairs = 9, dim = 20;
  Rotation r(tokens, 3, pairs, 1, dim, 2, 9);
  Tape tape;
  const std::vector<Recorded> x = variables(tape, r.x.values()), cosine = constants(r.cosine), sine = constants(r.sine);
  std::vector<Recorded> y = x;
  reference::rope<Recorded>(
      {mat(y.data(), tokens, dim), mat(cosine.data(), 3, pairs), mat(sine.data(), 3, pairs), 1, dim, 2});
  Random random(4);
  const std::vector<float> dy = random.normals(tokens * dim);
  const Gradient exact = tape.gradient(y, to_double(dy));
  r.x = Matrix<float>(tokens, dim, dy);
  rope(stream(), r.args(true));
  // Two products and a sum; a pair's size bounds what cancels.
  EXPECT_TRUE(close(r.x.values(), gradients(exact, x), 3, 8.0));
}

TEST_P(RopeTest, NoTraceOfThreads) {
  expect_no_trace_of_threads(isa(), [&](const Stream& stream) {
    Rotation r(700, 70, 16, 4, 96, 64);
    rope(stream, r.args());
    return r.x.values();
  });
}

TEST(Rope, NoTraceOfTheInstructionSet) {
  expect_no_trace_of_isa([](const Stream& stream) {
    Rotation r(7, 7, 13, 3, 31, 4);
    rope(stream, r.args());
    return r.x.values();
  });
}

TEST_P(RopeTest, ARowThatIsNotANumberStaysAlone) {
  Rotation clean(6, 3, 8, 2, 20, 4), r = clean;
  r.x.mat()(3, 5) = std::numeric_limits<float>::quiet_NaN();
  rope(stream(), clean.args());
  rope(stream(), r.args());
  for (int64_t t = 0; t < 6; ++t)
    for (int64_t d = 0; d < 40; ++d) {
      if (t == 3 && (d == 4 || d == 5))
        EXPECT_TRUE(std::isnan(r.x.mat()(t, d)));
      else
        EXPECT_EQ(r.x.mat()(t, d), clean.x.mat()(t, d));
    }
}

}  // namespace
}  // namespace tael
