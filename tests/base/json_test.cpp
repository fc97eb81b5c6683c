#include "base/json.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tael {
namespace {

std::string error_of(std::string_view text, const JsonOptions& options = {}) {
  try {
    JsonDocument::parse(text, "f.json", options);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), options.code);
    return e.what();
  }
  return "accepted";
}

TEST(Json, ReadsEveryKind) {
  const auto document = JsonDocument::parse(
      R"({"a": [1, -2, 2.5, 1e3], "t": true, "n": null, "s": "x\u00e9\n\"", "o": {}, "big": 18446744073709551615})",
      "f");
  const Json& root = document.root();
  EXPECT_EQ(root.members().size(), 6u);
  EXPECT_EQ(root.at("a").items()[0].as_int(), 1);
  EXPECT_EQ(root.at("a").items()[1].as_int(), -2);
  EXPECT_EQ(root.at("a").items()[2].as_double(), 2.5);
  EXPECT_EQ(root.at("a").items()[3].as_double(), 1000.0);
  EXPECT_EQ(root.at("a").items()[0].as_double(), 1.0);
  EXPECT_TRUE(root.at("t").as_bool());
  EXPECT_TRUE(root.at("n").is_null());
  EXPECT_EQ(root.at("s").as_string(), "x\xc3\xa9\n\"");
  EXPECT_TRUE(root.at("o").members().empty());
  EXPECT_EQ(root.at("big").kind(), Json::Kind::number);
  EXPECT_EQ(root.find("absent"), nullptr);
  EXPECT_EQ(JsonDocument::parse("3", "f").root().as_int(), 3);
}

TEST(Json, ValuesKnowWhereTheyStood) {
  const auto document = JsonDocument::parse("{\n  \"a\\\"b\": [10,\n     \"x\"],\n\"c\" : {\"d\":false}}", "f.json");
  const Json& root = document.root();
  EXPECT_EQ(root.where(), "f.json:1:1");
  EXPECT_EQ(root.at("a\"b").where(), "f.json:2:11");
  EXPECT_EQ(root.at("a\"b").items()[0].where(), "f.json:2:12");
  EXPECT_EQ(root.at("a\"b").items()[1].where(), "f.json:3:6");
  EXPECT_EQ(root.at("c").at("d").where(), "f.json:4:12");
  JsonOptions late;
  late.first_line = 7;
  EXPECT_EQ(JsonDocument::parse("[\n1]", "f", late).root().items()[0].where(), "f:8:1");
}

TEST(Json, WrongKindsAndMissingKeysNameThePlace) {
  const auto document = JsonDocument::parse(R"({"a": "x", "b": 1.5})", "f.json", {.code = Exit::bad_config});
  const auto message = [&](auto body) -> std::string {
    try {
      body(document.root());
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_config);
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message([](const Json& j) { j.at("a").as_int(); }), "f.json:1:7: expected an integer, found a string");
  EXPECT_EQ(message([](const Json& j) { j.at("b").as_int(); }), "f.json:1:17: expected an integer, found a number");
  EXPECT_EQ(message([](const Json& j) { j.at("b").items(); }), "f.json:1:17: expected an array, found a number");
  EXPECT_EQ(message([](const Json& j) { j.at("c"); }), "f.json:1:1: the key \"c\" is missing");
  EXPECT_EQ(message([](const Json& j) { j.at("a").at("c"); }), "f.json:1:7: expected an object, found a string");
}

TEST(Json, RefusesWhatIsNotJson) {
  EXPECT_EQ(error_of("{\"a\": 1, \"b\": {\"x\": 1, \"x\": 2}}"),
            "f.json:1:24: the key \"x\" stands twice in one object");
  EXPECT_EQ(error_of("{\n\"a\": }"),
            "f.json:2:6: not JSON: syntax error while parsing value - unexpected '}'; expected '[', '{', or a literal");
  EXPECT_EQ(error_of("[1, 2").substr(0, 21), "f.json:1:6: not JSON:");
  for (const char* bad : {"",
                          " ",
                          "[1,]",
                          "{\"a\"}",
                          "{a: 1}",
                          "nul",
                          "[1] 2",
                          "01",
                          "+1",
                          "1.",
                          "NaN",
                          "'x'",
                          "\"\x01\"",
                          "\"\xff\"",
                          "\"\xc0\x80\"",
                          "\"\xed\xa0\x80\"",
                          "\"\\ud800\"",
                          "\"\\x\"",
                          "\"open",
                          "[1 2]"})
    EXPECT_NE(error_of(bad), "accepted") << bad;
  EXPECT_NE(error_of(std::string_view("[1,\0 2]", 7)), "accepted");
  EXPECT_LT(error_of("\"" + std::string(100'000, 'x')).size(), 400u);  // the quoted input is cut
}

TEST(Json, KeepsToItsCaps) {
  EXPECT_EQ(error_of("[[[1]]]", {.max_depth = 2}), "f.json:1:3: nested deeper than 2 levels");
  EXPECT_EQ(error_of("[[1]]", {.max_depth = 2}), "accepted");
  EXPECT_EQ(error_of("[1, 2, 3]", {.max_entries = 3}), "f.json:1:8: more than 3 values");
  EXPECT_EQ(error_of("[1, 2]", {.max_bytes = 5}), "f.json: 6 bytes of JSON, at most 5 are read");
  EXPECT_NE(error_of(std::string(1'000'000, '[')), "accepted");  // no recursion: no stack to overflow
}

TEST(JsonWriter, CompactAndPretty) {
  JsonWriter line;
  line.begin_object().field("step", 3).field("loss", 1.5).field("ok", true).field("name", "a\"b");
  line.key("xs").begin_array().value(1u).null().begin_array().end_array().end_array();
  line.end_object();
  EXPECT_TRUE(line.complete());
  EXPECT_EQ(line.text(), R"({"step":3,"loss":1.5,"ok":true,"name":"a\"b","xs":[1,null,[]]})");

  JsonWriter pretty(JsonWriter::Style::pretty);
  pretty.begin_object().field("a", 1).key("b").begin_array().value(2.0).value("x").end_array().key("c").begin_object();
  pretty.end_object().end_object();
  EXPECT_EQ(pretty.text(), "{\n  \"a\": 1,\n  \"b\": [\n    2.0,\n    \"x\"\n  ],\n  \"c\": {}\n}");
}

TEST(JsonWriter, NumbersReadBackTheSame) {
  const double values[] = {0.0, -0.0, 1.0, 1e-6, 0.1, 1.0 / 3.0, 1e22, 3e-4, 10000.0, 5e-324, 1.7976931348623157e308};
  for (const double x : values) {
    JsonWriter writer;
    writer.value(x);
    const double back = JsonDocument::parse(writer.text(), "f").root().as_double();
    EXPECT_EQ(std::signbit(back), std::signbit(x));
    EXPECT_EQ(back, x) << writer.text();
  }
  const auto text = [](auto x) { return JsonWriter().value(x).text(); };
  EXPECT_EQ(text(1e-6), "1e-06");
  EXPECT_EQ(text(3e-4), "3e-04");
  EXPECT_EQ(text(0.1f), "0.1");
  EXPECT_EQ(text(10000.0), "10000.0");
  EXPECT_EQ(text(std::numeric_limits<double>::quiet_NaN()), "null");
  EXPECT_EQ(text(-std::numeric_limits<float>::infinity()), "null");
  EXPECT_EQ(text(std::numeric_limits<int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(text(std::numeric_limits<uint64_t>::max()), "18446744073709551615");
}

TEST(JsonWriter, StringsAreAlwaysValidJson) {
  const std::string odd("q\"\\\x01\t\n\x7f\xc3\xa9\xf0\x9f\x98\x80\xff\xc3");
  JsonWriter writer;
  writer.value(odd);
  EXPECT_EQ(writer.text(), "\"q\\\"\\\\\\u0001\\t\\n\x7f\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd\"");
  EXPECT_EQ(JsonDocument::parse(writer.text(), "f").root().as_string(),
            "q\"\\\x01\t\n\x7f\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(JsonWriter, WritesATreeBackAsItWas) {
  const std::string text = R"({"b":1,"a":[true,null,-2,0.5,"x"],"o":{"p":{}}})";
  const auto document = JsonDocument::parse(text, "f");
  EXPECT_EQ(JsonWriter().value(document.root()).text(), text);
}

TEST(JsonWriter, RefusesUnbalancedCalls) {
  EXPECT_THROW(JsonWriter().begin_object().value(1), Error);
  EXPECT_THROW(JsonWriter().begin_array().key("a"), Error);
  EXPECT_THROW(JsonWriter().begin_array().end_object(), Error);
  EXPECT_THROW(JsonWriter().value(1).value(2), Error);
  EXPECT_FALSE(JsonWriter().begin_array().complete());
}

}  // namespace
}  // namespace tael
