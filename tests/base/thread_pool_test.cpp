#include "base/thread_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

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

}  // namespace
}  // namespace tael
