#include "base/json_lines.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

std::vector<int64_t> steps_of(const std::string& path, std::string_view last_member = {}) {
  std::vector<int64_t> steps;
  read_json_lines(path, last_member, [&](const Json& json) { steps.push_back(json.at("step").as_int()); });
  return steps;
}

// Wherever a kill tears a line, and a later writer ends it, the others are read.
TEST(JsonLines, PassesOverALineTornAnywhere) {
  const ScratchDirectory directory;
  const std::string torn = R"({"step":2,"message":"price is {usd: 2} now, was {\"eur\": {}} \\","more":{"a":1}})";
  for (size_t cut = 0; cut < torn.size(); ++cut) {
    directory.write("a", "{\"step\":1}\n" + torn.substr(0, cut) + "\n{\"step\":3}\n" + torn.substr(0, cut));
    EXPECT_EQ(steps_of(directory.at("a")), (std::vector<int64_t>{1, 3})) << torn.substr(0, cut);
  }
  directory.write("a", torn + "\n");
  EXPECT_EQ(steps_of(directory.at("a")), std::vector<int64_t>{2});
}

TEST(JsonLines, SaysWhereTheyAreDamaged) {
  const ScratchDirectory directory;
  EXPECT_TRUE(steps_of(directory.at("none")).empty());
  directory.write("a", "{\"step\":1}\n{\"step\":,}\n");
  const std::string message = error_of(Exit::bad_data, [&] { steps_of(directory.at("a")); });
  EXPECT_NE(message.find("a:2:"), std::string::npos) << message;
}

TEST(JsonLines, ALineWithoutItsLastMemberIsTorn) {
  const ScratchDirectory directory;
  directory.write("a", "{\"step\":1,\"end\":0}\n{\"step\":2}\n");
  EXPECT_EQ(steps_of(directory.at("a"), "end"), std::vector<int64_t>{1});
}

}  // namespace
}  // namespace tael
