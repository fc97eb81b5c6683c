#include "cost/machine.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

TEST(Machine, MemoryThatIsNotThereIsRefusedForAllRanksTogether) {
  const size_t available = available_bytes();
  ASSERT_GT(available, 0u);
  require_memory(1, 1, "it", "");
  // Each alone would have room.
  const std::string message = testing::error_of(
      Exit::bad_config, [&] { require_memory(available / 16 * 9, 8, "the run", "a smaller model needs less"); });
  EXPECT_EQ(message.find("the run does not fit: 8 ranks on this host need "), 0u) << message;
  EXPECT_NE(message.find(" MiB are free; a smaller model needs less"), std::string::npos) << message;
}

class ControlGroups : public ::testing::Test {
 protected:
  // A group with a limit; `prefix` is of the names in memory.stat.
  void group(const std::string& path, const std::string& limit, uint64_t used, uint64_t cache, bool version1) {
    const std::string at = "groups/" + path;
    std::filesystem::create_directories(dir_.at(at));
    dir_.write(at + (version1 ? "/memory.limit_in_bytes" : "/memory.max"), limit + "\n");
    dir_.write(at + (version1 ? "/memory.usage_in_bytes" : "/memory.current"), std::to_string(used) + "\n");
    const std::string own =
        version1 ? fmt::format(
                       "inactive_file 7\nactive_file 7\nanon 5\ntotal_inactive_file {}\n"
                       "total_active_file {}\n",
                       cache - cache / 3, cache / 3)
                 : fmt::format("anon 5\ninactive_file {}\nactive_file {}\nslab 9\n", cache - cache / 3, cache / 3);
    dir_.write(at + "/memory.stat", own);
  }
  std::optional<size_t> left(const std::string& membership) {
    dir_.write("membership", membership);
    return group_bytes_left(dir_.at("membership"), dir_.at("groups"));
  }

  testing::ScratchDirectory dir_;
};

TEST_F(ControlGroups, TheLeastOfTheOwnGroupAndAllAboveIt) {
  EXPECT_EQ(left("0::/job/step\n"), std::nullopt);  // nothing mounted
  group("job/step", "max", 900, 100, false);
  group("job", "max", 1000, 0, false);
  EXPECT_EQ(left("0::/job/step\n"), std::nullopt);
  group("job", "5000", 1000, 300, false);
  EXPECT_EQ(left("0::/job/step\n"), 5000u - 700u);
  group("job/step", "2000", 900, 100, false);
  EXPECT_EQ(left("0::/job/step\n"), 2000u - 800u);
  group("", "3000", 2500, 100, false);
  EXPECT_EQ(left("0::/job/step\n"), 3000u - 2400u);
  EXPECT_EQ(left("0::/\n"), 3000u - 2400u);             // a container with a name space of its own
  EXPECT_EQ(left("0::/of/the/host\n"), 3000u - 2400u);  // and one without: its group is mounted as the root
  EXPECT_EQ(left("12:cpu,cpuacct:/job\n"), std::nullopt);
  group("job/step", "700", 900, 100, false);
  EXPECT_EQ(left("0::/job/step\n"), 0u);  // the limit was lowered below what is used
}

TEST_F(ControlGroups, Version1AndBothTogether) {
  const std::string none = "9223372036854771712";
  group("memory/job/step", none, 900, 0, true);
  group("memory/job", "4000", 1000, 600, true);
  group("memory", none, 100000, 0, true);
  EXPECT_EQ(left("9:pids:/job/step\n4:memory:/job/step\n0::/\n"), 4000u - 400u);
  EXPECT_EQ(left("4:hugetlb,memory:/job/step\n"), 4000u - 400u);
  EXPECT_EQ(left("4:cpu:/job/step\n"), std::nullopt);
  EXPECT_EQ(left("4:memory:/other\n"), std::nullopt);
  group("unified/job", "3000", 1000, 0, false);
  EXPECT_EQ(left("4:memory:/job\n0::/job\n"), 2000u);
}

TEST_F(ControlGroups, WhatCannotBeReadLimitsNothing) {
  for (const char* membership : {"", "x", "0:", "0::", "::\n::", "4:memory:job"})
    EXPECT_EQ(left(membership), std::nullopt);
  EXPECT_EQ(group_bytes_left(dir_.at("not there"), dir_.at("groups")), std::nullopt);
}

}  // namespace
}  // namespace tael
