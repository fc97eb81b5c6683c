// The tests that need real MPI ranks, run by CTest under mpirun and alone. Every rank runs all of them; rank 0 prints
// the digest, which must be the same for every number of ranks.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "base/print.hpp"
#include "parallel/agree.hpp"
#include "parallel/comm.hpp"
#include "tests/parallel/comm_checks.hpp"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int expected_ranks = argc > 1 ? std::atoi(argv[1]) : 1;
  const auto comm = tael::make_comm(tael::CommKind::mpi);
  return tael::run_rank(
      *comm,
      [&] {
        EXPECT_EQ(comm->size(), expected_ranks);
        EXPECT_EQ(comm->hosts(), 1);
        EXPECT_EQ(comm->local_rank(), comm->rank());
        EXPECT_EQ(comm->local_size(), comm->size());
        tael::testing::check_operations(*comm);
        const uint64_t digest = tael::testing::check_canonical_sums(*comm);
        tael::agree_equal(*comm, "the digest", digest, tael::Exit::internal);
        int64_t failed = testing::Test::HasFailure() ? 1 : 0;
        comm->all_reduce(std::span(&failed, 1), tael::ReduceOp::max);
        if (comm->rank() == 0 && failed == 0) tael::print_to(stdout, "canonical sums digest {:016x}\n", digest);
        return static_cast<int>(failed);
      },
      [](std::string_view line) { tael::print_to(stderr, "{}\n", line); });
}
