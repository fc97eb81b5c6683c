#include <gtest/gtest.h>

#include <string>

#include "data/utf8.hpp"

namespace tael {
namespace {

const std::string kReplacement = "\xEF\xBF\xBD";

std::string streamed(const std::string& bytes) {
  Utf8Stream stream;
  std::string text;
  for (const char byte : bytes) {
    stream.feed(byte, text);
    Utf8Check check;  // what is there can be printed at any moment
    EXPECT_TRUE(check.feed(text) && check.finish());
  }
  stream.finish(text);
  return text;
}

TEST(Utf8Stream, WholeCharactersPassUnchanged) {
  const std::string text = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x99\x82\xED\x9F\xBF\xF4\x8F\xBF\xBFz";
  EXPECT_EQ(streamed(text), text);
  EXPECT_EQ(streamed(""), "");
}

TEST(Utf8Stream, ACharacterIsHeldBackUntilItIsWhole) {
  Utf8Stream stream;
  std::string text;
  for (const char* byte = "\xF0\x9F\x99"; *byte != 0; ++byte) stream.feed(*byte, text);
  EXPECT_EQ(text, "");
  stream.feed('\x82', text);
  EXPECT_EQ(text, "\xF0\x9F\x99\x82");
}

TEST(Utf8Stream, WhatIsNoCharacterIsReplacedOnce) {
  EXPECT_EQ(streamed("\x80"), kReplacement);
  EXPECT_EQ(streamed("\xFF\xFE"), kReplacement + kReplacement);
  EXPECT_EQ(streamed("\xE2\x82"), kReplacement);  // the end comes first
  EXPECT_EQ(streamed("\xE2\x82"
                     "a"),
            kReplacement + "a");  // another character comes first
  EXPECT_EQ(streamed("\xE2\xC3\xA4"), kReplacement + "\xC3\xA4");
  EXPECT_EQ(streamed("\xC0\xAF"), kReplacement + kReplacement);                     // overlong
  EXPECT_EQ(streamed("\xED\xA0\x80"), kReplacement + kReplacement + kReplacement);  // a surrogate
  EXPECT_EQ(streamed("\xF5"
                     "b"),
            kReplacement + "b");
}

TEST(Utf8Stream, AnyBytesGiveText) {
  std::string bytes;
  for (uint32_t i = 0, x = 7; i < 20000; ++i, x = x * 1664525u + 1013904223u) bytes += static_cast<char>(x >> 24);
  Utf8Check check;
  const std::string text = streamed(bytes.substr(0, 400)), all = [&] {
    Utf8Stream stream;
    std::string out;
    for (const char byte : bytes) stream.feed(byte, out);
    stream.finish(out);
    return out;
  }();
  EXPECT_TRUE(check.feed(all) && check.finish());
  EXPECT_NE(text.find(kReplacement), std::string::npos);
}

}  // namespace
}  // namespace tael
