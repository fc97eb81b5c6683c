#include "base/fields.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cmath>
#include <optional>
#include <random>
#include <string>

#include "base/json.hpp"

namespace tael {
namespace {

enum class Colour { red, green };
constexpr std::array<Word<Colour>, 2> kColours = {{{"red", Colour::red}, {"green", Colour::green}}};

struct Inner {
  double rate = 0.5;
  Schedule gamma = Schedule::constant(1e-3);
};

struct Sample {
  int64_t seed = 1;
  std::optional<int64_t> ranks;
  std::optional<int64_t> steps, tokens;
  bool shuffle = true;
  std::string dir = "runs/first";
  Colour colour = Colour::red;
  std::vector<std::string> files;
  std::array<double, 2> betas = {0.9, 0.95};
  double timeout = 600;
  Money price{"usd", 2};
  BatchSize batch;
  std::map<std::string, std::string> words;
  Inner inner;
};

void describe(Inner& o, FieldVisitor& v) {
  v.field("rate", o.rate, Real{0, 1}, "A rate.");
  v.field("gamma", o.gamma, ScheduleKind{Real{0}}, "A schedule.");
}

void describe(Sample& o, FieldVisitor& v) {
  v.field("seed", o.seed, Integer{}, "A seed.");
  v.field("ranks", o.ranks, or_auto(Integer{1, 64}), "Ranks.");
  v.exclusive(
      "steps", [&] { o.steps.reset(); }, "tokens", [&] { o.tokens.reset(); });
  v.field("steps", o.steps, or_null(Count{1}), "Steps.");
  v.field("tokens", o.tokens, or_null(Count{1}), "Tokens.");
  v.field("shuffle", o.shuffle, Boolean{}, "Shuffle.");
  v.field("dir", o.dir, Text{"a path"}, "A directory.");
  v.field("colour", o.colour, Choice(kColours), "A colour.");
  v.field("files", o.files, ListOf<Text>{Text{"paths"}}, "Files.");
  v.field("betas", o.betas, ArrayOf<Real, 2>{Real{0, 1}}, "Betas.");
  v.field("timeout", o.timeout, Duration{}, "A time.");
  v.field("price", o.price, MoneyKind{}, "A price.");
  v.field("batch", o.batch, BatchSizeKind{}, "Sequences.");
  v.field("words", o.words, WordMap{}, "Words.");
  v.constant("act", "silu", "nothing else is built");
  v.ignored("use_cache");
  v.section("inner", o.inner, "The inside.");
}

constexpr KeyAlias kAliases[] = {{"world", "ranks"},        {"rate", "inner.rate"},  {"beta1", "betas[0]"},
                                 {"beta2", "betas[1]"},     {"place.folder", "dir"}, {"inner.speed", "inner.rate"},
                                 {"learning", "inner.rate"}};
constexpr WordAlias kWords[] = {{"colour", "Vert", "green"}};
constexpr KeyAdvice kAdvice[] = {{"samples", "tokens", "samples x length"}, {"place.remote", "", "files are local"}};
constexpr KeyConstant kConstants[] = {{"copies", "1", "there is one"}, {"place.depth", "0", "it is flat"}};

Schema sample_schema() {
  Schema schema = schema_of(Sample{});
  schema.other_names = {.aliases = kAliases, .words = kWords, .advice = kAdvice, .constants = kConstants};
  return schema;
}

Sample read(std::string_view text, Reading* reading = nullptr) {
  Sample sample;
  Reading own;
  read_fields(sample, parse_yaml(text, "t.yaml"), sample_schema(), reading ? *reading : own);
  return sample;
}

std::string error_of(std::string_view text) {
  try {
    read(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::bad_config) << text;
    return error.what();
  }
  return "accepted";
}

TEST(Fields, ReadsEveryKind) {
  Reading reading;
  const Sample s = read(R"(
seed: 7
ranks: 4
tokens: 14.633T
shuffle: false
dir: runs/second
colour: "green"
files: [a.h5, "b c.h5"]
betas: [0.8, 0.99]
timeout: 10 min
price: {eur: 1.5}
batch: {start: 3072, end: 15360, over: 469B, increment: 96}
words: {gate: fp8}
act: silu
use_cache: {anything: [1]}
inner: {rate: 1e-3, gamma: [[0, 1.0e-3], [14.3T, 0.0]]}
)",
                        &reading);
  EXPECT_EQ(s.seed, 7);
  EXPECT_EQ(s.ranks, 4);
  EXPECT_EQ(s.tokens, 14'633'000'000'000);
  EXPECT_FALSE(s.shuffle);
  EXPECT_EQ(s.dir, "runs/second");
  EXPECT_EQ(s.colour, Colour::green);
  EXPECT_EQ(s.files, (std::vector<std::string>{"a.h5", "b c.h5"}));
  EXPECT_EQ(s.betas, (std::array{0.8, 0.99}));
  EXPECT_EQ(s.timeout, 600);
  EXPECT_EQ(s.price, (Money{"eur", 1.5}));
  EXPECT_EQ(s.batch.at(0), 3072);
  EXPECT_EQ(s.batch.at(469'000'000'000), 15360);
  EXPECT_EQ(s.words.at("gate"), "fp8");
  EXPECT_EQ(s.inner.rate, 1e-3);
  EXPECT_EQ(s.inner.gamma.at(14'299'999'999'999), 1e-3);
  EXPECT_EQ(s.inner.gamma.at(14'300'000'000'000), 0.0);
  EXPECT_EQ(reading.ignored, std::vector<std::string>{"use_cache"});
  EXPECT_EQ(reading.origin("inner.rate").str(), "t.yaml:16:15");
  EXPECT_EQ(reading.origin("betas").str(), "t.yaml:9:8");
  EXPECT_TRUE(reading.given("seed"));
  EXPECT_FALSE(read("").ranks.has_value());
}

TEST(Fields, LaterMapsReplaceEarlierOnes) {
  Sample s;
  Reading reading;
  const Schema schema = sample_schema();
  read_fields(s, parse_yaml("steps: 10\ninner: {rate: 0.25}", "a"), schema, reading);
  read_fields(s, parse_yaml("inner: {gamma: 2}", "b"), schema, reading);
  EXPECT_EQ(s.inner.rate, 0.25);
  EXPECT_EQ(s.inner.gamma, Schedule::constant(2));
  read_fields(s, parse_override("tokens=1k"), schema, reading);
  EXPECT_FALSE(s.steps.has_value());
  EXPECT_EQ(s.tokens, 1000);
  EXPECT_FALSE(reading.given("steps"));
  EXPECT_EQ(reading.origin("tokens").str(), "command line");
  read_fields(s, parse_override("world=auto"), schema, reading);
  EXPECT_EQ(reading.aliases, std::vector<std::string>{"world is read as ranks"});
  read_fields(s, parse_override("inner.gamma=[[0, 1], [1M, 0.5]]"), schema, reading);
  EXPECT_EQ(s.inner.gamma.at(1'000'000), 0.5);
}

TEST(Fields, WritesWhatReadsBackTheSame) {
  Sample s;
  s.ranks = 3;
  s.tokens = 123;
  s.dir = "1e5";
  s.files = {"true", "a: b", "", "q\"uo\\te", "null", "-", "0x10", "~", "äö", "1:30", "no", "# c", "a\tb"};
  s.files.erase(s.files.begin() + 2);
  s.files.pop_back();
  s.timeout = 0.1;
  s.inner.rate = 1.0 / 3;
  s.inner.gamma = {{{0, 0.1}, {5, 1e-300}}};
  s.batch.ramp = BatchRamp{8, 32, 1000, 8};
  s.words = {{"a b", "c"}};
  const auto written = write_fields(s);
  const std::string text = to_yaml(written);
  const auto again = write_fields(read(text));
  EXPECT_TRUE(differences(written, again).empty()) << text;
  EXPECT_EQ(to_yaml(again), text);
  EXPECT_EQ(read(text).files, s.files);

  JsonWriter json;
  json.begin_object();
  write_json(json, written);
  json.end_object();
  const JsonDocument parsed = JsonDocument::parse(json.text(), "json");
  EXPECT_EQ(parsed.root().at("inner").at("rate").as_double(), 1.0 / 3);
  EXPECT_EQ(parsed.root().at("dir").as_string(), "1e5");
  EXPECT_EQ(parsed.root().at("ranks").as_int(), 3);
  EXPECT_TRUE(parsed.root().at("steps").is_null());
  // JSON is YAML: what was written as JSON is a configuration too.
  EXPECT_TRUE(differences(written, write_fields(read(json.text()))).empty()) << json.text();
}

TEST(Fields, RandomDoublesSurviveTheText) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 2000; ++i) {
    const double x = std::bit_cast<double>(random());
    if (!std::isfinite(x)) continue;
    double back = 0;
    Real{}.read(parse_yaml(shortest(x), "t"), back);
    EXPECT_EQ(std::bit_cast<uint64_t>(back), std::bit_cast<uint64_t>(x));
  }
}

TEST(Fields, SaysWhatDiffersAndWhereItIsFrom) {
  Sample s;
  Reading reading;
  read_fields(s, parse_yaml("seed: 2\ninner: {rate: 0.25}", "a.yaml"), sample_schema(), reading);
  const auto found = differences(write_fields(Sample{}), write_fields(s));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].path, "seed");
  EXPECT_EQ(found[1].path, "inner.rate");
  EXPECT_EQ(found[1].first, "0.5");
  EXPECT_EQ(found[1].second, "0.25");
  const std::string text =
      to_yaml(write_fields(s), [&](std::string_view path) { return reading.origin(path).file_line(); });
  // Comments stand below each other.
  EXPECT_EQ(text.find("seed: 2             # a.yaml:1\n"), 0u) << text;
  EXPECT_NE(text.find("\nranks: auto         # default\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\ninner:\n  rate: 0.25        # a.yaml:2\n"), std::string::npos) << text;
  EXPECT_NE(sample_schema().help_of("inner").find("inner.rate = 0.5: A rate. (a number from 0 to 1)"),
            std::string::npos);
}

TEST(Fields, MessagesNamePlaceKeyExpectationAndNearest) {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {
      {"sed: 1", "t.yaml:1:1: sed: unknown key; the nearest known one is seed"},
      {"seed: 1\ninner:\n  gama: 1", "t.yaml:3:3: inner.gama: unknown key; the nearest known one is inner.gamma"},
      {"gamma: 1", "t.yaml:1:1: gamma: unknown key; the nearest known one is inner.gamma"},
      {"inner.rate: 1", "t.yaml:1:1: inner.rate: unknown key; in a file write inner: {rate: ...}"},
      {"seed: 1\nseed: 2", "t.yaml:2:1: duplicate key seed; it is first given at 1:1"},
      {"seed: \"1\"", "t.yaml:1:7: seed: expected a whole number at least 0, got \"1\""},
      {"seed: 010", "t.yaml:1:7: seed: expected a whole number at least 0, got 010"},
      {"seed: 0x10", "t.yaml:1:7: seed: expected a whole number at least 0, got 0x10"},
      {"seed: 1.0", "t.yaml:1:7: seed: expected a whole number at least 0, got 1.0"},
      {"seed: 1e3", "t.yaml:1:7: seed: expected a whole number at least 0, got 1e3"},
      {"seed: 9223372036854775808",
       "t.yaml:1:7: seed: expected a whole number from 0 to 9223372036854775807, got 9223372036854775808"},
      {"seed: [1]", "t.yaml:1:7: seed: expected a whole number at least 0, got a list"},
      {"seed:", "t.yaml:1:1: seed: expected a whole number at least 0, got null"},
      {"ranks: 65", "t.yaml:1:8: ranks: expected auto or a whole number from 1 to 64, got 65"},
      {"tokens: \"20\"",
       "t.yaml:1:9: tokens: expected null or a whole number such as 4096, 4k or 20M, at least 1, got \"20\""},
      {"tokens: 1.5",
       "t.yaml:1:9: tokens: expected null or a whole number such as 4096, 4k or 20M, at least 1, got 1.5"},
      {"tokens: 20X",
       "t.yaml:1:9: tokens: expected null or a whole number such as 4096, 4k or 20M, at least 1, got 20X"},
      {"tokens: 20000000T",
       "t.yaml:1:9: tokens: expected null or a whole number such as 4096, 4k or 20M, at least 1, got 20000000T"},
      {"steps: 1\ntokens: 2", "t.yaml:2:9: steps and tokens exclude each other; give one of them"},
      {"ranks: 1\nworld: 2", "t.yaml:2:8: world is another name of ranks; give one of them"},
      {"shuffle: yes", "t.yaml:1:10: shuffle: expected true or false, got yes"},
      {"shuffle: \"true\"", "t.yaml:1:10: shuffle: expected true or false, got \"true\""},
      {"dir: ''", "t.yaml:1:6: dir: expected a path, got \"\""},
      {"dir: \"a\\nb\"", "t.yaml:1:6: dir: expected a path without control characters, got \"a\\nb\""},
      {"colour: gren", "t.yaml:1:9: colour: expected red or green, got gren (did you mean green?)"},
      {"colour: blue", "t.yaml:1:9: colour: expected red or green, got blue"},
      {"files: [a, [b]]", "t.yaml:1:12: files: expected paths, got a list"},
      {"betas: [0.9]", "t.yaml:1:8: betas: expected a list of 2 values, each a number from 0 to 1, got a list"},
      {"betas: [0.9, 1.5]", "t.yaml:1:14: betas: expected a number from 0 to 1, got 1.5"},
      {"timeout: 600", "t.yaml:1:10: timeout: expected a duration such as 600s, 10 min or 20h, got 600"},
      {"price: 2.00", "t.yaml:1:8: price: expected an amount of one currency such as {usd: 2.00}, got 2.00"},
      {"price: {usd: 1, eur: 1}",
       "t.yaml:1:8: price: expected an amount of one currency such as {usd: 2.00}, got a map"},
      {"price: {usd: -1}", "t.yaml:1:14: price: expected an amount of one currency such as {usd: 2.00}, got -1"},
      {"act: gelu", "t.yaml:1:6: act: expected silu (nothing else is built), got gelu"},
      {"inner: 3", "t.yaml:1:8: inner: expected a map of keys, got 3"},
      {"inner: {rate: .nan}", "t.yaml:1:15: inner.rate: expected a number from 0 to 1, got .nan"},
      {"inner: {rate: 1e999}", "t.yaml:1:15: inner.rate: expected a number from 0 to 1, got 1e999"},
      {"inner: {gamma: [[1, 2]]}", "t.yaml:1:18: inner.gamma: expected 0 tokens, where a schedule starts, got 1"},
      {"inner: {gamma: [[0, 2], [5, 1], [5, 0]]}",
       "t.yaml:1:34: inner.gamma: expected more than the 5 tokens before it, got 5"},
      {"inner: {gamma: [0, 2]}",
       "t.yaml:1:17: inner.gamma: expected a number of at least 0, or a list of [from tokens, value], got 0"},
      {"batch: {start: 8, end: 16}",
       "t.yaml:1:8: batch: expected all of start, end, over, increment; over is not given, got a map"},
      {"batch: {start: 8, end: 16, over: 1k, increment: 3}",
       "t.yaml:1:8: batch: expected an increment that divides end - start = 8, got a map"},
      {"[1, 2]", "t.yaml:1:1: expected a map of keys, got a list"},
      {"just text", "t.yaml:1:1: expected a map of keys, got just text"},
      {"a: &x 1",
       "t.yaml:1:4: anchors and aliases are not accepted; write the value out, or share files by \"defaults:\""},
      {"a: *x", "t.yaml:1:4: anchors and aliases are not accepted"},
      {"inner:\n  <<: {rate: 1}",
       "t.yaml:2:3: merge keys (<<) are not accepted; name what to inherit in \"defaults:\""},
      {"seed: !!int 3", "t.yaml:1:7: the tag tag:yaml.org,2002:int is not accepted"},
      {"seed: 1\n---\nseed: 2", "t.yaml:3:1: a second document; a configuration is one"},
      {"? [a]\n: 1", "t.yaml:1:3: a key must be a name"},
      {"seed: [1", "t.yaml:1:7: not YAML: what begins here has no end"},
      {"seed: 1\n  dir: x", "t.yaml:2:6: not YAML: illegal map value"},
      {"dir: \xff\xfe", "t.yaml:1:6: byte 0xff is not UTF-8"},
      {"dir: a\x01", "t.yaml:1:7: control character 0x01"},
  };
  for (const auto& c : cases) EXPECT_EQ(error_of(c.text), c.message) << c.text;
}

TEST(Fields, OtherNamesStandForKeysWhereverTheyAre) {
  Reading reading;
  const Sample s =
      read("rate: 0.25\nworld: 3\nplace: {folder: runs/x, depth: 0}\nbeta2: 0.5\ncolour: Vert\ncopies: 1", &reading);
  EXPECT_EQ(s.inner.rate, 0.25);
  EXPECT_EQ(s.ranks, 3);
  EXPECT_EQ(s.dir, "runs/x");
  EXPECT_EQ(s.betas, (std::array{0.9, 0.5}));
  EXPECT_EQ(s.colour, Colour::green);
  EXPECT_EQ(reading.aliases, (std::vector<std::string>{"colour Vert is read as green", "rate is read as inner.rate",
                                                       "world is read as ranks", "place.folder is read as dir",
                                                       "beta2 is read as betas[1]"}));
  EXPECT_EQ(reading.ignored, (std::vector<std::string>{"place.depth", "copies"}));
  EXPECT_EQ(reading.origin("inner.rate").str(), "t.yaml:1:7");
  EXPECT_EQ(reading.in_words("inner.rate"), "inner.rate (written rate)");
  EXPECT_EQ(reading.in_words("seed"), "seed");

  // A section that is there takes in what stands elsewhere; hyphens are underscores; an element keeps the others.
  Sample t;
  Reading second;
  const Schema schema = sample_schema();
  read_fields(t, parse_yaml("inner: {gamma: 2}\nlearning: 0.5\nbeta1: 0.1\nbeta2: 0.2", "a"), schema, second);
  EXPECT_EQ(t.inner.gamma, Schedule::constant(2));
  EXPECT_EQ(t.inner.rate, 0.5);
  EXPECT_EQ(t.betas, (std::array{0.1, 0.2}));
  EXPECT_EQ(second.in_words("betas"), "betas (written beta1 and beta2)");
  read_fields(t, parse_override("inner.speed=0.75"), schema, second);
  read_fields(t, parse_override("beta1=0.3"), schema, second);
  EXPECT_EQ(t.inner.rate, 0.75);
  EXPECT_EQ(t.betas, (std::array{0.3, 0.2}));
  EXPECT_EQ(second.in_words("inner.rate"), "inner.rate (written inner.speed)");
  read_fields(t, parse_override("inner.rate=0.5"), schema, second);
  EXPECT_EQ(second.in_words("inner.rate"), "inner.rate");
}

TEST(Fields, OtherNamesContradictAndAreRefused) {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {
      {"rate: 1\ninner: {rate: 1}", "t.yaml:1:7: rate is another name of inner.rate; give one of them"},
      {"inner: {rate: 1}\nrate: 1", "t.yaml:2:7: rate is another name of inner.rate; give one of them"},
      {"rate: 1\nlearning: 1", "t.yaml:2:11: learning is another name of rate; give one of them"},
      {"betas: [0, 0]\nbeta1: 0.5", "t.yaml:2:8: beta1 is another name of betas[0]; give one of them"},
      {"beta1: 0.5\nbeta-1: 0.5", "t.yaml:2:1: beta-1: unknown key; the nearest known one is betas"},
      {"beta1: 2", "t.yaml:1:8: beta1: expected a number from 0 to 1, got 2"},
      {"rate: 2", "t.yaml:1:7: rate: expected a number from 0 to 1, got 2"},
      {"rate: 0.5\ninner: 3", "t.yaml:2:8: inner: expected a map of keys, got 3"},
      {"samples: 5", "t.yaml:1:1: samples: unknown key; give tokens instead: samples x length"},
      {"inner: {samples: 5}", "t.yaml:1:9: inner.samples: unknown key; give tokens instead: samples x length"},
      {"place: {remote: x}", "t.yaml:1:9: place.remote: unknown key; files are local"},
      {"place: {else: x}", "t.yaml:1:9: place.else: unknown key; nothing known is near it"},
      {"place: {depth: 1}", "t.yaml:1:16: place.depth: expected 0 (it is flat), got 1"},
      {"copies: 2", "t.yaml:1:9: copies: expected 1 (there is one), got 2"},
      {"learnin: 1", "t.yaml:1:1: learnin: unknown key; the nearest known one is inner.rate"},
      {"place: 3", "t.yaml:1:1: place: unknown key; the nearest known one is price"},
  };
  for (const auto& c : cases) EXPECT_EQ(error_of(c.text), c.message) << c.text;
}

TEST(Fields, ANameAloneMeansOneKeyOrNone) {
  const Schema schema = sample_schema();
  const std::pair<const char*, const char*> cases[] = {{"seed", "seed"},
                                                       {"gamma", "inner.gamma"},
                                                       {"learning", "inner.rate"},
                                                       {"beta-1", ""},
                                                       {"beta1", "betas"},
                                                       {"samples", "tokens"},
                                                       {"inner.rate", "inner.rate"},
                                                       {"place.folder", "dir"},
                                                       {"inner", ""},
                                                       {"nothing", ""},
                                                       {"use_cache", ""},
                                                       {"place-folder", ""},
                                                       {"folder", "dir"},
                                                       {"speed", "inner.rate"}};
  for (const auto& [name, key] : cases) EXPECT_EQ(key_named(schema, name), key) << name;
}

TEST(Fields, OverridesAreFlowYaml) {
  const auto error = [](std::string_view text) {
    try {
      Sample sample;
      Reading reading;
      read_fields(sample, parse_override(text), sample_schema(), reading);
    } catch (const Error& e) {
      return fmt::format("{}: {}", static_cast<int>(e.code()), e.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(error("seed=3"), "accepted");
  EXPECT_EQ(error("dir=a=b"), "accepted");
  EXPECT_EQ(error("ranks=null"), "78: command line: ranks: expected auto or a whole number from 1 to 64, got null");
  EXPECT_EQ(error("seed"), "2: \"seed\" is not an override; write key.sub=value");
  EXPECT_EQ(error("=3"), "2: \"=3\" is not an override; write key.sub=value");
  EXPECT_EQ(error("inner..rate=3"), "2: \"inner..rate=3\" is not an override; write key.sub=value");
  EXPECT_EQ(error("seed="), "78: command line: seed: no value; null unsets a key that may be unset");
  EXPECT_EQ(error("files=a,b"), "78: command line: files: 2 values; write a list as [a, b]");
  EXPECT_EQ(error("dir=a #b"),
            "78: command line: dir: \"a #b\" is not a value in YAML's flow style; quote text that holds []{},:#");
  EXPECT_EQ(error("inner.rat=3"), "78: command line: inner.rat: unknown key; the nearest known one is inner.rate");
  EXPECT_EQ(error("inner=3"), "78: command line: inner: expected a map of keys, got 3");
}

TEST(Fields, HostileTextsAreRefusedAtOnce) {
  std::vector<std::pair<std::string, std::string>> cases;
  cases.emplace_back(std::string((1 << 20) + 1, '#'), "t.yaml: 1048577 bytes; a configuration has at most 1048576");
  cases.emplace_back(std::string(1'000'000, '['), "t.yaml:1:257: nested deeper than 32 levels");
  cases.emplace_back(std::string(33, '[') + std::string(33, ']'), "t.yaml:1:33: nested deeper than 32 levels");
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  cases.emplace_back(deep, "t.yaml:33:33: nested deeper than 32 levels");
  std::string dashes;
  for (int i = 0; i < 300'000; ++i) dashes += "- ";
  cases.emplace_back(dashes, "t.yaml:1:65: nested deeper than 32 levels");
  cases.emplace_back("a: &a [*a]",
                     "t.yaml:1:4: anchors and aliases are not accepted; write the value out, or share files "
                     "by \"defaults:\"");
  std::string commas = "a: [";
  for (int i = 0; i < 20'000; ++i) commas += "1,";
  cases.emplace_back(commas + "]", "t.yaml:1:19999: more than 10000 values");
  for (const auto& [text, message] : cases) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(error_of(text), message);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 1.0) << message;
  }
  std::string keys;
  for (int i = 0; i < 4'000; ++i) keys += fmt::format("k{}: 1\n", i);
  EXPECT_EQ(parse_yaml(keys, "t").keys.size(), 4'000u);
}

TEST(Fields, EditDistanceCountsExchangesAsOne) {
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("seq_lenght", "seq_length"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("a", "a"), 0u);
}

TEST(Schedules, RampsInWholeIncrements) {
  BatchSize batch;
  batch.ramp = BatchRamp{3072, 15360, 469'000'000'000, 96};
  EXPECT_EQ(batch.at(0), 3072);
  EXPECT_EQ(batch.at(469'000'000'000 / 128 - 1), 3072);
  EXPECT_EQ(batch.at(469'000'000'000 / 128 + 1), 3072 + 96);
  EXPECT_EQ(batch.at(468'999'999'999), 15360 - 96);
  EXPECT_EQ(batch.at(469'000'000'000), 15360);
  EXPECT_EQ(batch.all().size(), 129u);
  batch.ramp = BatchRamp{8, 8, 100, 4};
  EXPECT_EQ(batch.at(50), 8);
  EXPECT_EQ(batch.all(), std::vector<int64_t>{8});
}

}  // namespace
}  // namespace tael
