#include "kernels/latent_attention.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/latent_attention_reference.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"
#include "tests/kernels/isa_cases.hpp"

namespace tael {
namespace {

using testing::close;
using testing::rounding_bound;
using testing::same_bits;

struct Case {
  int64_t rows, positions;
  LatentAttentionShape shape;
};

const Case kCases[] = {
    {1, 1, {1, 1, 2, 0.5}},       // nothing to choose from
    {1, 64, {1, 16, 8, 0.3}},     // one block exactly
    {1, 65, {3, 17, 6, 0.3}},     // and one more
    {1, 256, {16, 32, 16, 0.2}},  // one segment exactly, all lanes
    {1, 257, {17, 33, 10, 0.2}},  // a second panel of one head
    {1, 700, {40, 24, 4, 0.4}},   // three segments, three panels
    {5, 5, {2, 12, 4, 0.4}},      // a prompt from the first position
    {7, 300, {9, 20, 6, 0.3}},    // a few behind many
    {130, 300, {4, 8, 2, 0.5}},   // many behind many
    {3, 260, {33, 5, 2, 2.5}},    // sharp softmax
};

struct Problem {
  Case c;
  std::vector<float> q, cache, o, scratch;

  explicit Problem(const Case& which, uint64_t seed = 3) : c(which) {
    testing::Random random(seed);
    const int64_t depth = c.shape.latent + c.shape.rope;
    q = random.normals(c.rows * c.shape.heads * depth);
    cache = random.normals(c.positions * depth);
    resize();
  }
  void resize() {
    o.assign(static_cast<size_t>(c.rows * c.shape.heads * c.shape.latent), -77);
    const LatentAttentionScratch s = latent_attention_scratch(c.rows, c.positions, c.shape);
    scratch.assign(static_cast<size_t>(s.rows * s.cols), -77);
  }
  void run(const Stream& stream) {
    const int64_t depth = c.shape.latent + c.shape.rope;
    const LatentAttentionScratch s = latent_attention_scratch(c.rows, c.positions, c.shape);
    latent_attention(
        stream, {mat(o.data(), c.rows, c.shape.heads * c.shape.latent),
                 mat<const float>(q.data(), c.rows, c.shape.heads * depth),
                 mat<const float>(cache.data(), c.positions, depth), mat(scratch.data(), s.rows, s.cols), c.shape});
  }
  std::vector<double> exact() const {
    const std::vector<double> wide_q(q.begin(), q.end()), wide_cache(cache.begin(), cache.end());
    std::vector<double> out(o.size());
    const int64_t depth = c.shape.latent + c.shape.rope;
    reference::latent_attention<double>({mat(out.data(), c.rows, c.shape.heads * c.shape.latent),
                                         mat(wide_q.data(), c.rows, c.shape.heads * depth),
                                         mat(wide_cache.data(), c.positions, depth),
                                         {},
                                         c.shape});
    return out;
  }
};

class LatentAttentionTest : public testing::IsaTest {};

// An error e of the scores changes each weight by a factor within exp(2 e); a weight's exp, the two chains over the
// keys it goes through (numerator and total), and the joins of blocks and segments add roundings.
TEST_P(LatentAttentionTest, IsTheSoftmaxOverAllPositions) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(::testing::Message() << c.rows << " rows, " << c.positions << " positions, " << c.shape.heads
                                      << " heads, latent " << c.shape.latent);
    Problem p(c);
    p.run(stream());
    const int64_t depth = c.shape.latent + c.shape.rope, heads = c.shape.heads, latent = c.shape.latent;
    const std::vector<double> exact = p.exact();
    std::vector<double> bound;  // weighted sum of |latent|, in the same softmax
    double score_error = 0;
    for (int64_t t = 0; t < c.rows; ++t) {
      const int64_t seen = c.positions - c.rows + t + 1;
      for (int64_t h = 0; h < heads; ++h) {
        std::vector<double> score(static_cast<size_t>(seen));
        double largest = -1e300, total = 0;
        for (int64_t s = 0; s < seen; ++s) {
          double sum = 0, size = 0;
          for (int64_t d = 0; d < depth; ++d) {
            const double x = static_cast<double>(p.q[static_cast<size_t>((t * heads + h) * depth + d)]) *
                             static_cast<double>(p.cache[static_cast<size_t>(s * depth + d)]);
            sum += x;
            size += std::abs(x);
          }
          score[static_cast<size_t>(s)] = sum * c.shape.scale;
          score_error =
              std::max(score_error, rounding_bound(2.0 * static_cast<double>(depth) + 2) * size * c.shape.scale);
          largest = std::max(largest, score[static_cast<size_t>(s)]);
        }
        for (double& s : score) total += s = std::exp(s - largest);
        for (int64_t l = 0; l < latent; ++l) {
          double sum = 0;
          for (int64_t s = 0; s < seen; ++s)
            sum += score[static_cast<size_t>(s)] / total *
                   std::abs(static_cast<double>(p.cache[static_cast<size_t>(s * depth + l)]));
          bound.push_back(sum);
        }
      }
    }
    const double keys = static_cast<double>(c.positions), joins = keys / 64 + keys / 256 + 2;
    const double roundings = 2 * (2 * keys + 4 * joins) + 32;
    const double relative = std::expm1(2 * score_error) + rounding_bound(roundings);
    for (size_t i = 0; i < exact.size(); ++i)
      ASSERT_NEAR(static_cast<double>(p.o[i]), exact[i], relative * bound[i] + testing::kTinyF32) << i;
  }
}

TEST_P(LatentAttentionTest, ARowsBitsDependOnWhatItSeesOnly) {
  for (const Case& c : kCases) {
    Problem whole(c);
    whole.run(stream());
    ThreadPool three(3);
    Problem again(c);
    again.run(Stream(three, isa()));
    EXPECT_TRUE(same_bits(whole.o, again.o));
    // Each row alone, and the last two together, with only the positions that they see.
    const int64_t width = c.shape.heads * c.shape.latent, q_width = c.shape.heads * (c.shape.latent + c.shape.rope);
    for (const int64_t count : {1, 2}) {
      for (int64_t row = c.rows - 1; row + count <= c.rows && row >= 0 && row >= c.rows - 3; --row) {
        Problem part = whole;
        part.c.rows = count;
        part.c.positions = c.positions - c.rows + row + count;
        part.q.assign(whole.q.begin() + row * q_width, whole.q.begin() + (row + count) * q_width);
        part.resize();
        part.run(Stream(three, isa()));
        EXPECT_TRUE(same_bits(
            part.o, std::vector<float>(whole.o.begin() + row * width, whole.o.begin() + (row + count) * width)));
      }
    }
  }
}

TEST_P(LatentAttentionTest, LargeScoresDoNotOverflow) {
  Problem p({1, 300, {2, 4, 2, 1.0}});
  for (float& x : p.q) x *= 1000.0f;
  for (float& x : p.cache) x *= 100.0f;
  p.run(stream());
  for (const float x : p.o) EXPECT_TRUE(std::isfinite(x));
}

INSTANTIATE_FOR_EVERY_ISA(LatentAttentionTest);

}  // namespace
}  // namespace tael
