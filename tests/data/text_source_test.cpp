#include "data/text_source.hpp"

#include <sys/stat.h>

#include <filesystem>

#include "base/rng.hpp"
#include "data/utf8.hpp"
#include "tests/data/compress.hpp"
#include "tests/data/shard_fixture.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

// -1: good; else the offset of the first bad character.
int64_t first_error(std::string_view text, size_t piece) {
  Utf8Check check;
  for (size_t at = 0; at < text.size(); at += piece)
    if (!check.feed(text.substr(at, piece))) return static_cast<int64_t>(check.error_offset());
  return check.finish() ? -1 : static_cast<int64_t>(check.error_offset());
}

TEST(Utf8, BordersOfEveryLengthHoweverTheTextIsCut) {
  struct Case {
    std::string text;
    int64_t error;
  };
  const std::vector<Case> cases = {
      {"", -1},
      {std::string("a\0b", 3), -1},
      {"\x7f", -1},
      {"\x80", 0},
      {"ab\xbf", 2},
      {"\xc0\x80", 0},
      {"\xc1\xbf", 0},
      {"\xc2\x80 \xdf\xbf", -1},
      {"x\xc2", 1},
      {"x\xc2y", 1},
      {"\xe0\x9f\xbf", 0},
      {"\xe0\xa0\x80 \xef\xbf\xbf", -1},
      {"\xed\x9f\xbf \xee\x80\x80", -1},
      {"abc\xed\xa0\x80", 3},
      {"\xed\xbf\xbf", 0},
      {"\xe2\x82", 0},
      {"\xf0\x8f\xbf\xbf", 0},
      {"\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf", -1},
      {"\xf4\x90\x80\x80", 0},
      {"\xf5\x80\x80\x80", 0},
      {"\xff", 0},
      {"12345678\xfe", 8},
      {"1234567\xe2\x82\xac"
       "12345678\xe2\x82",
       18},
      {"\xf0\x9f\x98\x80\xf0\x9f\x98", 4},
  };
  for (const Case& c : cases)
    for (size_t piece = 1; piece <= 9; ++piece) EXPECT_EQ(first_error(c.text, piece), c.error) << c.text;
}

TEST(Utf8, EveryCodePoint) {
  std::string all;
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    if (c < 0x80) {
      all += static_cast<char>(c);
    } else if (c < 0x800) {
      all += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      all += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
              static_cast<char>(0x80 | (c & 63))};
    } else {
      all += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
              static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
    }
  }
  EXPECT_EQ(first_error(all, all.size()), -1);
  EXPECT_EQ(first_error(all, 4099), -1);
  EXPECT_EQ(first_error(all + "\xff", 4099), static_cast<int64_t>(all.size()));
}

TEST(Utf8, LinesAreCounted) {
  for (size_t piece : {1, 2, 3, 5, 100}) {
    const std::string text = "a\nb\n\n\xe2\x82\xac\nc\xe2\x82\n";
    Utf8Check check;
    bool good = true;
    for (size_t at = 0; at < text.size() && good; at += piece)
      good = check.feed(std::string_view(text).substr(at, piece));
    EXPECT_FALSE(good);
    EXPECT_EQ(check.error_line(), 5u) << piece;
    EXPECT_EQ(check.error_offset(), 10u) << piece;
  }
}

std::string read_text(const std::string& path) {
  TextStream stream(path);
  std::string text;
  for (std::string_view piece; !(piece = stream.next()).empty();) text += piece;
  EXPECT_EQ(stream.bytes(), text.size());
  EXPECT_EQ(stream.bytes_on_disk(), std::filesystem::file_size(path));
  return text;
}

std::string long_text(size_t bytes) {
  const Rng rng(3, "text");
  std::string text;
  for (uint64_t i = 0; text.size() < bytes; ++i) {
    text += fmt::format("{} \xe2\x82\xac{}", rng.below(2 * i, 1000), rng.below(2 * i + 1, 7) == 0 ? "\n" : "");
  }
  return text;
}

TEST(TextStream, PlainAndCompressedOfAnySize) {
  const ScratchDirectory dir;
  for (size_t bytes : {1, 1000, 262144, 1500000}) {
    const std::string text = long_text(bytes);
    write_file(dir.at("a.txt"), text);
    write_file(dir.at("a.txt.gz"), gzip(text));
    write_file(dir.at("a.txt.zst"), zstd(text));
    EXPECT_EQ(read_text(dir.at("a.txt")), text);
    EXPECT_EQ(read_text(dir.at("a.txt.gz")), text);
    EXPECT_EQ(read_text(dir.at("a.txt.zst")), text);
  }
}

TEST(TextStream, ManyMembersAndFramesAreOneText) {
  const ScratchDirectory dir;
  std::string text, gz, zst;
  for (int i = 0; i < 50; ++i) {
    const std::string piece = i % 7 == 3 ? "" : long_text(static_cast<size_t>(1 + i * 997));
    text += piece;
    gz += gzip(piece);
    zst += zstd(piece);
  }
  write_file(dir.at("a.gz"), gz);
  write_file(dir.at("a.zst"), zst);
  EXPECT_EQ(read_text(dir.at("a.gz")), text);
  EXPECT_EQ(read_text(dir.at("a.zst")), text);
  // A character may be cut by a member's border, as anywhere.
  write_file(dir.at("b.gz"), gzip("\xe2") + gzip("\x82") + gzip("\xac"));
  EXPECT_EQ(read_text(dir.at("b.gz")), "\xe2\x82\xac");
}

// tar and tapes fill the last block with zeros; gzip passes over them, however many pieces they fill.
TEST(TextStream, ZerosBehindTheLastMemberArePassedOver) {
  const ScratchDirectory dir;
  const std::string text = long_text(1000);
  for (size_t zeros : {1, 2, 511, 262144, 600000}) {
    write_file(dir.at("a.gz"), gzip(text) + gzip("end") + std::string(zeros, '\0'));
    EXPECT_EQ(read_text(dir.at("a.gz")), text + "end") << zeros;
  }
}

// A frame of one raw block, with the window of 2^log bytes that its header asks for.
std::string frame_with_window(int log, std::string_view text) {
  std::string frame("\x28\xb5\x2f\xfd\0", 5);  // the magic number; a window, and nothing optional, follows
  frame += static_cast<char>((log - 10) << 3);
  const size_t block = text.size() << 3 | 1;  // the last block, raw
  for (int i = 0; i < 3; ++i) frame += static_cast<char>(block >> (8 * i));
  return frame.append(text);
}

// As `zstd --long=31` makes them. The largest that the format's decoder takes is 2 GiB, of which only the pages that
// the text fills become resident.
TEST(TextStream, WindowsUpToTwoGibibytes) {
  const ScratchDirectory dir;
  for (int log : {10, 27, 28, 29, 30, 31}) {
    write_file(dir.at("a.zst"), frame_with_window(log, "text") + zstd(" and more"));
    EXPECT_EQ(read_text(dir.at("a.zst")), "text and more") << log;
  }
  write_file(dir.at("a.zst"), frame_with_window(32, "text"));
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { read_text(dir.at("a.zst")); })),
            "DIR/a.zst: damaged zstd data at or after byte 0: Frame requires too much memory for decoding");
}

// Every cut of a compressed file is found, and a flipped bit is found or changes nothing (padding bits of a stream;
// both formats carry a checksum of the text).
TEST(TextStream, EveryCutAndFlipOfACompressedFileIsRefused) {
  const ScratchDirectory dir;
  const std::string text = long_text(200);
  for (const char* ending : {".gz", ".zst"}) {
    const std::string path = dir.at("a") + ending;
    const std::string good = ending[1] == 'g' ? gzip(text) : zstd(text);
    for (size_t size = 1; size < good.size(); ++size) {
      write_file(path, std::string_view(good).substr(0, size));
      EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { read_text(path); })),
                fmt::format("DIR/a{}: cut: its compressed data does not end at byte {}", ending, size));
    }
    size_t refused = 0;
    for (size_t at = 0; at < good.size(); ++at) {
      std::string bad = good, got;
      bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
      write_file(path, bad);
      const std::string message = dir.relative(error_of(Exit::bad_data, [&] { got = read_text(path); }));
      if (got == text) continue;
      EXPECT_EQ(message.find(fmt::format("DIR/a{}", ending)), 0u) << message << " " << at;
      ++refused;
    }
    EXPECT_GE(refused, good.size() - 15) << ending;  // a gzip member's flags, time and system are not checked
  }
}

TEST(ListTextFiles, DirectoriesAreSortedByBytesAndCounted) {
  const ScratchDirectory dir;
  std::filesystem::create_directories(dir.at("in/sub/deep"));
  std::filesystem::create_directories(dir.at("in/empty"));
  for (const char* name :
       {"in/b.txt", "in/B.txt", "in/sub/deep/x", "in/sub.txt", "in/\xc3\xa9", "in/a.jsonl.gz", "in/sub/y.ndjson"})
    write_file(dir.at(name), "x");
  write_file(dir.at("in/nothing"), "");
  std::filesystem::create_symlink("b.txt", dir.at("in/link"));
  std::filesystem::create_directory_symlink(dir.at("in"), dir.at("in/loop"));
  ASSERT_EQ(mkfifo(dir.at("in/pipe").c_str(), 0600), 0);
  write_file(dir.at("one.txt"), "x");
  std::filesystem::create_symlink("one.txt", dir.at("named"));  // an input that is a link is meant

  const std::string inputs[] = {dir.at("one.txt"), dir.at("in"), dir.at("named")};
  const TextFiles list = list_text_files(inputs);
  std::vector<std::string> names;
  for (const TextFile& file : list.files)
    names.push_back(dir.relative(file.path) + (file.jsonl ? " jsonl " : " ") + std::to_string(file.input));
  EXPECT_EQ(names, (std::vector<std::string>{"DIR/one.txt 0", "DIR/in/B.txt 1", "DIR/in/a.jsonl.gz jsonl 1",
                                             "DIR/in/b.txt 1", "DIR/in/sub.txt 1", "DIR/in/sub/deep/x 1",
                                             "DIR/in/sub/y.ndjson jsonl 1", "DIR/in/\xc3\xa9 1", "DIR/named 2"}));
  EXPECT_EQ(list.empty_files, 1);
  EXPECT_EQ(list.skipped_links, 2);
  EXPECT_EQ(list.skipped_others, 1);
  const std::string pipe[] = {dir.at("in/pipe")};
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { list_text_files(pipe); })), "DIR/in/pipe: is not a file");
}

TEST(JsonlStream, LinesEscapesAndBlanks) {
  const ScratchDirectory dir;
  const std::string text =
      "{\"text\": \"one\"}\n\n  \t\r\n{\"id\": 7, \"text\": \"t\\u00e9\\n\\\"\\ud83d\\ude00\", \"more\": [1, {}]}\r\n"
      "{\"text\": \"\"}\n{\"text\": \"last\"}";
  write_file(dir.at("a.jsonl"), text);
  write_file(dir.at("a.jsonl.gz"), gzip(text));
  for (const char* name : {"a.jsonl", "a.jsonl.gz"}) {
    JsonlStream stream(dir.at(name));
    std::vector<std::string> documents;
    for (std::string document; stream.next(document);) documents.push_back(document);
    EXPECT_EQ(documents, (std::vector<std::string>{"one", "t\xc3\xa9\n\"\xf0\x9f\x98\x80", "", "last"}));
  }
  // A document much longer than a piece.
  const std::string big = long_text(900000);
  std::string escaped;
  for (char c : big) escaped += c == '\n' ? std::string("\\n") : std::string(1, c);
  write_file(dir.at("b.jsonl"), "{\"text\":\"" + escaped + "\"}\n");
  JsonlStream stream(dir.at("b.jsonl"));
  std::string document;
  ASSERT_TRUE(stream.next(document));
  EXPECT_EQ(document, big);
  EXPECT_FALSE(stream.next(document));
  EXPECT_FALSE(stream.next(document));
}

}  // namespace
}  // namespace tael
