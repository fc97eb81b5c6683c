#include "optim/clip.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "tests/harness/random.hpp"

namespace tael {
namespace {

double norm_of(const std::vector<ParamSpan>& spans, const std::vector<float>& grads, int threads = 1) {
  ThreadPool pool(threads);
  const Stream stream(pool, best_isa());
  Arena measure = Arena::measuring();
  plan_global_norm(measure, spans);
  Arena arena("norm", measure.peak());
  const Vec<double> rows = plan_global_norm(arena, spans);
  return global_norm(stream, spans, vec<const float>(grads.data(), static_cast<int64_t>(grads.size())), rows);
}

TEST(GlobalNorm, IsTheLengthOfAllGradients) {
  EXPECT_EQ(norm_of({{.offset = 0, .rows = 1, .cols = 2}}, {3.0f, 4.0f}), 5.0);
  EXPECT_EQ(norm_of({}, {3.0f, 4.0f}), 0.0);
  // What lies outside the spans does not count.
  EXPECT_EQ(norm_of({{.offset = 1, .rows = 2, .cols = 1}}, {100.0f, 3.0f, 4.0f, 100.0f}), 5.0);
  testing::Random random(3);
  const std::vector<ParamSpan> spans = {{.offset = 0, .rows = 33, .cols = 65},
                                        {.offset = 33 * 65, .rows = 1, .cols = 17},
                                        {.offset = 33 * 65 + 17, .rows = 128, .cols = 1}};
  const std::vector<float> grads = random.normals(33 * 65 + 17 + 128);
  double exact = 0.0;
  for (const float g : grads) exact += static_cast<double>(g) * g;
  EXPECT_NEAR(norm_of(spans, grads), std::sqrt(exact), 1e-13 * std::sqrt(exact));
  EXPECT_EQ(norm_of(spans, grads, 3), norm_of(spans, grads, 1));
}

TEST(GlobalNorm, AddsRowsAndTensorsInTableOrder) {
  // Eight small squares count when they are added to each other first, and are lost one by one beside a large one.
  std::vector<float> grads(9, 0x1p-27f);
  grads[0] = 1.0f;
  const std::vector<ParamSpan> rows = {{.offset = 0, .rows = 9, .cols = 1}};
  const std::vector<ParamSpan> tensors = {
      {.offset = 0, .rows = 1, .cols = 1}, {.offset = 1, .rows = 3, .cols = 1}, {.offset = 4, .rows = 5, .cols = 1}};
  EXPECT_EQ(norm_of(rows, grads), 1.0);
  EXPECT_EQ(norm_of(tensors, grads), 1.0);
  std::swap(grads[0], grads[8]);
  EXPECT_EQ(norm_of(rows, grads), 1.0 + 0x1p-52);
  EXPECT_EQ(norm_of(tensors, grads), 1.0 + 0x1p-52);
}

TEST(GlobalNorm, IsFiniteOnlyIfAllGradientsAre) {
  const std::vector<ParamSpan> spans = {{.offset = 0, .rows = 2, .cols = 3}};
  const float most = std::numeric_limits<float>::max();
  EXPECT_TRUE(std::isfinite(norm_of(spans, {most, most, most, most, most, most})));
  EXPECT_FALSE(std::isfinite(norm_of(spans, {0, 0, 0, 0, std::numeric_limits<float>::infinity(), 0})));
  EXPECT_FALSE(std::isfinite(norm_of(spans, {0, std::nanf(""), 0, 0, 0, 0})));
}

TEST(ClipFactor, IsPyTorchs) {
  EXPECT_EQ(clip_factor(0.5, 1.0), 1.0);
  EXPECT_EQ(clip_factor(2.0, 1.0), 1.0 / (2.0 + 1e-6));
  EXPECT_EQ(clip_factor(1.0, 1.0), 1.0 / (1.0 + 1e-6));  // the small term acts just below the limit too
  EXPECT_EQ(clip_factor(0.0, 1.0), 1.0);
  EXPECT_EQ(clip_factor(1e9, 0.0), 1.0);
}

}  // namespace
}  // namespace tael
