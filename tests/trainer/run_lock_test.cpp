#include "trainer/run_lock.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/file.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

AttemptRecord record(ProcessIdentity owner = this_process("")) {
  AttemptRecord r;
  r.owner = std::move(owner);
  r.ranks = 1;
  r.hosts = {r.owner.host};
  return r;
}

ProcessIdentity elsewhere() { return {.host = "far", .machine = "another boot", .pid = 4, .started = 5, .job = "77"}; }

constexpr LockTiming kQuick{.lease_seconds = 0.4, .look_seconds = 0.02};

TEST(RunLock, OneOwnerAfterTheOther) {
  const ScratchDirectory dir;
  RunLock first = RunLock::acquire(dir.path(), record());
  EXPECT_EQ(first.attempt(), 1);
  EXPECT_TRUE(first.owned());
  const std::string message = error_of(Exit::locked, [&] { RunLock::acquire(dir.path(), record()); });
  EXPECT_NE(message.find("belongs to a job that is running: attempt 1 ("), std::string::npos) << message;
  first.release(75, "stopped");
  const RunLock second = RunLock::acquire(dir.path(), record());
  EXPECT_EQ(second.attempt(), 2);
  EXPECT_TRUE(second.note().empty());
  EXPECT_FALSE(first.owned());
  const std::vector<AttemptRecord> all = read_attempts(dir.path());
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].exit_code, 75);
  EXPECT_EQ(all[0].reason, "stopped");
  EXPECT_TRUE(all[1].ended.empty());
}

TEST(RunLock, ADeadProcessOfThisMachineIsSeenAtOnce) {
  const ScratchDirectory dir;
  ProcessIdentity dead = this_process("");
  dead.started += 1;  // another process had this number
  RunLock::acquire(dir.path(), record(dead));
  const RunLock lock = RunLock::acquire(dir.path(), record());
  EXPECT_NE(lock.note().find("is gone without a word"), std::string::npos);
}

// From another machine nothing but the moving count tells that the owner lives.
TEST(RunLock, AForeignOwnerLivesWhileItsCountMoves) {
  const ScratchDirectory dir;
  RunLock foreign = RunLock::acquire(dir.path(), record(elsewhere()));
  std::atomic<bool> stop{false};
  std::thread beats([&] {
    while (!stop) {
      foreign.beat();
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
    }
  });
  const std::string message = error_of(Exit::locked, [&] { RunLock::acquire(dir.path(), record(), kQuick); });
  EXPECT_NE(message.find("(far, process 4, job 77, since"), std::string::npos) << message;
  stop = true;
  beats.join();
  EXPECT_TRUE(foreign.owned());
  // Frozen past its lease it loses the directory, and knows it when it thaws.
  const RunLock lock = RunLock::acquire(dir.path(), record(), kQuick);
  EXPECT_EQ(lock.attempt(), 2);
  EXPECT_FALSE(foreign.owned());
  const std::string alive = dir.at("attempts/00000001.alive");
  remove_tree(alive);
  foreign.beat();
  EXPECT_FALSE(path_exists(alive));
  foreign.release(0, "done");  // says nothing any more
  EXPECT_TRUE(read_attempts(dir.path())[0].ended.empty());
}

TEST(RunLock, OfManyThatTakeOverAtOnceOneWins) {
  for (int trial = 0; trial < 20; ++trial) {
    const ScratchDirectory dir;
    ProcessIdentity dead = this_process("");
    dead.started += 1;
    RunLock::acquire(dir.path(), record(dead));
    std::atomic<int> winners{0}, refused{0};
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        try {
          // Each prepares under a name of its own, as processes do.
          ProcessIdentity me = this_process("");
          me.host += std::to_string(i);
          RunLock::acquire(dir.path(), record(me));
          ++winners;
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), Exit::locked) << error.what();
          ++refused;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(winners, 1);
    EXPECT_EQ(refused, 7);
  }
}

TEST(RunLock, ADamagedRecordIsNamed) {
  const ScratchDirectory dir;
  RunLock::acquire(dir.path(), record()).release(0, "done");
  dir.write("attempts/00000001.json", "{");
  EXPECT_NE(error_of(Exit::bad_data, [&] { RunLock::acquire(dir.path(), record()); }).find("00000001.json"),
            std::string::npos);
}

}  // namespace
}  // namespace tael
