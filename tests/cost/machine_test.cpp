#include "cost/machine.hpp"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace tael
