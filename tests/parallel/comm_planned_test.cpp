#include "parallel/comm_planned.hpp"

#include <gtest/gtest.h>

#include <array>

#include "parallel/agree.hpp"

namespace tael {
namespace {

TEST(CommPlanned, PlacesRanksOnTheirNodes) {
  const std::unique_ptr<Comm> comm = make_comm_planned(3, 4);
  EXPECT_EQ(comm->rank(), 0);
  EXPECT_EQ(comm->size(), 12);
  EXPECT_EQ(comm->hosts(), 3);
  EXPECT_EQ(comm->local_rank(), 0);
  EXPECT_EQ(comm->local_size(), 4);
  EXPECT_EQ(comm->host_of(3), 0);
  EXPECT_EQ(comm->host_of(4), 1);
  EXPECT_EQ(comm->host_of(11), 2);
}

TEST(CommPlanned, AllRanksHoldTheSame) {
  const std::unique_ptr<Comm> comm = make_comm_planned(2, 1);
  EXPECT_EQ(comm->all_gather_text("cores 0-3"), (std::vector<std::string>{"cores 0-3", "cores 0-3"}));
  EXPECT_EQ(comm->all_gather_text(""), (std::vector<std::string>{"", ""}));
  std::array<int64_t, 2> values = {5, -1};
  comm->all_reduce(values, ReduceOp::min);
  EXPECT_EQ(values, (std::array<int64_t, 2>{5, -1}));
  comm->all_reduce(values, ReduceOp::max);
  EXPECT_EQ(values, (std::array<int64_t, 2>{5, -1}));
  comm->all_reduce(values, ReduceOp::sum);
  EXPECT_EQ(values, (std::array<int64_t, 2>{10, -2}));
  std::array<float, 1> real = {1.5F};
  comm->all_reduce_sum(real);
  EXPECT_EQ(real[0], 3.0F);
  const std::array<std::byte, 2> sent = {std::byte{7}, std::byte{9}};
  std::array<std::byte, 2> received = {};
  comm->exchange(sent, received, 1);
  EXPECT_EQ(received, sent);
}

// What every rank would find wrong alone is nobody's fault in particular.
TEST(CommPlanned, AgreesOnAnErrorWithoutNamingARank) {
  const std::unique_ptr<Comm> comm = make_comm_planned(2, 2);
  EXPECT_EQ(agreed(*comm, [] { return 3; }), 3);
  agree_equal(*comm, "data", 17, Exit::bad_data);
  try {
    agreed(*comm, [] { fail(Exit::bad_data, "train.h5: no such file"); });
    FAIL() << "no error";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), Exit::bad_data);
    EXPECT_STREQ(error.what(), "train.h5: no such file");
  }
}

}  // namespace
}  // namespace tael
