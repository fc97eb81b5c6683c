#include "base/thread_pool.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <vector>

#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

TEST(ThreadPool, RunsEveryTaskOnceForAnyNumberOfThreads) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (int64_t tasks : {0, 1, 2, 7, 1000}) {
      for (int repeat = 0; repeat < 20; ++repeat) {
        std::vector<int> count(static_cast<size_t>(tasks), 0);
        std::atomic<bool> thread_in_range{true};
        pool.parallel_for(tasks, [&](int64_t task, int thread) {
          ++count[static_cast<size_t>(task)];
          if (thread < 0 || thread >= threads) thread_in_range = false;
        });
        EXPECT_TRUE(thread_in_range);
        for (int c : count) EXPECT_EQ(c, 1);
      }
    }
  }
}

TEST(ThreadPool, WorkspacesDoNotOverlap) {
  ThreadPool pool(3);
  EXPECT_EQ(pool.workspace(2) - pool.workspace(1), static_cast<std::ptrdiff_t>(ThreadPool::kWorkspaceBytes));
}

TEST(ThreadPool, ThreadsThatTheSystemDoesNotGiveAreAnErrorOfTheSystem) {
  pthread_attr_t before, large;
  ASSERT_EQ(pthread_getattr_default_np(&before), 0);
  ASSERT_EQ(pthread_attr_init(&large), 0);
  // A stack that is larger than the addresses there are.
  ASSERT_EQ(pthread_attr_setstacksize(&large, size_t{1} << 48), 0);
  ASSERT_EQ(pthread_setattr_default_np(&large), 0);
  const std::string message = testing::error_of(Exit::io, [] { const ThreadPool pool(4); });
  ASSERT_EQ(pthread_setattr_default_np(&before), 0);
  EXPECT_EQ(message.find("cannot start 3 threads: Resource temporarily unavailable; limits on memory"), 0u) << message;
  pthread_attr_destroy(&large);
  pthread_attr_destroy(&before);
}

}  // namespace
}  // namespace tael
