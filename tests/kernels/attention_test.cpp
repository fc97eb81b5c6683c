#include "kernels/attention.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/attention_reference.hpp"
#include "kernels/gemm.hpp"
#include "tests/harness/oracle.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"
#include "tests/kernels/isa_cases.hpp"

namespace tael {
namespace {

using testing::close;
using testing::kRoundF32;
using testing::kTinyF32;
using testing::Recorded;
using testing::same_bits;

struct Case {
  const char* name;
  int64_t sequences, length, heads, nope, rope, value;
  std::vector<int64_t> documents;  // lengths, from a sequence's start; the last goes to its end
  double deviation = 1.0;          // of queries and keys
  int64_t pieces = 1;
};

template <class T>
struct Inputs {
  std::vector<T> q, kv, k_rope;
};

// The inputs of a case, the float results, and views of both.
struct Problem {
  AttentionShape shape;
  int64_t rows, pieces;
  Inputs<float> in;
  std::vector<float> grad;  // of the output
  std::vector<int32_t> document_start;
  std::vector<float> o, lse, dq, dkv, dk_rope, scratch;

  explicit Problem(const Case& c, uint64_t seed = 1)
      : shape{c.heads, c.nope, c.rope, c.value, c.length, 1.0 / std::sqrt(static_cast<double>(c.nope + c.rope))},
        rows(c.sequences * c.length),
        pieces(c.pieces) {
    testing::Random random(seed);
    in.q = random.normals(rows * q_width(), c.deviation);
    in.kv = random.normals(rows * kv_width(), c.deviation);
    in.k_rope = random.normals(rows * shape.rope, c.deviation);
    grad = random.normals(rows * o_width());
    for (int64_t t = 0; !c.documents.empty() && t < rows; ++t) {
      int64_t start = 0, end = 0;
      for (const int64_t length : c.documents) {
        end += length;
        if (t % c.length >= end) start = end;
      }
      document_start.push_back(static_cast<int32_t>(start));
    }
    resize_results();
  }

  int64_t q_width() const { return shape.heads * (shape.nope + shape.rope); }
  int64_t kv_width() const { return shape.heads * (shape.nope + shape.value); }
  int64_t o_width() const { return shape.heads * shape.value; }

  void resize_results() {  // with numbers that nobody expects: everything must be overwritten
    const auto fill = [&](std::vector<float>& x, int64_t columns) {
      x.assign(static_cast<size_t>(rows * columns), -77);
    };
    fill(o, o_width()), fill(lse, shape.heads), fill(dq, q_width()), fill(dkv, kv_width()), fill(dk_rope, shape.rope);
    const AttentionScratch s = attention_backward_scratch(rows, shape);
    scratch.assign(static_cast<size_t>(s.rows * s.cols), -77);
  }

  template <class T>
  AttentionForward<T> forward(std::vector<T>& to_o, std::vector<T>& to_lse, const Inputs<T>& from) const {
    return {mat(to_o.data(), rows, o_width()),
            mat(to_lse.data(), rows, shape.heads),
            mat(from.q.data(), rows, q_width()),
            mat(from.kv.data(), rows, kv_width()),
            mat(from.k_rope.data(), rows, shape.rope),
            vec(document_start.data(), document_start.empty() ? 0 : rows),
            shape};
  }

  void run(const Stream& stream) {
    attention_forward(stream, forward(o, lse, in));
    const AttentionScratch s = attention_backward_scratch(rows, shape);
    attention_backward(
        stream, {mat(dq.data(), rows, q_width()), mat(dkv.data(), rows, kv_width()),
                 mat(dk_rope.data(), rows, shape.rope), mat(scratch.data(), s.rows, s.cols),
                 mat<const float>(grad.data(), rows, o_width()), mat<const float>(o.data(), rows, o_width()),
                 mat<const float>(in.q.data(), rows, q_width()), mat<const float>(in.kv.data(), rows, kv_width()),
                 mat<const float>(in.k_rope.data(), rows, shape.rope), mat<const float>(lse.data(), rows, shape.heads),
                 vec(std::as_const(document_start).data(), document_start.empty() ? 0 : rows), shape, pieces});
  }

  // Sequence `s` alone, or positions [begin, end) of every sequence as sequences of their own.
  Problem cut(int64_t first_row, int64_t count, int64_t length) const {
    Problem part = *this;
    part.rows = count;
    part.shape.sequence_length = length;
    part.document_start.clear();
    const auto take = [&](std::vector<float>& to, const std::vector<float>& from, int64_t columns) {
      to.assign(from.begin() + first_row * columns, from.begin() + (first_row + count) * columns);
    };
    take(part.in.q, in.q, q_width()), take(part.in.kv, in.kv, kv_width());
    take(part.in.k_rope, in.k_rope, shape.rope), take(part.grad, grad, o_width());
    part.resize_results();
    return part;
  }
};

std::vector<float> rows_of(const std::vector<float>& x, int64_t columns, int64_t first, int64_t count) {
  return {x.begin() + first * columns, x.begin() + (first + count) * columns};
}

// Everything that the rows [first, first + whole.rows of part) of `whole` hold equals `part`, bit for bit.
void expect_same_rows(const Problem& whole, int64_t first, const Problem& part, bool backward = true) {
  EXPECT_TRUE(same_bits(rows_of(whole.o, whole.o_width(), first, part.rows), part.o));
  EXPECT_TRUE(same_bits(rows_of(whole.lse, whole.shape.heads, first, part.rows), part.lse));
  EXPECT_TRUE(same_bits(rows_of(whole.dq, whole.q_width(), first, part.rows), part.dq));
  if (!backward) return;
  EXPECT_TRUE(same_bits(rows_of(whole.dkv, whole.kv_width(), first, part.rows), part.dkv));
  EXPECT_TRUE(same_bits(rows_of(whole.dk_rope, whole.shape.rope, first, part.rows), part.dk_rope));
}

template <class To, class From>
std::vector<To> converted(const std::vector<From>& x) {
  return std::vector<To>(x.begin(), x.end());
}

// What the results may differ by, in the manner of tests/harness/tolerance.hpp: a magnitude for each element and a
// number of roundings for all. u is the unit roundoff.
struct Bounds {
  std::vector<double> o, lse, dq, dkv, dk_rope;  // magnitudes
  double forward_steps = 0, backward_steps = 0;
};

// A score is a chain of n products of scaled numbers, so it is off by at most (n + 3) u A with A the largest sum of
// |scale q k|; taking the maximum or lse away (both at most A + log S) adds 2 u (2 A + log S), and exp 2 u per block of
// keys and at the end. All of this, E u, is the relative error of a softmax weight. The output is a weighted mean: 2 E
// (weight and total) and a chain over the keys. Score gradients are w (dp - delta) with |dp|, |delta| <= G = max over
// keys of sum |do v|: again E, and the chains of o, delta and dp. A weight below the normal numbers is zero, an error
// of at most the smallest of them. Every gradient is then a chain of such products.
Bounds bounds_of(const Problem& p, const std::vector<double>& lse) {
  const AttentionShape& s = p.shape;
  Bounds b;
  b.o.resize(p.o.size()), b.lse.resize(p.lse.size());
  b.dq.resize(p.dq.size()), b.dkv.resize(p.dkv.size()), b.dk_rope.resize(p.dk_rope.size());
  double largest_score = 0;
  const auto at = [](const std::vector<float>& x, int64_t i) { return static_cast<double>(x[static_cast<size_t>(i)]); };
  const auto to = [](std::vector<double>& x, int64_t i) -> double& { return x[static_cast<size_t>(i)]; };
  for (int64_t t = 0; t < p.rows; ++t) {
    const int64_t base = t - t % s.sequence_length;
    const int64_t first = base + (p.document_start.empty() ? 0 : p.document_start[static_cast<size_t>(t)]);
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t q = t * p.q_width() + h * (s.nope + s.rope), o = t * p.o_width() + h * s.value;
      const auto kv = [&](int64_t j) { return j * p.kv_width() + h * (s.nope + s.value); };
      double grad_bound = 0;
      for (int64_t j = first; j <= t; ++j) {
        double sum = 0;
        for (int64_t v = 0; v < s.value; ++v) sum += std::abs(at(p.grad, o + v) * at(p.in.kv, kv(j) + s.nope + v));
        grad_bound = std::max(grad_bound, sum);
      }
      for (int64_t j = first; j <= t; ++j) {
        double score = 0, size = 0;
        const auto key = [&](int64_t d) {
          return d < s.nope ? at(p.in.kv, kv(j) + d) : at(p.in.k_rope, j * s.rope + d - s.nope);
        };
        for (int64_t d = 0; d < s.nope + s.rope; ++d) {
          score += s.scale * at(p.in.q, q + d) * key(d);
          size += std::abs(s.scale * at(p.in.q, q + d) * key(d));
        }
        largest_score = std::max(largest_score, size);
        const double w = std::exp(score - lse[static_cast<size_t>(t * s.heads + h)]) + kTinyF32 / kRoundF32;
        const double dscore = 2 * w * grad_bound * s.scale;
        for (int64_t v = 0; v < s.value; ++v) {
          to(b.o, o + v) += w * std::abs(at(p.in.kv, kv(j) + s.nope + v));
          to(b.dkv, kv(j) + s.nope + v) += w * std::abs(at(p.grad, o + v));
        }
        for (int64_t d = 0; d < s.nope + s.rope; ++d) {
          to(b.dq, q + d) += dscore * std::abs(key(d));
          const double dk = dscore * std::abs(at(p.in.q, q + d));
          (d < s.nope ? to(b.dkv, kv(j) + d) : to(b.dk_rope, j * s.rope + d - s.nope)) += dk;
        }
      }
    }
  }
  const double n = static_cast<double>(s.sequence_length), depth = static_cast<double>(s.nope + s.rope);
  const double weight_error = (depth + 3) * largest_score + 2 * (2 * largest_score + std::log(n)) + 2 * (n / 64 + 2);
  b.forward_steps = 2 * weight_error + n + 2 * (n / 64 + 2);
  b.backward_steps = 2 * b.forward_steps + 2 * static_cast<double>(s.value) + n + static_cast<double>(s.heads) + 8;
  for (size_t i = 0; i < b.lse.size(); ++i) b.lse[i] = 1 + std::abs(lse[i]);
  return b;
}

// Forward against the reference in double; gradients against the exact gradients of the reference.
void expect_right(Problem& p, const Stream& stream) {
  p.run(stream);
  testing::Tape tape;
  const Inputs<Recorded> in{testing::variables(tape, p.in.q), testing::variables(tape, p.in.kv),
                            testing::variables(tape, p.in.k_rope)};
  std::vector<Recorded> o(p.o.size()), lse(p.lse.size());
  reference::attention_forward(p.forward(o, lse, in));
  std::vector<double> o_exact, lse_exact;
  for (const Recorded& x : o) o_exact.push_back(x.value);
  for (const Recorded& x : lse) lse_exact.push_back(x.value);
  const Bounds bounds = bounds_of(p, lse_exact);
  ASSERT_LT(testing::rounding_bound(bounds.backward_steps), 0.05) << "a bound that means nothing";
  EXPECT_TRUE(close(p.o, o_exact, bounds.o, bounds.forward_steps));
  EXPECT_TRUE(close(p.lse, lse_exact, bounds.lse, bounds.forward_steps));
  const std::vector<double> seeds = converted<double>(p.grad);
  const testing::Gradient gradient = tape.gradient(o, seeds);
  EXPECT_TRUE(close(p.dq, testing::gradients(gradient, in.q), bounds.dq, bounds.backward_steps));
  EXPECT_TRUE(close(p.dkv, testing::gradients(gradient, in.kv), bounds.dkv, bounds.backward_steps));
  EXPECT_TRUE(close(p.dk_rope, testing::gradients(gradient, in.k_rope), bounds.dk_rope, bounds.backward_steps));
}

const Case kCases[] = {
    {"one position", 1, 1, 1, 4, 2, 3, {}},
    {"one position, many sequences", 5, 1, 2, 3, 2, 5, {}},
    {"odd everything", 2, 37, 3, 5, 3, 7, {}, 1.0, 2},
    {"one panel", 1, 16, 2, 16, 16, 16, {}},
    {"a block and one key", 1, 65, 2, 6, 4, 17, {}, 1.0, 2},
    {"a block of queries and one", 1, 129, 1, 4, 2, 4, {}},
    {"four pieces", 1, 20, 4, 8, 18, 4, {}, 1.0, 4},
    {"three pieces of five heads", 1, 21, 5, 3, 2, 4, {}, 1.0, 3},
    {"no rope", 1, 30, 2, 8, 0, 8, {}},
    {"large scores", 1, 70, 2, 8, 4, 8, {}, 12.0},
    {"documents", 2, 67, 2, 5, 2, 6, {3, 1, 20, 30}, 1.0, 2},
    {"documents on blocks", 1, 140, 1, 4, 2, 4, {64, 64}},
    {"a document over blocks", 1, 135, 1, 4, 2, 4, {10, 115}},
};

class AttentionTest : public testing::IsaTest {};

TEST_P(AttentionTest, EqualsTheReferenceAndItsExactGradients) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    Problem problem(c);
    expect_right(problem, stream());
  }
}

TEST_P(AttentionTest, BitsDoNotDependOnThreads) {
  const Case c{"", 3, 150, 4, 12, 8, 20, {40, 70}, 1.0, 2};
  Problem one(c);
  one.run(stream());
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    Problem many(c);
    many.run(Stream(pool, isa()));
    expect_same_rows(one, 0, many);
  }
}

TEST_P(AttentionTest, ASequenceAloneHasTheSameBits) {
  Problem all({"", 3, 77, 2, 9, 6, 10, {}, 1.0, 2});
  all.run(stream());
  for (int64_t s = 0; s < 3; ++s) {
    Problem alone = all.cut(s * 77, 77, 77);
    alone.run(stream());
    expect_same_rows(all, s * 77, alone);
  }
}

TEST_P(AttentionTest, ARowDoesNotDependOnLaterRows) {
  Problem whole({"", 1, 200, 2, 9, 6, 10, {}});
  whole.run(stream());
  for (const int64_t length : {1, 15, 64, 70, 130}) {
    SCOPED_TRACE(length);
    Problem prefix = whole.cut(0, length, length);
    prefix.run(stream());
    expect_same_rows(whole, 0, prefix, false);
  }
}

TEST_P(AttentionTest, DocumentsOnBlocksHaveTheBitsOfSeparateCalls) {
  Problem whole({"", 1, 250, 2, 9, 6, 10, {64, 128}, 1.0, 2});
  whole.run(stream());
  const int64_t starts[] = {0, 64, 192, 250};
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const int64_t length = starts[i + 1] - starts[i];
    Problem document = whole.cut(starts[i], length, length);
    document.run(stream());
    expect_same_rows(whole, starts[i], document);
  }
}

TEST_P(AttentionTest, DocumentsOffBlocksAgreeWithSeparateCalls) {
  Problem whole({"", 1, 150, 2, 9, 6, 10, {50, 33}});
  whole.run(stream());
  const int64_t starts[] = {0, 50, 83, 150};
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const int64_t length = starts[i + 1] - starts[i];
    Problem part = whole.cut(starts[i], length, length);
    part.run(stream());
    const Bounds b = bounds_of(part, converted<double>(part.lse));
    EXPECT_TRUE(close(rows_of(whole.o, whole.o_width(), starts[i], length), part.o, b.o, 2 * b.forward_steps));
    EXPECT_TRUE(close(rows_of(whole.dq, whole.q_width(), starts[i], length), part.dq, b.dq, 2 * b.backward_steps));
    EXPECT_TRUE(close(rows_of(whole.dkv, whole.kv_width(), starts[i], length), part.dkv, b.dkv, 2 * b.backward_steps));
  }
}

TEST_P(AttentionTest, HugeScoresStayFinite) {
  Problem p({"", 1, 90, 2, 8, 4, 5, {}, 1e17});
  p.run(stream());
  for (const float x : p.lse) ASSERT_TRUE(std::isfinite(x));
  for (int64_t t = 0; t < p.rows; ++t)
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t v = 0; v < 5; ++v) {  // a weighted mean of the values seen
        float low = INFINITY, high = -INFINITY;
        for (int64_t j = 0; j <= t; ++j) {
          const float x = p.in.kv[static_cast<size_t>(j * p.kv_width() + h * 13 + 8 + v)];
          low = std::min(low, x), high = std::max(high, x);
        }
        const float o = p.o[static_cast<size_t>(t * p.o_width() + h * 5 + v)];
        EXPECT_TRUE(o >= low - 1e-6f * std::abs(low) && o <= high + 1e-6f * std::abs(high))
            << low << " " << o << " " << high;
      }
}

// The rope gradient's order is part of the contract: chains over the heads of a piece, joined by the tree.
TEST_P(AttentionTest, RopeGradientJoinsPiecesByTheTree) {
  for (const int64_t pieces : {1, 2, 3, 4}) {
    SCOPED_TRACE(pieces);
    Problem p({"", 1, 19, 5, 4, 18, 3, {}, 1.0, pieces});
    p.run(stream());
    for (int64_t t = 0; t < p.rows; ++t)
      for (int64_t d = 0; d < 18; ++d) {
        std::vector<float> sum(static_cast<size_t>(pieces), 0.0f);
        for (int64_t i = 0; i < pieces; ++i)
          for (int64_t h = piece_begin(5, pieces, i); h < piece_begin(5, pieces, i + 1); ++h)
            sum[static_cast<size_t>(i)] += p.scratch[static_cast<size_t>(t * 90 + h * 18 + d)];
        const float expected = pieces == 1   ? sum[0]
                               : pieces == 2 ? sum[0] + sum[1]
                               : pieces == 3 ? sum[0] + (sum[1] + sum[2])
                                             : (sum[0] + sum[1]) + (sum[2] + sum[3]);
        ASSERT_EQ(p.dk_rope[static_cast<size_t>(t * 18 + d)], expected) << t << " " << d;
      }
  }
}

// Rows of a wider matrix: nothing outside the columns is read or written.
TEST_P(AttentionTest, PitchesMayBeWider) {
  Problem p({"", 1, 35, 2, 5, 3, 7, {}});
  p.run(stream());
  const auto widened = [&](const std::vector<float>& x, int64_t columns, float fill) {
    std::vector<float> y(static_cast<size_t>(p.rows * (columns + 3)), fill);
    for (int64_t t = 0; t < p.rows; ++t) std::copy_n(x.begin() + t * columns, columns, y.begin() + t * (columns + 3));
    return y;
  };
  const auto view = [&](std::vector<float>& x, int64_t columns) { return mat(x.data(), p.rows, columns, columns + 3); };
  const auto empty = [&](int64_t columns) {
    return widened(std::vector<float>(static_cast<size_t>(p.rows * columns)), columns, 5.0f);
  };
  const float nan = std::nanf("");
  std::vector<float> q = widened(p.in.q, p.q_width(), nan), kv = widened(p.in.kv, p.kv_width(), nan);
  std::vector<float> k_rope = widened(p.in.k_rope, 3, nan), grad = widened(p.grad, p.o_width(), nan);
  std::vector<float> o = empty(p.o_width()), lse = empty(2), dq = empty(p.q_width()), dkv = empty(p.kv_width());
  std::vector<float> dk_rope = empty(3), scratch = empty(6);
  attention_forward(
      stream(),
      {view(o, p.o_width()), view(lse, 2), view(q, p.q_width()), view(kv, p.kv_width()), view(k_rope, 3), {}, p.shape});
  attention_backward(stream(), {view(dq, p.q_width()),
                                view(dkv, p.kv_width()),
                                view(dk_rope, 3),
                                view(scratch, 6),
                                view(grad, p.o_width()),
                                view(o, p.o_width()),
                                view(q, p.q_width()),
                                view(kv, p.kv_width()),
                                view(k_rope, 3),
                                view(lse, 2),
                                {},
                                p.shape,
                                1});
  EXPECT_TRUE(same_bits(o, widened(p.o, p.o_width(), 5.0f)));
  EXPECT_TRUE(same_bits(lse, widened(p.lse, 2, 5.0f)));
  EXPECT_TRUE(same_bits(dq, widened(p.dq, p.q_width(), 5.0f)));
  EXPECT_TRUE(same_bits(dkv, widened(p.dkv, p.kv_width(), 5.0f)));
  EXPECT_TRUE(same_bits(dk_rope, widened(p.dk_rope, 3, 5.0f)));
}

TEST_P(AttentionTest, NoRowsIsNoWork) {
  Problem p({"", 0, 8, 2, 4, 2, 4, {}});
  p.run(stream());
  EXPECT_TRUE(p.o.empty());
}

TEST_P(AttentionTest, HeadsTooLargeForTheWorkspaceAreRefused) {
  Problem p({"", 1, 1, 1, 4000, 64, 4000, {}});
  EXPECT_THROW(p.run(stream()), Error);
}

INSTANTIATE_FOR_EVERY_ISA(AttentionTest);

}  // namespace
}  // namespace tael
