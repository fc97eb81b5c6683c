#include "parallel/grad_reduce.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <mutex>
#include <set>
#include <vector>

#include "parallel/comm_threads.hpp"
#include "tests/harness/allocation_count.hpp"
#include "tests/harness/random.hpp"
#include "tests/parallel/comm_checks.hpp"

namespace tael {
namespace {

TEST(GradReduce, CanonicalHasTheSameBitsForEveryNumberOfRanks) {
  std::set<uint64_t> digests;
  for (const int ranks : {1, 2, 4, 8}) {
    std::mutex mutex;
    ThreadWorld(ranks).run([&](Comm& comm) {
      const uint64_t digest = testing::check_canonical_sums(comm);
      std::lock_guard lock(mutex);
      digests.insert(digest);
    });
  }
  EXPECT_EQ(digests.size(), 1u);
}

TEST(GradReduce, FastTakesAnyNumberOfRanks) {
  for (const int ranks : {1, 2, 3, 5}) {
    const int64_t n = 10007;
    std::vector<std::vector<float>> inputs;
    std::vector<double> exact(static_cast<size_t>(n)), magnitude(static_cast<size_t>(n));
    for (int r = 0; r < ranks; ++r) {
      inputs.push_back(testing::Random(static_cast<uint64_t>(r)).normals(n));
      for (size_t i = 0; i < exact.size(); ++i) {
        exact[i] += inputs.back()[i];
        magnitude[i] += std::abs(inputs.back()[i]);
      }
    }
    std::vector<std::vector<float>> results(static_cast<size_t>(ranks));
    ThreadWorld(ranks).run([&](Comm& comm) {
      ThreadPool pool(1);
      const Stream stream(pool, Isa::portable);
      Arena measure = Arena::measuring();
      const GradReduceScratch scratch = plan_grad_reduce(measure, SumOrder::fast, n, ranks);
      EXPECT_EQ(measure.peak(), 0u);
      std::vector<float> grads = inputs[static_cast<size_t>(comm.rank())];
      reduce_gradients(stream, comm, SumOrder::fast, scratch, vec(grads.data(), n));
      results[static_cast<size_t>(comm.rank())] = grads;
    });
    for (const auto& result : results) EXPECT_EQ(result, results[0]);  // every rank the same bits
    // ranks - 1 roundings of at most the sum of magnitudes each.
    for (size_t i = 0; i < exact.size(); ++i)
      ASSERT_NEAR(results[0][i], exact[i], (ranks - 1) * 0x1p-24 * magnitude[i] * (1 + 1e-6));
  }
}

TEST(GradReduce, ScratchIsBoundedAndNothingIsAllocated) {
  Arena measure = Arena::measuring();
  plan_grad_reduce(measure, SumOrder::canonical, int64_t{1} << 40, 8);
  EXPECT_EQ(measure.peak(), static_cast<size_t>(kGradReducePiece) / 2 * sizeof(float));
  EXPECT_EQ(plan_grad_reduce(measure, SumOrder::canonical, 1000, 1).received.size(), 0);
  ThreadWorld(4).run([](Comm& comm) {
    ThreadPool pool(1);
    const Stream stream(pool, Isa::portable);
    Arena arena("scratch", 1 << 20);
    const GradReduceScratch scratch = plan_grad_reduce(arena, SumOrder::canonical, 1001, comm.size());
    std::vector<float> grads(1001, 1.0f);
    std::vector<int64_t> counts(17, comm.rank());
    comm.barrier();
    const int64_t before = testing::allocation_count();
    reduce_gradients(stream, comm, SumOrder::canonical, scratch, vec(grads.data(), 1001));
    sum_counts(comm, vec(counts.data(), 17));
    comm.barrier();
    EXPECT_EQ(testing::allocation_count(), before);
    comm.barrier();
    EXPECT_EQ(grads, std::vector<float>(1001, 4.0f));
    EXPECT_EQ(counts, std::vector<int64_t>(17, 6));
  });
}

TEST(GradReduce, CanonicalRefusesRanksThatAreNoPowerOfTwo) {
  ThreadWorld world(3);
  EXPECT_THROW(world.run([](Comm& comm) {
    ThreadPool pool(1);
    float x = 1.0f, y = 0.0f;
    reduce_gradients(Stream(pool, Isa::portable), comm, SumOrder::canonical, {vec(&y, 1)}, vec(&x, 1));
  }),
               Error);
}

}  // namespace
}  // namespace tael
