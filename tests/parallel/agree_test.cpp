#include "parallel/agree.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel/comm_threads.hpp"

namespace tael {
namespace {

// What run_rank reports and returns on every rank of a world.
struct Outcome {
  std::vector<std::string> lines;
  std::vector<int> codes;
  std::string thrown;  // what ThreadWorld::run threw
};
Outcome run_ranks(int ranks, const std::function<int(Comm&)>& body) {
  Outcome outcome;
  outcome.codes.assign(static_cast<size_t>(ranks), -1);
  std::mutex mutex;
  ThreadWorld world(ranks);
  try {
    world.run([&](Comm& comm) {
      const int code = run_rank(
          comm, [&] { return body(comm); },
          [&](std::string_view line) {
            std::lock_guard lock(mutex);
            outcome.lines.emplace_back(line);
          });
      outcome.codes[static_cast<size_t>(comm.rank())] = code;
    });
  } catch (const Error& error) {
    outcome.thrown = error.what();
  }
  return outcome;
}

TEST(Agree, AllIsWell) {
  const Outcome outcome = run_ranks(4, [](Comm& comm) {
    const int doubled = agreed(comm, [&] { return 2 * comm.rank(); });
    EXPECT_EQ(doubled, 2 * comm.rank());
    agreed(comm, [] {});
    agree_equal(comm, "the configuration", 42, Exit::bad_config);
    return 0;
  });
  EXPECT_EQ(outcome.codes, std::vector<int>(4, 0));
  EXPECT_TRUE(outcome.lines.empty());
}

TEST(Agree, TheLowestFailingRankSpeaksOnceAndAllLeaveWithItsCode) {
  const Outcome outcome = run_ranks(4, [](Comm& comm) {
    agreed(comm, [&] {
      if (comm.rank() == 3) fail(Exit::io, "disk full");
      if (comm.rank() == 1) fail(Exit::bad_data, "corpus.h5: damaged");
    });
    ADD_FAILURE() << "rank " << comm.rank() << " went on";
    return 0;
  });
  EXPECT_EQ(outcome.codes, std::vector<int>(4, 65));
  EXPECT_EQ(outcome.lines, std::vector<std::string>{"rank 1: corpus.h5: damaged"});
  EXPECT_EQ(outcome.thrown, "");
}

TEST(Agree, AFailureOfAllNamesNoRank) {
  const Outcome outcome =
      run_ranks(3, [](Comm& comm) { return agreed(comm, []() -> int { fail(Exit::bad_config, "lr: negative"); }); });
  EXPECT_EQ(outcome.codes, std::vector<int>(3, 78));
  EXPECT_EQ(outcome.lines, std::vector<std::string>{"lr: negative"});
}

TEST(Agree, WhoTakesNoPartIsNotCountedAsWell) {
  const Outcome outcome = run_ranks(4, [](Comm& comm) {
    agreed_by(comm, comm.rank() == 2, [] { fail(Exit::io, "disk full"); });
    return 0;
  });
  EXPECT_EQ(outcome.lines, std::vector<std::string>{"disk full"});
  EXPECT_EQ(outcome.codes, std::vector<int>(4, static_cast<int>(Exit::io)));
  const Outcome one_of_two = run_ranks(4, [](Comm& comm) {
    agreed_by(comm, comm.rank() % 2 == 0, [&] {
      if (comm.rank() == 2) fail(Exit::io, "disk full");
    });
    return 0;
  });
  EXPECT_EQ(one_of_two.lines, std::vector<std::string>{"rank 2: disk full"});
}

TEST(Agree, OtherExceptionsAreInternalErrors) {
  const Outcome outcome = run_ranks(2, [](Comm& comm) {
    agreed(comm, [&] {
      if (comm.rank() == 1) throw std::logic_error("index");
    });
    return 0;
  });
  EXPECT_EQ(outcome.codes, std::vector<int>(2, 70));
  EXPECT_EQ(outcome.lines, std::vector<std::string>{"rank 1: internal error: index"});
}

TEST(Agree, AFailureInTheMiddleOfAStepIsReportedOnceAndReleasesAll) {
  const Outcome outcome = run_ranks(8, [](Comm& comm) {
    for (int step = 0; step < 100; ++step) {
      if (comm.rank() == 5 && step == 50) fail(Exit::run_failed, "loss is not finite at step 50");
      int64_t x = step;
      comm.all_reduce(std::span(&x, 1), ReduceOp::sum);
    }
    return 0;
  });
  EXPECT_EQ(outcome.lines, std::vector<std::string>{"rank 5: loss is not finite at step 50"});
  EXPECT_EQ(outcome.thrown, "loss is not finite at step 50");
  for (int r = 0; r < 8; ++r) EXPECT_EQ(outcome.codes[static_cast<size_t>(r)], r == 5 ? -1 : 1);
}

TEST(Agree, OneRankNeedsNoNumber) {
  const Outcome outcome = run_ranks(1, [](Comm&) -> int { fail(Exit::usage, "no such command"); });
  EXPECT_EQ(outcome.codes, std::vector<int>{2});
  EXPECT_EQ(outcome.lines, std::vector<std::string>{"no such command"});
}

std::string difference(int ranks, const std::function<uint64_t(int)>& digest) {
  const Outcome outcome = run_ranks(ranks, [&](Comm& comm) {
    agree_equal(comm, "the configuration", digest(comm.rank()), Exit::bad_config);
    return 0;
  });
  EXPECT_EQ(outcome.codes, std::vector<int>(static_cast<size_t>(ranks), 78));
  EXPECT_EQ(outcome.lines.size(), 1u);
  return outcome.lines.empty() ? "" : outcome.lines[0];
}

TEST(AgreeEqual, NamesTheOddRanks) {
  EXPECT_EQ(difference(4, [](int r) { return r == 2 ? 1u : 0u; }),
            "the configuration differs on rank 2 from the other 3");
  EXPECT_EQ(difference(4, [](int r) { return r == 0 ? 1u : 0u; }),
            "the configuration differs on rank 0 from the other 3");
  EXPECT_EQ(difference(2, [](int r) { return r == 1 ? 7u : 0u; }),
            "the configuration differs on rank 1 from the other 1");
  EXPECT_EQ(difference(5, [](int r) { return r > 2 ? 100u + static_cast<unsigned>(r) : 0u; }),
            "the configuration differs on ranks 3, 4 from the other 3");
  EXPECT_EQ(difference(12, [](int r) { return static_cast<unsigned>(r); }),
            "the configuration differs on ranks 1, 2, 3, 4, 5, 6, 7, 8 and 3 more from the other 1");
}

}  // namespace
}  // namespace tael
