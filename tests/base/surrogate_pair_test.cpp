// Characters beyond U+FFFF as JSON escapes them, in the configurations that hold JSON and in those that merely look so.
#include <gtest/gtest.h>

#include "base/config_node.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;

const std::string kFace = "\xf0\x9f\x98\x80";  // U+1F600
const std::string kPair = "\\ud83d\\ude00";

std::string scalar_of(const std::string& text) {
  return parse_yaml("key: " + text + "\n", "t.yaml").items.at(0).scalar;
}

TEST(SurrogatePair, IsOneCharacterInDoubleQuotes) {
  EXPECT_EQ(scalar_of("\"" + kPair + "\""), kFace);
  EXPECT_EQ(scalar_of("\"mod\\u00e8le " + kPair + kPair + " \\u20ac\""),
            "mod\xc3\xa8le " + kFace + kFace + " \xe2\x82\xac");
  EXPECT_EQ(scalar_of("\"\\uD83D\\uDE00\""), kFace);
  EXPECT_EQ(scalar_of("\"\\ud800\\udc00\""), "\xf0\x90\x80\x80");  // U+10000, the first
  EXPECT_EQ(scalar_of("\"\\udbff\\udfff\""), "\xf4\x8f\xbf\xbf");  // U+10FFFF, the last
  EXPECT_EQ(scalar_of("\"folded " + kPair + "\n  line\""), "folded " + kFace + " line");
  EXPECT_EQ(scalar_of("! \"" + kPair + "\""), kFace);
  EXPECT_EQ(scalar_of("! # '\n  # \n  \"" + kPair + "\""), kFace);
  const ConfigNode keys = parse_yaml("{\"" + kPair + "\": [\"" + kPair + "\", 1]}", "t.json");
  EXPECT_EQ(keys.keys.at(0).scalar, kFace);
  EXPECT_EQ(keys.items.at(0).items.at(0).scalar, kFace);
  // In front of it a byte order mark, a comment and characters of several bytes.
  EXPECT_EQ(parse_yaml("\xef\xbb\xbf# \xe2\x82\xac\n\xc3\xa9: \"" + kPair + "\"", "t.yaml").items.at(0).scalar, kFace);
}

TEST(SurrogatePair, AnEscapedBackslashBeginsNone) {
  EXPECT_EQ(scalar_of("\"\\\\ud83d\\\\ude00\""), kPair);
  EXPECT_EQ(scalar_of("\"\\\\" + kPair + "\""), "\\" + kFace);
  EXPECT_EQ(scalar_of("\"\\\\\\\\ud83d\""), "\\\\ud83d");
}

TEST(SurrogatePair, OutsideDoubleQuotesItIsTwelveCharacters) {
  for (const std::string& text : {"'a " + kPair + "'", "a " + kPair, "! 'a " + kPair + "'"})
    EXPECT_EQ(scalar_of(text), "a " + kPair) << text;
  EXPECT_EQ(scalar_of("'\"" + kPair + "\"'"), "\"" + kPair + "\"");
  EXPECT_EQ(scalar_of("|\n  \"" + kPair + "\""), "\"" + kPair + "\"\n");
  EXPECT_EQ(scalar_of(">-\n  " + kPair), kPair);
  EXPECT_EQ(scalar_of("1 # \"" + kPair + "\""), "1");
}

TEST(SurrogatePair, PlacesBehindItStayRight) {
  const ConfigNode root = parse_yaml("{\"a\": \"" + kPair + "\", \"b\": 1,\n \"" + kPair + "\": 2}", "t.json");
  EXPECT_EQ(root.keys.at(1).origin.str(), "t.json:1:23");
  EXPECT_EQ(root.items.at(1).origin.str(), "t.json:1:28");
  EXPECT_EQ(root.items.at(2).origin.str(), "t.json:2:18");
}

TEST(SurrogatePair, HalfOfOneIsRefusedWithItsPlace) {
  const auto message = [](const std::string& text) {
    return error_of(Exit::bad_config, [&] { parse_yaml(text, "t.json"); });
  };
  // The place is behind the escape.
  EXPECT_EQ(message("{\"a\": \"" + kPair + "\",\n \"b\": \"\\ud83d x\"}"),
            "t.json:2:14: not YAML: invalid unicode: 55357");
  EXPECT_EQ(message("{\"a\": \"" + kPair + "\\ude00\"}"), "t.json:1:26: not YAML: invalid unicode: 56832");
  EXPECT_EQ(message("{\"a\": \"\\ude00\\ud83d\"}"), "t.json:1:14: not YAML: invalid unicode: 56832");
  EXPECT_EQ(message("{\"a\": \"\\\\" + kPair.substr(0, 6) + "\"}"), "t.json:1:16: not YAML: invalid unicode: 55357");
  EXPECT_EQ(message("{\"a\": \"\\ud83d\\u0041\"}"), "t.json:1:14: not YAML: invalid unicode: 55357");
}

}  // namespace
}  // namespace tael
