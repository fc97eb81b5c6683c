#include "parallel/comm_threads.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "parallel/comm.hpp"
#include "tests/parallel/comm_checks.hpp"

namespace tael {
namespace {

class ThreadRanks : public ::testing::TestWithParam<int> {};

TEST_P(ThreadRanks, EveryOperationGivesWhatItsContractSays) {
  ThreadWorld world(GetParam());
  std::atomic<int> bodies{0};
  world.run([&](Comm& comm) {
    ++bodies;
    EXPECT_EQ(comm.size(), GetParam());
    EXPECT_EQ(comm.hosts(), 1);
    EXPECT_EQ(comm.local_rank(), comm.rank());
    EXPECT_EQ(comm.local_size(), comm.size());
    testing::check_operations(comm);
  });
  EXPECT_EQ(bodies, GetParam());
}

TEST_P(ThreadRanks, ManyRoundsInAnyOrderOfArrival) {
  ThreadWorld world(GetParam());
  world.run([&](Comm& comm) {
    for (int64_t round = 0; round < 300; ++round) {
      if ((round + comm.rank()) % 3 == 0) std::this_thread::yield();
      int64_t value = round * (comm.rank() + 1);
      comm.all_reduce(std::span(&value, 1), ReduceOp::sum);
      ASSERT_EQ(value, round * comm.size() * (comm.size() + 1) / 2);
      if (comm.size() % 2 == 0) {
        const int64_t mine = round * 100 + comm.rank();
        int64_t theirs = -1;
        comm.exchange(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(&theirs, 1)),
                      comm.rank() ^ 1);
        ASSERT_EQ(theirs, round * 100 + (comm.rank() ^ 1));
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadRanks, ::testing::Values(1, 2, 3, 4, 8));

// The code and the message of the error that run throws.
Error error_of(ThreadWorld& world, const std::function<void(Comm&)>& body) {
  try {
    world.run(body);
  } catch (const Error& error) {
    return error;
  }
  return {Exit::done, "no error"};
}

TEST(ThreadWorldFailure, ARankThatThrowsLetsNobodyWait) {
  ThreadWorld world(8);
  // Whatever the others are waiting in.
  const std::vector<std::function<void(Comm&)>> waits = {
      [](Comm& comm) { comm.barrier(); },
      [](Comm& comm) {
        int64_t x = 0;
        comm.all_reduce(std::span(&x, 1), ReduceOp::max);
      },
      [](Comm& comm) {
        std::vector<float> out(1000, 1.0f), in(1000);
        comm.exchange(std::as_bytes(std::span(out)), std::as_writable_bytes(std::span(in)), comm.rank() ^ 1);
        comm.barrier();
      },
  };
  for (const auto& wait : waits)
    for (const int failing : {0, 5, 7}) {
      std::atomic<int> released{0};
      const Error error = error_of(world, [&](Comm& comm) {
        comm.barrier();
        if (comm.rank() == failing) fail(Exit::bad_data, "shard 3 is damaged");
        try {
          wait(comm);
          FAIL() << "rank " << comm.rank() << " was not told";
        } catch (const PeerError& peer) {
          EXPECT_EQ(peer.code(), Exit::bad_data);
          EXPECT_EQ(std::string(peer.what()), fmt::format("rank {} failed: shard 3 is damaged", failing));
          ++released;
          throw;
        }
      });
      EXPECT_EQ(error.code(), Exit::bad_data);
      EXPECT_STREQ(error.what(), "shard 3 is damaged");
      EXPECT_EQ(released, 7);
    }
}

TEST(ThreadWorldFailure, TheWorldCanBeUsedAgain) {
  ThreadWorld world(4);
  EXPECT_THROW(world.run([](Comm& comm) {
    if (comm.rank() == 2) throw std::runtime_error("once");
    comm.barrier();
  }),
               std::runtime_error);
  world.run([](Comm& comm) { testing::check_operations(comm); });
}

TEST(ThreadWorldFailure, AbortReleasesTheOthersWithItsCode) {
  ThreadWorld world(4);
  std::atomic<int> released{0};
  const Error error = error_of(world, [&](Comm& comm) {
    if (comm.rank() == 1) comm.abort(Exit::bad_config, "no such preset");
    try {
      comm.barrier();
    } catch (const PeerError& peer) {
      EXPECT_EQ(peer.code(), Exit::bad_config);
      ++released;
    }
  });
  EXPECT_EQ(error.code(), Exit::bad_config);
  EXPECT_STREQ(error.what(), "no such preset");
  EXPECT_EQ(released, 3);
}

TEST(ThreadWorldFailure, ARankThatReturnsEarlyIsNamed) {
  ThreadWorld world(3);
  const Error error = error_of(world, [](Comm& comm) {
    if (comm.rank() != 1) comm.barrier();
  });
  EXPECT_EQ(error.code(), Exit::internal);
  EXPECT_STREQ(error.what(), "rank 1 returned while another rank still waits for it");
}

TEST(ThreadWorldFailure, RanksThatDoNotAgreeOnTheOperationAreNamed) {
  ThreadWorld world(2);
  const Error different = error_of(world, [](Comm& comm) {
    int64_t x = 0;
    if (comm.rank() == 0) comm.barrier();
    if (comm.rank() == 1) comm.all_reduce(std::span(&x, 1), ReduceOp::sum);
  });
  EXPECT_EQ(different.code(), Exit::internal);
  EXPECT_NE(std::string(different.what()).find("barrier of 0 bytes"), std::string::npos) << different.what();
  EXPECT_NE(std::string(different.what()).find("all_reduce of 8 bytes"), std::string::npos) << different.what();
  const Error sizes = error_of(world, [](Comm& comm) {
    std::vector<std::byte> out(comm.rank() == 0 ? 8 : 12), in(8);
    comm.exchange(out, in, comm.rank() ^ 1);
  });
  EXPECT_EQ(sizes.code(), Exit::internal);
  EXPECT_NE(std::string(sizes.what()).find("rank 0 expects 8 bytes of rank 1, which sends 12"), std::string::npos)
      << sizes.what();
}

TEST(CommSelf, EveryOperationGivesWhatItsContractSays) {
  const auto comm = make_comm(CommKind::self);
  EXPECT_EQ(comm->size(), 1);
  testing::check_operations(*comm);
  EXPECT_THROW(comm->abort(Exit::io, "disk"), Error);
}

TEST(CommKind, FollowsTheLauncher) {
  const auto with = [](std::string_view name) { return [name](const char* asked) { return name == asked; }; };
  EXPECT_EQ(comm_kind_of_launch(with("OMPI_COMM_WORLD_SIZE")), CommKind::mpi);
  EXPECT_EQ(comm_kind_of_launch(with("PMIX_RANK")), CommKind::mpi);
  EXPECT_EQ(comm_kind_of_launch(with("SLURM_PROCID")), CommKind::self);
  EXPECT_EQ(name_of(CommKind::mpi), "mpi");
}

}  // namespace
}  // namespace tael
