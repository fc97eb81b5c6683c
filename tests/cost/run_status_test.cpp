#include "cost/run_status.hpp"

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

TEST(Status, IsReplacedAsAWhole) {
  const ScratchDirectory directory;
  const std::string path = directory.at("status");
  const std::chrono::system_clock::time_point epoch{};
  write_status(path, {.state = "starting", .steps = 10}, epoch);
  write_status(path, {.state = "running", .step = 3, .steps = 10, .tokens = 6144, .device_hours = 0.5, .eta_s = 12.5},
               epoch);
  EXPECT_EQ(read_file(path),
            "{\n  \"t\": \"1970-01-01T00:00:00.000Z\",\n  \"state\": \"running\",\n  \"step\": 3,\n  \"steps\": 10,\n"
            "  \"tokens\": 6144,\n  \"device_hours\": 0.5,\n  \"eta\": 12.5\n}\n");
  write_status(path, {.state = "done"}, epoch);
  EXPECT_TRUE(JsonDocument::parse(read_file(path), path).root().at("eta").is_null());
  EXPECT_FALSE(path_exists(path + ".tmp"));
}

TEST(Status, ReadsBackWhatWasWritten) {
  const ScratchDirectory directory;
  const std::string path = directory.at("status");
  EXPECT_FALSE(read_status(path));
  write_status(path, {.state = "running", .step = 3, .steps = 10, .tokens = 6144, .device_hours = 0.5, .eta_s = 12.5},
               {});
  const std::optional<RunStatus> read = read_status(path);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->state, "running");
  EXPECT_EQ(read->step, 3);
  EXPECT_EQ(read->steps, 10);
  EXPECT_EQ(read->tokens, 6144);
  EXPECT_EQ(read->device_hours, 0.5);
  EXPECT_EQ(read->eta_s, 12.5);
  write_status(path, {.state = "done"}, {});
  EXPECT_FALSE(read_status(path)->eta_s);
  directory.write("status", "{\"state\":");
  EXPECT_NE(error_of(Exit::bad_data, [&] { read_status(path); }).find("status:1:"), std::string::npos);
}

}  // namespace
}  // namespace tael
