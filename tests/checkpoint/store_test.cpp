#include "checkpoint/store.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/file.hpp"
#include "checkpoint/checkpoint.hpp"
#include "checkpoint/shard_file.hpp"
#include "tests/harness/file_size_limit.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::FileSizeLimit;
using testing::Random;
using testing::ScratchDirectory;

class StoreTest : public ::testing::Test {
 protected:
  static constexpr Retention kAll = {.keep = 1000};
  void commit(int64_t step, int64_t attempt = 1, float value = 1, const Retention& retention = kAll) {
    const Box box = Box::whole(StateKind::weight, "w", DType::f32, {1});
    store_.begin(step, attempt, 1000);
    Manifest manifest = write_shard(store_.prepared_path(step, attempt), {.step = step}, {{box, &value}});
    manifest.state = {.training = true, .step = step, .tokens = step * 100, .attempt = attempt};
    manifest.state.milestone = store_.is_milestone(manifest.state, retention);
    store_.commit(manifest);
  }
  std::string save(int64_t step, int64_t attempt = 1, float value = 1, const Retention& retention = kAll) {
    commit(step, attempt, value, retention);
    return store_.settle(retention);
  }
  std::string latest() const { return read_file(store_.directory() + "/latest"); }

  ScratchDirectory directory_;
  const CheckpointStore store_{directory_.at("run/checkpoints")};
};

TEST_F(StoreTest, ACheckpointIsCompleteOrAbsent) {
  EXPECT_TRUE(store_.steps().empty());
  store_.begin(5, 1, 1000);
  EXPECT_TRUE(store_.steps().empty());
  store_.abandon(5, 1);
  EXPECT_FALSE(path_exists(store_.prepared_path(5, 1)));
  save(100);
  save(5);
  EXPECT_EQ(store_.steps(), (std::vector<int64_t>{5, 100}));
  EXPECT_EQ(latest(), "step-00000100\n");
  EXPECT_EQ(CheckpointStore::name(123'456'789), "step-123456789");
}

TEST_F(StoreTest, TooLittleSpaceIsSaidBeforeAnythingIsWritten) {
  const std::string message = error_of(Exit::io, [&] { store_.begin(1, 1, uint64_t{1} << 62); });
  EXPECT_NE(message.find("a checkpoint needs"), std::string::npos) << message;
  EXPECT_FALSE(path_exists(store_.directory()));
}

// A disk that is not mounted: the run has checkpoints, and must not begin again as if it had none.
TEST_F(StoreTest, ALinkToADirectoryThatIsGoneIsNoEmptyOne) {
  const std::string link = directory_.at("link");
  std::filesystem::create_symlink(directory_.at("gone"), link);
  EXPECT_EQ(directory_.relative(error_of(Exit::io, [&] { CheckpointStore(link).steps(); })),
            "DIR/link: is a link to DIR/gone, which is not there");
  std::filesystem::create_directory(directory_.at("gone"));
  EXPECT_TRUE(CheckpointStore(link).steps().empty());
}

TEST_F(StoreTest, WhatDeadAttemptsLeftIsSwept) {
  save(1);
  store_.begin(2, 1, 1000);
  directory_.write("run/checkpoints/tmp-2-1/shard-00000.h5", "half");
  std::filesystem::create_directory(store_.directory() + "/trash-7");
  directory_.write("run/checkpoints/latest.tmp", "x");
  directory_.write("run/checkpoints/latest", "step-00000099\n");
  directory_.write("run/checkpoints/notes.txt", "mine");
  std::filesystem::create_directory(store_.directory() + "/step-3");  // not a name of ours
  std::filesystem::create_directory(store_.path(4));                  // no manifest
  store_.sweep();
  EXPECT_EQ(store_.steps(), std::vector<int64_t>{1});
  EXPECT_EQ(latest(), "step-00000001\n");
  EXPECT_FALSE(path_exists(store_.directory() + "/tmp-2-1"));
  EXPECT_FALSE(path_exists(store_.directory() + "/trash-7"));
  EXPECT_TRUE(path_exists(store_.directory() + "/notes.txt"));
  EXPECT_TRUE(path_exists(store_.directory() + "/step-3"));
}

// As on a disk that has no place for one more file.
TEST_F(StoreTest, ALatestThatCannotBeWrittenIsSaidAndNamesNothingThatIsGone) {
  save(1);
  commit(2);
  std::string wrong;
  {
    const FileSizeLimit full(0);
    wrong = store_.settle({.keep = 1});
  }
  EXPECT_NE(wrong.find("/latest"), std::string::npos) << wrong;
  EXPECT_EQ(store_.steps(), std::vector<int64_t>{2});
  EXPECT_FALSE(path_exists(store_.directory() + "/latest"));
  EXPECT_EQ(save(3, 1, 1, {.keep = 1}), "");
  EXPECT_EQ(latest(), "step-00000003\n");
}

TEST_F(StoreTest, ADamagedOneIsPutAsideAndItsStepSavedAgain) {
  save(1);
  save(2);
  EXPECT_EQ(store_.set_aside(2), store_.path(2) + ".damaged");
  EXPECT_EQ(store_.steps(), std::vector<int64_t>{1});
  EXPECT_EQ(latest(), "step-00000001\n");
  save(2, 2, 7);
  EXPECT_EQ(Checkpoint::open(store_.path(2)).state().attempt, 2);
  save(2, 3, 8);  // over one that is there
  EXPECT_EQ(Checkpoint::open(store_.path(2)).state().attempt, 3);
}

TEST_F(StoreTest, KeepsTheNewestAndTheMilestones) {
  for (int64_t step = 1; step <= 9; ++step) save(step);
  store_.settle({.keep = 2, .milestone_interval = 300});  // tokens: 100 a step
  EXPECT_EQ(store_.steps(), (std::vector<int64_t>{3, 6, 8, 9}));
  store_.settle({.keep = 1});  // they were not saved as milestones
  EXPECT_EQ(store_.steps(), std::vector<int64_t>{9});
}

// What somebody copied or imported there, or damaged, takes no place of those that are kept, and is not the latest.
TEST_F(StoreTest, WhatIsNoCheckpointOfTheRunTakesNoPlace) {
  for (int64_t step = 1; step <= 3; ++step) save(step);
  std::filesystem::copy(store_.path(2), store_.path(700), std::filesystem::copy_options::recursive);
  directory_.write("run/checkpoints/step-00000800/manifest.json", "{");
  const float value = 1;
  Manifest weights;
  std::filesystem::create_directory(store_.path(900));
  weights = write_shard(store_.path(900), {.step = 0}, {{Box::whole(StateKind::weight, "w", DType::f32, {1}), &value}});
  directory_.write("run/checkpoints/step-00000900/manifest.json", weights.text());
  EXPECT_FALSE(Checkpoint::read_state(store_.path(900)).training);
  save(4);
  EXPECT_EQ(latest(), "step-00000004\n");
  store_.settle({.keep = 2});
  EXPECT_EQ(store_.steps(), (std::vector<int64_t>{3, 4, 700, 800, 900}));
  store_.sweep();
  EXPECT_EQ(latest(), "step-00000004\n");
  directory_.write("run/checkpoints/latest", "step-00000003\n");  // a kill came between
  store_.sweep();
  EXPECT_EQ(latest(), "step-00000004\n");
  directory_.write("run/checkpoints/step-00000004/manifest.json", "{");  // it may be mended
  store_.sweep();
  EXPECT_EQ(latest(), "step-00000004\n");
  store_.set_aside(4);
  EXPECT_EQ(latest(), "step-00000003\n");
}

TEST_F(StoreTest, AMilestoneStaysWhateverALaterStartSays) {
  const Retention first{.keep = 2, .milestone_interval = 300}, later{.keep = 1};
  for (int64_t step = 1; step <= 9; ++step) {
    save(step, 1, 1, first);
  }
  EXPECT_EQ(store_.steps(), (std::vector<int64_t>{3, 6, 8, 9}));
  for (int64_t step = 10; step <= 12; ++step) {
    save(step, 2, 1, later);
  }
  EXPECT_EQ(store_.steps(), (std::vector<int64_t>{3, 6, 9, 12}));
}

// A branch at 450 of intervals of 300: its first checkpoint at 500 begins no interval, that at 600 does.
TEST(Retention, ABranchHasMilestonesOfItsOwnOnly) {
  const Retention retention{.keep = 1, .milestone_interval = 300, .begin_tokens = 450};
  EXPECT_EQ(kept({{500, false}, {550, false}, {600, false}, {700, false}}, retention),
            (std::vector<bool>{false, false, true, true}));
  EXPECT_EQ(kept({{600, false}, {700, false}}, retention), (std::vector<bool>{true, true}));
}

TEST(Retention, AlwaysKeepsTheNewestAndNeverForgetsAMilestone) {
  Random random(11);
  for (int trial = 0; trial < 2000; ++trial) {
    const Retention retention{.keep = 1 + random.below(4), .milestone_interval = 1 + random.below(500)};
    std::vector<int64_t> milestones;
    std::vector<Retained> there;
    int64_t tokens = 0, reached = 0;
    for (int save = 0; save < 30; ++save) {
      tokens += 1 + random.below(300);
      there.push_back({tokens, false});
      if (tokens / *retention.milestone_interval > reached) {
        reached = tokens / *retention.milestone_interval;
        milestones.push_back(tokens);
      }
      const std::vector<bool> keep = kept(there, retention);
      std::vector<Retained> left;
      std::vector<int64_t> kept_tokens;
      for (size_t i = 0; i < there.size(); ++i) {
        if (!keep[i]) continue;
        left.push_back(there[i]);
        kept_tokens.push_back(there[i].tokens);
      }
      there = left;
      ASSERT_EQ(kept_tokens.back(), tokens);
      ASSERT_TRUE(std::ranges::includes(kept_tokens, milestones));
      ASSERT_LE(there.size(), milestones.size() + static_cast<size_t>(retention.keep));
    }
  }
}

}  // namespace
}  // namespace tael
