#include "checkpoint/saver.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/training_state.hpp"
#include "parallel/comm_threads.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "tests/harness/training_numbers.hpp"

namespace tael {
namespace {

using testing::ScratchDirectory;
using testing::tiny_shape;
using testing::TrainingNumbers;

RunState state_at(int64_t step) {
  return {.training = true, .step = step, .samples = 4 * step, .tokens = 64 * step, .attempt = 1};
}

TEST(TrainingBoxes, AreWrittenOnceWhateverTheNumberOfRanks) {
  const ParamTable table = make_param_table(tiny_shape());
  for (const int ranks : {1, 2, 3, 8, 200}) {
    uint64_t bytes = 0;
    size_t boxes = 0;
    for (int rank = 0; rank < ranks; ++rank)
      for (const BoxData& b : training_boxes(table, {}, rank, ranks)) {
        bytes += b.box.bytes();
        ++boxes;
      }
    EXPECT_EQ(boxes, 3 * table.params.size() + table.gate_biases.size());
    EXPECT_EQ(bytes, static_cast<uint64_t>(3 * table.size() + table.bias_size()) * sizeof(float));
  }
}

class SaverTest : public ::testing::Test {
 protected:
  // What a rank needs to save: numbers, the boxes of them that it writes, and memory for a copy of these.
  struct Rank {
    Comm& comm;
    const Stream& stream;
    TrainingNumbers& live;
    const std::vector<BoxData>& boxes;
    const std::vector<std::byte*>& copies;
  };
  void on_ranks(int ranks, int threads, const std::function<void(const Rank&)>& body) {
    ThreadWorld world(ranks);
    world.run([&](Comm& comm) {
      ThreadPool pool(threads);
      const Stream stream(pool, Isa::portable);
      TrainingNumbers live(table_, 1);
      const std::vector<BoxData> boxes = training_boxes(table_, live.arrays(), comm.rank(), ranks);
      Arena measuring = Arena::measuring();
      plan_snapshot(measuring, boxes);
      Arena arena("snapshot", measuring.used());
      body({comm, stream, live, boxes, plan_snapshot(arena, boxes)});
    });
  }
  // `ranks` ranks save at steps 1, 2, ... while the numbers change between polls; each must be as it was at its start.
  void save_in_the_background(int ranks) {
    const CheckpointStore store(directory_.at("c"));
    on_ranks(ranks, 2, [&](const Rank& r) {
      CheckpointSaver saver(store, r.comm, r.stream,
                            {.retention = {.keep = 9}, .boxes = r.boxes, .snapshot = r.copies});
      int64_t step = 0, saved = 0;
      while (saved < 3) {
        ++step;
        r.live.set(table_, static_cast<uint64_t>(step));
        if (const std::optional<SaveResult> result = saver.poll()) {
          EXPECT_FALSE(result->error) << result->error->what();
          ++saved;
        }
        if (saver.busy()) continue;
        EXPECT_FALSE(saver.start(state_at(step), {{"config.yaml", "a: 1\n"}, {"none", ""}}));
      }
      const std::optional<SaveResult> last = saver.finish();
      EXPECT_FALSE(last && last->error);
    });
    EXPECT_GE(store.steps().size(), 3u);
    for (const int64_t step : store.steps()) {
      const Checkpoint c = Checkpoint::open(store.path(step));
      c.verify();
      EXPECT_EQ(c.state(), state_at(step));
      EXPECT_EQ(c.read_text("config.yaml"), "a: 1\n");
      EXPECT_EQ(c.read_text("none"), "");
      TrainingNumbers read(table_, 99);
      require_training_state(c, table_, true);
      read_training_state(c, table_, read.arrays(), true);
      EXPECT_TRUE(read == TrainingNumbers(table_, static_cast<uint64_t>(step))) << step;
    }
  }
  ScratchDirectory directory_;
  const ParamTable table_ = make_param_table(tiny_shape());
};

TEST_F(SaverTest, OneRank) { save_in_the_background(1); }
TEST_F(SaverTest, ThreeRanks) { save_in_the_background(3); }

// Publishing goes on when the next save is due: that is waited for, and otherwise not.
TEST_F(SaverTest, OneThatIsOnlyToBePublishedIsNotInTheWayOfTheNext) {
  const CheckpointStore store(directory_.at("c"));
  on_ranks(2, 1, [&](const Rank& r) {
    std::atomic<bool> published = false;
    std::atomic<int> asked = 0;  // on rank 0
    const auto slow = [&] {
      ++asked;
      while (!published) std::this_thread::yield();
    };
    CheckpointSaver saver(store, r.comm, r.stream, {.boxes = r.boxes, .snapshot = r.copies, .may_publish = slow});
    EXPECT_FALSE(saver.start(state_at(1), {}));
    for (int64_t begun = 0; begun == 0;) {  // written, and being published
      EXPECT_FALSE(saver.poll());
      begun = asked;
      r.comm.all_reduce({&begun, 1}, ReduceOp::sum);
    }
    EXPECT_FALSE(saver.poll());  // a step without a save
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      published = true;
    });
    const std::optional<SaveResult> over = saver.poll(true);
    later.join();
    ASSERT_TRUE(over);
    EXPECT_FALSE(over->error);
    EXPECT_FALSE(saver.start(state_at(2), {}));
    EXPECT_TRUE(saver.finish());
  });
  EXPECT_EQ(store.steps(), (std::vector<int64_t>{1, 2}));
}

TEST_F(SaverTest, AFailureLeavesWhatWasThereAndTrainingGoesOn) {
  const CheckpointStore store(directory_.at("c"));
  on_ranks(2, 1, [&](const Rank& r) {
    CheckpointSaver saver(store, r.comm, r.stream, {.boxes = r.boxes, .snapshot = {}});
    EXPECT_FALSE(saver.save_now(state_at(1), {}).error);
    // Another program's file lies where rank 1 wants to write: begin empties the directory, so it comes right after.
    r.comm.barrier();
    if (r.comm.rank() == 0) {
      std::filesystem::create_directory(directory_.at("elsewhere"));
      std::filesystem::rename(store.directory(), directory_.at("kept"));
      directory_.write("c", "not a directory");
    }
    r.comm.barrier();
    const SaveResult failed = saver.save_now(state_at(2), {});
    ASSERT_TRUE(failed.error);
    EXPECT_EQ(failed.error->code(), Exit::io);
    EXPECT_FALSE(saver.busy());
    r.comm.barrier();
    if (r.comm.rank() == 0) {
      std::filesystem::remove(store.directory());
      std::filesystem::rename(directory_.at("kept"), store.directory());
    }
    r.comm.barrier();
    EXPECT_FALSE(saver.save_now(state_at(3), {}).error);
  });
  EXPECT_EQ(store.steps(), (std::vector<int64_t>{1, 3}));
}

// A rank other than 0 is slow, and then cannot write: what that took is known on rank 0, while it goes on and after it.
TEST_F(SaverTest, WhatAFailedOneTookIsThatOfTheSlowestRank) {
  const CheckpointStore store(directory_.at("c"));
  on_ranks(2, 1, [&](const Rank& r) {
    std::atomic<double> seconds = 100;
    const auto now = [&, rank = r.comm.rank(), main = std::this_thread::get_id()] {
      if (rank == 1 && std::this_thread::get_id() != main) {
        // When its thread begins, and when that has found a directory where its file should be.
        std::filesystem::create_directory(store.prepared_path(2, 1) + "/" + shard_name(1));
        seconds = seconds + 5;
      }
      return seconds.load();
    };
    CheckpointSaver saver(store, r.comm, r.stream, {.boxes = r.boxes, .snapshot = r.copies, .now = now});
    EXPECT_EQ(saver.busy_so_far(), 0);
    EXPECT_FALSE(saver.start(state_at(2), {}));
    EXPECT_LE(saver.busy_so_far(), 10);
    std::optional<SaveResult> failed = saver.finish();
    ASSERT_TRUE(failed && failed->error);
    EXPECT_EQ(failed->error->code(), Exit::io);
    EXPECT_EQ(failed->busy_seconds, 5);
    r.comm.barrier();
    // One that cannot begin.
    if (r.comm.rank() == 0) {
      std::filesystem::remove_all(store.directory());
      directory_.write("c", "not a directory");
    }
    r.comm.barrier();
    std::atomic<int> asked = 0;
    CheckpointSaver other(store, r.comm, r.stream,
                          {.boxes = r.boxes, .snapshot = r.copies, .now = [&] { return 7.0 * asked++; }});
    failed = other.start(state_at(3), {});
    ASSERT_TRUE(failed && failed->error);
    EXPECT_EQ(failed->busy_seconds, 7);
  });
}

// Who was frozen while another job took the run over finds out right before the rename: nothing is published, and what
// was prepared is gone.
TEST_F(SaverTest, WhoMayNotPublishLeavesEverythingAsItWas) {
  const CheckpointStore store(directory_.at("c"));
  for (const bool beside : {false, true}) {
    on_ranks(2, 1, [&](const Rank& r) {
      bool owned = true;
      CheckpointSaver saver(store, r.comm, r.stream, {.boxes = r.boxes, .snapshot = r.copies, .may_publish = [&] {
                                                        if (!owned) fail(Exit::locked, "another's by now");
                                                      }});
      EXPECT_FALSE(saver.save_now(state_at(1), {}).error);
      r.comm.barrier();
      owned = false;
      if (beside) {
        EXPECT_FALSE(saver.start(state_at(2), {}));
      }
      const std::optional<SaveResult> refused = beside ? saver.finish() : saver.save_now(state_at(2), {});
      ASSERT_TRUE(refused && refused->error);
      EXPECT_EQ(refused->error->code(), Exit::locked);
      EXPECT_EQ(refused->error->what(), std::string("another's by now"));
    });
    EXPECT_EQ(store.published(), std::vector<int64_t>{1});
    Checkpoint::open(store.path(1)).verify();
    for (const auto& entry : std::filesystem::directory_iterator(store.directory()))
      EXPECT_FALSE(entry.path().filename().string().starts_with("tmp-")) << entry.path();
  }
}

}  // namespace
}  // namespace tael
