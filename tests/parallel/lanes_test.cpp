#include "parallel/lanes.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

#include "parallel/grad_reduce.hpp"
#include "parallel/mesh.hpp"
#include "tests/harness/allocation_count.hpp"
#include "tests/harness/random.hpp"

namespace tael {
namespace {

TEST(LaneRanges, CoverTheBatchOnceInOrder) {
  for (const int lanes : {1, 2, 8})
    for (int ranks = 1; ranks <= lanes; ranks *= 2) {
      int next = 0;
      for (int r = 0; r < ranks; ++r) {
        EXPECT_EQ(lanes_of(r, ranks, lanes).begin, next);
        next = lanes_of(r, ranks, lanes).end;
      }
      EXPECT_EQ(next, lanes);
    }
  EXPECT_EQ(sequences_of(3, 4, 32).begin, 24);
  EXPECT_EQ(sequences_of(3, 4, 32).end, 32);
  EXPECT_THROW(lanes_of(0, 1, 6), Error);
  EXPECT_THROW(lanes_of(0, 3, 8), Error);
  EXPECT_THROW(sequences_of(0, 4, 30), Error);
}

// Every lane adds its own numbers; the result must be the tree of neighbours as the definition reads.
void check_lanes(int lanes, int64_t n, int threads) {
  ThreadPool pool(threads);
  const Stream stream(pool, Isa::portable);
  // Two extra uses that overlap in their destination: the order of their additions shows.
  const int64_t used = n / 2, gradient_size = n + 2 * used;
  const LaneLayout layout = {.elements = n,
                             .gradient_size = gradient_size,
                             .lanes = lanes,
                             .extra_uses = {{.destination = 0, .offset = n + used, .size = used},
                                            {.destination = n - used, .offset = n, .size = used}}};
  Arena measure = Arena::measuring();
  LaneAccumulator(measure, layout);
  Arena arena("gradients", measure.peak());
  LaneAccumulator accumulator(arena, layout);
  EXPECT_EQ(arena.used(), measure.used());

  for (const uint64_t seed : {1u, 2u}) {  // twice: the second step must not see the first
    testing::Random random(seed);
    std::vector<std::vector<float>> level;
    for (int l = 0; l < lanes; ++l) level.push_back(random.normals(gradient_size));
    const int64_t allocations = testing::allocation_count();
    for (int l = 0; l < lanes; ++l) {
      const Vec<float> grads = accumulator.begin_lane(stream);
      for (int64_t i = 0; i < gradient_size; ++i) grads(i) += level[static_cast<size_t>(l)][static_cast<size_t>(i)];
      accumulator.end_lane(stream);
    }
    const Vec<float> total = accumulator.finish();
    EXPECT_EQ(testing::allocation_count(), allocations);

    for (auto& lane : level) {
      for (int64_t i = 0; i < used; ++i) lane[static_cast<size_t>(i)] += lane[static_cast<size_t>(n + used + i)];
      for (int64_t i = 0; i < used; ++i) lane[static_cast<size_t>(n - used + i)] += lane[static_cast<size_t>(n + i)];
      lane.resize(static_cast<size_t>(n));
    }
    for (; level.size() > 1; level.resize(level.size() / 2))
      for (size_t p = 0; p < level.size() / 2; ++p) {
        std::vector<float> pair(static_cast<size_t>(n));
        for (size_t i = 0; i < pair.size(); ++i) pair[i] = level[2 * p][i] + level[2 * p + 1][i];
        level[p] = pair;
      }
    ASSERT_EQ(total.size(), n);
    EXPECT_TRUE(n == 0 || std::memcmp(total.data, level[0].data(), static_cast<size_t>(n) * sizeof(float)) == 0)
        << lanes << " lanes of " << n;
  }
}

TEST(LaneAccumulator, IsTheTreeOfNeighbours) {
  for (const int lanes : {1, 2, 4, 8, 16})
    for (const int64_t n : {0, 1, 7, 64, 1003}) check_lanes(lanes, n, 1);
  check_lanes(8, 200003, 3);
}

TEST(LaneAccumulator, TakesOneBufferMoreThanTheLogarithmOfItsLanes) {
  EXPECT_EQ(LaneAccumulator::buffers(1), 1);
  EXPECT_EQ(LaneAccumulator::buffers(2), 2);
  EXPECT_EQ(LaneAccumulator::buffers(4), 3);
  EXPECT_EQ(LaneAccumulator::buffers(64), 7);
  for (const int lanes : {1, 4, 64}) {
    Arena measure = Arena::measuring();
    LaneAccumulator(measure, {.elements = 1600, .gradient_size = 1600 + 48, .lanes = lanes, .extra_uses = {}});
    EXPECT_EQ(measure.used(), (static_cast<size_t>(LaneAccumulator::buffers(lanes)) * 1600 + 48) * sizeof(float));
  }
  Arena measure = Arena::measuring();
  EXPECT_THROW(
      LaneAccumulator(measure,
                      {.elements = int64_t{1} << 62, .gradient_size = int64_t{1} << 62, .lanes = 4, .extra_uses = {}}),
      Error);
}

TEST(LaneAccumulator, RefusesAWrongOrderOfCalls) {
  ThreadPool pool(1);
  const Stream stream(pool, Isa::portable);
  Arena arena("gradients", 4096);
  LaneAccumulator accumulator(arena, {.elements = 3, .gradient_size = 3, .lanes = 2, .extra_uses = {}});
  EXPECT_THROW(accumulator.end_lane(stream), Error);
  EXPECT_THROW(accumulator.finish(), Error);
  accumulator.begin_lane(stream);
  EXPECT_THROW(accumulator.begin_lane(stream), Error);
  accumulator.end_lane(stream);
  EXPECT_FALSE(accumulator.complete());
  EXPECT_THROW(accumulator.finish(), Error);
  accumulator.begin_lane(stream);
  accumulator.end_lane(stream);
  EXPECT_TRUE(accumulator.complete());
  EXPECT_THROW(accumulator.begin_lane(stream), Error);
  accumulator.finish();
}

TEST(TreeSum, AddsNeighbours) {
  const double a = 1.0, b = 0x1p-53, c = 0x1p-53, d = -1.0, e = 0x1p-60;
  const std::vector<double> v = {a, b, c, d, e};
  EXPECT_EQ(tree_sum(std::span(v.data(), 0)), 0.0);
  EXPECT_EQ(tree_sum(std::span(v.data(), 1)), a);
  EXPECT_EQ(tree_sum(std::span(v.data(), 3)), (a + b) + c);
  EXPECT_EQ(tree_sum(std::span(v.data(), 4)), (a + b) + (c + d));
  EXPECT_NE((a + b) + (c + d), ((a + b) + c) + d);  // the order shows
  EXPECT_EQ(tree_sum(v), ((a + b) + (c + d)) + e);
  EXPECT_EQ(tree_sum(v.data(), 3, 2), (a + c) + e);
}

TEST(Mesh, HasDataRanksOnly) {
  const Mesh mesh({.data = 4}, 3);
  EXPECT_EQ(mesh.data_rank(), 3);
  EXPECT_EQ(mesh.data_ranks(), 4);
  EXPECT_EQ(mesh.shape().world(), 4);
  EXPECT_THROW(Mesh({.data = 2, .tensor = 2}, 0), Error);
  EXPECT_THROW(Mesh({.data = 2}, 2), Error);
}

}  // namespace
}  // namespace tael
