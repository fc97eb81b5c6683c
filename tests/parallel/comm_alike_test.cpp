// A world of ranks that nobody started.
#include <gtest/gtest.h>

#include <array>

#include "parallel/agree.hpp"
#include "parallel/comm.hpp"

namespace tael {
namespace {

TEST(CommAlike, AnswersAsIfAllRanksHeldTheSame) {
  const std::unique_ptr<Comm> comm = make_comm_alike(6, 4);
  EXPECT_EQ(comm->size(), 6);
  EXPECT_EQ(comm->rank(), 0);
  EXPECT_EQ(comm->hosts(), 4);
  EXPECT_EQ(comm->local_rank(), 0);
  EXPECT_EQ(comm->local_size(), 2);
  std::array<int64_t, 2> values = {3, -5};
  comm->all_reduce(values, ReduceOp::sum);
  EXPECT_EQ(values, (std::array<int64_t, 2>{18, -30}));
  comm->all_reduce(values, ReduceOp::max);
  comm->all_reduce(values, ReduceOp::min);
  EXPECT_EQ(values, (std::array<int64_t, 2>{18, -30}));
  std::array<float, 1> floats = {0.5f};
  comm->all_reduce_sum(floats);
  EXPECT_EQ(floats[0], 3.0f);
  EXPECT_EQ(comm->all_gather_text("ab"), std::vector<std::string>(6, "ab"));
  agree_equal(*comm, "anything", 7, Exit::internal);
  comm->barrier();
}

TEST(CommAlike, AFailureIsThatOfAllRanks) {
  const std::unique_ptr<Comm> comm = make_comm_alike(3, 1);
  try {
    agreed(*comm, [] { fail(Exit::bad_data, "wrong"); });
    FAIL();
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), Exit::bad_data);
    EXPECT_STREQ(error.what(), "wrong");
  }
  EXPECT_EQ(agreed(*comm, [] { return 5; }), 5);
}

TEST(CommAlike, HasNobodyToTalkTo) {
  const std::unique_ptr<Comm> comm = make_comm_alike(2, 1);
  EXPECT_THROW(comm->exchange({}, {}, 1), Error);
  EXPECT_THROW(make_comm_alike(1, 2), Error);
  EXPECT_THROW(make_comm_alike(0, 0), Error);
}

}  // namespace
}  // namespace tael
