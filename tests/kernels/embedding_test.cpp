#include "kernels/embedding.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/embedding_reference.hpp"
#include "tests/kernels/row_cases.hpp"

namespace tael {
namespace {

using namespace testing;

struct Lookup {
  int64_t sequences, length, vocab, channels, shift;
  Matrix<float> table, y, dy, dtable;
  std::vector<int32_t> token;

  Lookup(int64_t b, int64_t s, int64_t v, int64_t d, int64_t ahead = 0, uint64_t seed = 1)
      : sequences(b),
        length(s),
        vocab(v),
        channels(d),
        shift(ahead),
        table(v, d),
        y(b * s, d),
        dy(b * s, d),
        dtable(v, d) {
    Random random(seed);
    table = Matrix<float>(v, d, random.normals(v * d));
    dy = Matrix<float>(b * s, d, random.normals(b * s * d));
    dtable = Matrix<float>(v, d, random.normals(v * d));
    token = random.integers(b * (s + ahead), v);
  }
  Mat<const int32_t> tokens() const { return mat<const int32_t>(token.data(), sequences, length + shift); }
  EmbeddingForward<float> forward() { return {y.mat(), table.mat(), tokens(), length, shift}; }
  EmbeddingGrad<float> grad() { return {dtable.mat(), dy.mat(), tokens(), length, shift}; }
};

class EmbeddingTest : public IsaTest {};
INSTANTIATE_FOR_EVERY_ISA(EmbeddingTest);

TEST_P(EmbeddingTest, EqualsTheReferenceBitForBit) {
  for (int64_t channels : {1, 16, 17, 255, 256, 257, 600}) {
    for (int64_t shift : {0, 1, 2}) {
      Lookup l(2, 9, 5, channels, shift), expected = l;  // few rows of the table: every one is hit often
      embedding_forward(stream(), l.forward());
      embedding_grad(stream(), l.grad());
      reference::embedding_forward(expected.forward());
      reference::embedding_grad(expected.grad());
      EXPECT_TRUE(same_bits(l.y.values(), expected.y.values()));
      EXPECT_TRUE(same_bits(l.dtable.values(), expected.dtable.values()));
      EXPECT_TRUE(l.y.intact() && l.dtable.intact());
    }
  }
}

TEST_P(EmbeddingTest, OneTokenEverywhereAndTheLastOfTheTable) {
  Lookup l(2, 50, 7, 33);
  for (int32_t& t : l.token) t = 6;
  Lookup expected = l;
  embedding_forward(stream(), l.forward());
  embedding_grad(stream(), l.grad());
  reference::embedding_grad(expected.grad());
  for (int64_t t = 0; t < 100; ++t)
    for (int64_t d = 0; d < 33; ++d) EXPECT_EQ(l.y.mat()(t, d), l.table.mat()(6, d));
  EXPECT_TRUE(same_bits(l.dtable.values(), expected.dtable.values()));
}

TEST_P(EmbeddingTest, TheDerivativeIsExact) {
  const int64_t channels = 5;
  Lookup l(2, 6, 4, channels, 1);
  Tape tape;
  const std::vector<Recorded> table = variables(tape, l.table.values());
  std::vector<Recorded> y(static_cast<size_t>(12 * channels));
  reference::embedding_forward<Recorded>(
      {mat(y.data(), 12, channels), mat(table.data(), 4, channels), l.tokens(), 6, 1});
  std::vector<double> expected = gradients(tape.gradient(y, to_double(l.dy.values())), table), size(expected.size());
  const std::vector<float> there = l.dtable.values(), dy = l.dy.values();
  for (size_t i = 0; i < expected.size(); ++i) {
    expected[i] += there[i];
    size[i] = std::abs(there[i]);
    for (size_t t = 0; t < 12; ++t)
      size[i] += std::abs(dy[t * static_cast<size_t>(channels) + i % static_cast<size_t>(channels)]);
  }
  embedding_grad(stream(), l.grad());
  EXPECT_TRUE(close(l.dtable.values(), expected, size, 12));
}

TEST_P(EmbeddingTest, SequenceAfterSequenceEqualsAllAtOnce) {
  Lookup l(3, 40, 6, 70), singly = l;
  embedding_grad(stream(), l.grad());
  for (int64_t b = 0; b < 3; ++b)
    embedding_grad(stream(), {singly.dtable.mat(), rows(Mat<const float>(singly.dy.mat()), b * 40, (b + 1) * 40),
                              rows(singly.tokens(), b, b + 1), 40, 0});
  EXPECT_TRUE(same_bits(l.dtable.values(), singly.dtable.values()));
}

TEST_P(EmbeddingTest, NoTraceOfThreads) {
  expect_no_trace_of_threads(isa(), [&](const Stream& stream) {
    Lookup l(2, 100, 30, 700);
    embedding_forward(stream, l.forward());
    embedding_grad(stream, l.grad());
    std::vector<float> out = l.y.values();
    append(out, l.dtable.values());
    return out;
  });
}

TEST_P(EmbeddingTest, WhatIsNotANumberStaysInItsRow) {
  Lookup l(1, 8, 5, 20);
  l.token = {0, 1, 2, 3, 4, 1, 2, 3};
  l.dy.mat()(4, 19) = std::numeric_limits<float>::quiet_NaN();
  embedding_grad(stream(), l.grad());
  for (int64_t v = 0; v < 5; ++v)
    for (int64_t d = 0; d < 20; ++d) EXPECT_EQ(std::isnan(l.dtable.mat()(v, d)), v == 4 && d == 19);
}

}  // namespace
}  // namespace tael
