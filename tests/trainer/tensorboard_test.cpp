#include "trainer/tensorboard.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

std::string directory(const char* name) {
  const std::string path = testing::process_scratch().at(name);
  remove_tree(path);
  make_directories(path);
  return path;
}

// The payloads of a file, each record's two checksums compared with what their bytes ask for.
std::vector<std::string> records(const std::string& path) {
  const std::string text = read_file(path);
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    uint64_t length = 0;
    uint32_t length_crc = 0, crc = 0;
    EXPECT_LE(at + 16, text.size());
    std::memcpy(&length, text.data() + at, 8);
    std::memcpy(&length_crc, text.data() + at + 8, 4);
    EXPECT_EQ(length_crc, masked_crc32c(text.data() + at, 8));
    EXPECT_LE(at + 16 + length, text.size());
    std::memcpy(&crc, text.data() + at + 12 + length, 4);
    EXPECT_EQ(crc, masked_crc32c(text.data() + at + 12, length));
    out.push_back(text.substr(at + 12, length));
    at += 16 + length;
  }
  return out;
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

TEST(Tensorboard, MaskedChecksumOfTheKnownVector) { EXPECT_EQ(masked_crc32c("123456789", 9), 0xC78AB0E5u); }

TEST(Tensorboard, FileNameHasTheUsualForm) {
  Tensorboard file({.directory = directory("name"), .host = "node 1/a.b", .process = 42, .wall_time = 1732435200.75});
  EXPECT_EQ(file.path(), testing::process_scratch().at("name") + "/events.out.tfevents.1732435200.node_1_a.b.42.1");
}

// Payloads written down by hand from event.proto and summary.proto.
TEST(Tensorboard, RecordsAreTheProtocolsBytes) {
  Tensorboard file({.directory = directory("bytes"), .wall_time = 2.0});
  file.scalar("train/loss", 300, 2.5, 1.5);
  file.flush();
  const std::vector<std::string> found = records(file.path());
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(hex(found[0]),
            "09"
            "0000000000000040"
            "1a0d"
            "627261696e2e4576656e743a32");  // brain.Event:2
  EXPECT_EQ(hex(found[1]),
            "09"
            "0000000000000440"  // wall time 2.5
            "10"
            "ac02"  // step 300
            "2a13"
            "0a11"  // summary of one value
            "0a0a"
            "747261696e2f6c6f7373"  // train/loss
            "15"
            "0000c03f");  // 1.5f
}

TEST(Tensorboard, AnAttemptAfterTheFirstStartsASession) {
  Tensorboard file({.directory = directory("session"), .wall_time = 2.0, .attempt = 2, .first_step = 5});
  const std::vector<std::string> found = records(file.path());
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(hex(found[1]),
            "09"
            "0000000000000040"
            "1005"
            "3a02"
            "0801");
}

TEST(Tensorboard, EveryScalarArrivesInOrder) {
  Tensorboard file({.directory = directory("many")});
  const float values[] = {0.0f, -1.5f, std::numeric_limits<float>::infinity(), std::nanf(""), 3e38f};
  for (int64_t step = 1; step <= 1000; ++step) {
    file.scalar("a", step, 0.5, values[step % 5]);
    if (step % 7 == 0) file.flush();
  }
  file.flush();
  file.flush();
  const std::vector<std::string> found = records(file.path());
  ASSERT_EQ(found.size(), 1001u);
  for (size_t step = 1; step <= 1000; ++step) {
    uint32_t bits = 0;
    std::memcpy(&bits, found[step].data() + found[step].size() - 4, 4);
    EXPECT_EQ(bits, std::bit_cast<uint32_t>(values[step % 5]));
  }
}

TEST(Tensorboard, AMissingDirectoryIsAnError) {
  try {
    Tensorboard file({.directory = testing::process_scratch().at("gone/x")});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::io);
  }
}

}  // namespace
}  // namespace tael
