#include "data/loader.hpp"

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/file.hpp"
#include "base/rng.hpp"
#include "data/eval_windows.hpp"
#include "data/shard_set.hpp"
#include "tests/data/shard_fixture.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

// Two shards of counted tokens and all that a loader needs.
struct Fixture {
  explicit Fixture(int64_t seq = 16, int64_t depth = 1, int64_t max_sequences = 24)
      : shape{seq, depth, max_sequences}, arena("loader", planned_bytes(shape)) {
    write_number_shard(dir.at("a.h5"), counted(0, 10000), 200000);
    write_number_shard(dir.at("b.h5"), counted(100000, 50000), 200000);
    const std::string paths[] = {dir.at("a.h5"), dir.at("b.h5")};
    shards = open_shards(paths, ShardVerify::blocks);
  }
  static size_t planned_bytes(const LoaderShape& shape) {
    Arena measure = Arena::measuring();
    plan_loader(measure, shape);
    return measure.peak();
  }
  Sampler sampler(bool shuffle = true) const {
    return Sampler({{"a.h5", 10000}, {"b.h5", 50000}},
                   {.seq_length = shape.seq_length, .mtp_depth = shape.mtp_depth, .seed = 9, .shuffle = shuffle});
  }
  void expect_batch(const Batch& batch, const Sampler& order, SampleRange range) const {
    ASSERT_EQ(batch.first_sample, range.first);
    ASSERT_EQ(batch.sequences(), range.count);
    ASSERT_EQ(batch.tokens.dim[1], shape.seq_length + 1 + shape.mtp_depth);
    for (int64_t b = 0; b < range.count; ++b) {
      const Sample s = order.at(range.first + b);
      const int32_t first = static_cast<int32_t>(s.file * 100000 + s.window * shape.seq_length);
      for (int64_t t = 0; t < batch.tokens.dim[1]; ++t) ASSERT_EQ(batch.tokens(b, t), first + t) << b << " " << t;
    }
  }

  ScratchDirectory dir;
  LoaderShape shape;
  Arena arena;
  std::vector<TokenShard> shards;
};

TEST(Loader, GivesWhatTheSamplerSaysOverEpochsAndRamps) {
  for (bool shuffle : {true, false}) {
    Fixture f;
    const Sampler order = f.sampler(shuffle);
    Loader loader(f.shards, order, f.shape, plan_loader(f.arena, f.shape));
    int64_t first = 0;
    for (int64_t step = 0; step < 200; ++step) {  // about three epochs
      const int64_t count = 4 + step / 10;
      const SampleRange range{first, count}, following{first + count, 4 + (step + 1) / 10};
      f.expect_batch(loader.next(range, following), order, range);
      first += count;
    }
  }
}

TEST(Loader, AnyRangeIsRightWhateverWasReadAhead) {
  Fixture f;
  const Sampler order = f.sampler();
  Loader loader(f.shards, order, f.shape, plan_loader(f.arena, f.shape));
  const Rng rng(4, "ranges");
  for (uint64_t i = 0; i < 300; ++i) {
    const SampleRange range{static_cast<int64_t>(rng.below(i, 5000)),
                            1 + static_cast<int64_t>(rng.below(i + 1000, 24))};
    const SampleRange wrong{static_cast<int64_t>(rng.below(i + 2000, 5000)),
                            static_cast<int64_t>(rng.below(i + 3000, 25))};
    f.expect_batch(loader.next(range, wrong), order, range);
  }
}

TEST(Loader, RanksShareABatchInContiguousRanges) {
  Fixture f;
  const Sampler order = f.sampler();
  for (int64_t ranks : {1, 2, 4, 8}) {
    int64_t next = 1000;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const SampleRange range = rank_range(1000, 24, rank, ranks);
      EXPECT_EQ(range.first, next);
      EXPECT_EQ(range.count, 24 / ranks);
      next += range.count;
    }
    EXPECT_EQ(next, 1024);
  }
  // Eight ranks in one process, each with a loader of its own on the same shards.
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < 8; ++rank)
    threads.emplace_back([&, rank] {
      const LoaderShape shape{f.shape.seq_length, f.shape.mtp_depth, 3};
      Arena arena("rank", Fixture::planned_bytes(shape));
      Loader loader(f.shards, order, shape, plan_loader(arena, shape));
      for (int64_t step = 0; step < 20; ++step) {
        const SampleRange range = rank_range(step * 24, 24, rank, 8);
        f.expect_batch(loader.next(range, rank_range((step + 1) * 24, 24, rank, 8)), order, range);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

// The batch of a step stays while the next one is read, and the time that the step takes is time to read in.
TEST(Loader, ReadsAheadIntoTheOtherBuffer) {
  Fixture f;
  const Sampler order = f.sampler();
  const LoaderBuffers buffers = plan_loader(f.arena, f.shape);
  Loader loader(f.shards, order, f.shape, buffers);
  const Batch first = loader.next({0, 8}, {8, 8});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  f.expect_batch(first, order, {0, 8});
  const Batch second = loader.next({8, 8}, {16, 0});
  EXPECT_NE(first.tokens.data, second.tokens.data);
  f.expect_batch(second, order, {8, 8});
  EXPECT_GE(loader.seconds_waited(), 0.0);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  f.expect_batch(second, order, {8, 8});
}

TEST(Loader, ErrorsOfTheThreadComeWithTheSamplesTheyConcern) {
  Fixture f;
  std::string bytes = read_file(f.dir.at("b.h5"));
  bytes[132000] = static_cast<char>(bytes[132000] ^ 1);  // a token near the 16000th, in a block of tokens only
  write_file(f.dir.at("b.h5"), bytes);
  const std::string paths[] = {f.dir.at("a.h5"), f.dir.at("b.h5")};
  f.shards = open_shards(paths, ShardVerify::blocks);
  const Sampler order = f.sampler(false);
  const int64_t bad = order.samples(0) + 16000 / 16;
  Loader loader(f.shards, order, f.shape, plan_loader(f.arena, f.shape));
  f.expect_batch(loader.next({0, 8}, {bad, 8}), order, {0, 8});
  for (int repeat = 0; repeat < 2; ++repeat)
    EXPECT_EQ(f.dir.relative(error_of(Exit::bad_data,
                                      [&] {
                                        loader.next({bad, 8}, {});
                                      })),
              "DIR/b.h5: damaged between byte 131072 and 196608: block 2 of 4 does not match the seal");
  f.expect_batch(loader.next({8, 8}, {bad, 8}), order, {8, 8});    // others are still served
  f.expect_batch(loader.next({16, 8}, {bad, 8}), order, {16, 8});  // an error that nobody asked for is dropped
}

TEST(Loader, RefusesMoreThanWasPlanned) {
  Fixture f;
  const Sampler order = f.sampler();
  Loader loader(f.shards, order, f.shape, plan_loader(f.arena, f.shape));
  for (SampleRange range : {SampleRange{0, 25}, SampleRange{0, 0}})
    EXPECT_NE(error_of(Exit::internal, [&] { loader.next(range, {}); }).find("planned for 24"), std::string::npos);
}

TEST(EvalWindows, EveryTargetOnce) {
  EXPECT_EQ(eval_window_count(0, 8), 0);
  EXPECT_EQ(eval_window_count(1, 8), 0);
  for (int64_t seq : {1, 2, 7, 8, 100})
    for (int64_t tokens = 2; tokens < 60; ++tokens) {
      int64_t target = 1;
      const int64_t count = eval_window_count(tokens, seq);
      for (int64_t i = 0; i < count; ++i) {
        const EvalWindow w = eval_window(tokens, seq, i);
        EXPECT_EQ(w.first, i * seq);
        EXPECT_EQ(w.first + 1, target);
        EXPECT_GE(w.targets, 1);
        EXPECT_LE(w.targets, seq);
        EXPECT_TRUE(w.targets == seq || i == count - 1);
        target += w.targets;
      }
      EXPECT_EQ(target, tokens);
    }
}

}  // namespace
}  // namespace tael
