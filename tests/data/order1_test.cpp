#include "data/order1.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.hpp"
#include "base/rng.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

constexpr int32_t kEnd = ByteTokenizer::kEndOfSentence;

// Documents, each ended by its token.
std::vector<int32_t> stream(std::initializer_list<std::string_view> documents) {
  std::vector<int32_t> out;
  for (const std::string_view text : documents) {
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
    out.push_back(kEnd);
  }
  return out;
}

TokenShard shard(const char* name, const std::vector<int32_t>& tokens, ShardFormat format) {
  const std::string path = testing::process_scratch().at(std::string(name) + ".h5");
  TokenShardWriter writer(path, std::move(format));
  writer.begin_document();
  writer.append(tokens);
  const ShardSource source{
      .name = name, .documents = 1, .tokens = static_cast<int64_t>(tokens.size()), .text_bytes = 1};
  writer.seal({&source, 1}, 1);
  writer.publish();
  return TokenShard(path);
}

ShardFormat bytes_format() {
  return {.tokenizer = "bytes", .vocab_size = ByteTokenizer::kVocabSize, .end_of_document = kEnd};
}

TEST(Order1, AnUnfittedModelIsUniform) {
  const Order1Model model;
  EXPECT_DOUBLE_EQ(model.probability('a', 'b'), 1.0 / 259);
  const Order1Score score = model.score(stream({"abc"}));
  EXPECT_EQ(score.targets, 3);     // b, c and the end
  EXPECT_EQ(score.text_bytes, 2);  // b and c
  EXPECT_NEAR(score.nats, 3 * std::log(259.0), 1e-12);
  EXPECT_NEAR(score.bits_per_byte(), 1.5 * std::log2(259.0), 1e-12);
}

TEST(Order1, CountsByHand) {
  Order1Model model;
  model.fit(stream({"aab", "a"}));  // aa, ab, b$, $a, a$
  EXPECT_DOUBLE_EQ(model.probability('a', 'a'), 1.5 / (3 + 129.5));
  EXPECT_DOUBLE_EQ(model.probability(kEnd, 'a'), 1.5 / (3 + 129.5));
  EXPECT_DOUBLE_EQ(model.probability('a', kEnd), 1.5 / (1 + 129.5));
  EXPECT_DOUBLE_EQ(model.probability('c', 'b'), 0.5 / (1 + 129.5));
  EXPECT_DOUBLE_EQ(model.probability('c', 'z'), 1.0 / 259);
}

TEST(Order1, ProbabilitiesOfARowSumToOne) {
  Order1Model model;
  model.fit(stream({"the quick brown fox", "jumps", ""}));
  for (const int32_t previous : {int32_t{'e'}, kEnd, 0}) {
    double sum = 0;
    for (int32_t token = 0; token < ByteTokenizer::kVocabSize; ++token) sum += model.probability(token, previous);
    EXPECT_NEAR(sum, 1.0, 1e-12);
  }
}

TEST(Order1, LearnsAMarkovChainToItsEntropy) {
  // Each letter of four is followed by the next one with probability 3/4 and by itself otherwise: 0.8113 bits.
  std::vector<int32_t> train, valid;
  const Rng rng(7, "order1 test");
  int32_t state = 0;
  for (uint64_t i = 0; i < 400'000; ++i) {
    state = (state + (rng.uniform(i) < 0.75 ? 1 : 0)) % 4;
    (i < 200'000 ? train : valid).push_back('a' + state);
  }
  Order1Model model;
  model.fit(train);
  const double entropy = -(0.75 * std::log2(0.75) + 0.25 * std::log2(0.25));
  EXPECT_NEAR(model.score(valid).bits_per_byte(), entropy, 0.01);  // deviation of the mean: 0.0015
}

TEST(Order1, AShardGivesTheSameAsItsStreamAcrossPieces) {
  std::vector<int32_t> tokens;
  const Rng rng(3, "order1 shard");
  for (uint64_t i = 0; i < 200'003; ++i) tokens.push_back(static_cast<int32_t>(rng.below(i, 258)));
  Order1Model from_stream, from_shard;
  const TokenShard file = shard("same", tokens, bytes_format());
  from_stream.fit(tokens);
  from_shard.fit(file);
  const Order1Score a = from_stream.score(tokens), b = from_shard.score(file);
  EXPECT_EQ(a.nats, b.nats);
  EXPECT_EQ(a.targets, 200'002);
  EXPECT_EQ(b.targets, 200'002);
  EXPECT_EQ(a.text_bytes, b.text_bytes);
}

TEST(Order1, StreamsOfOneAndNoTokenHaveNoTargets) {
  Order1Model model;
  const std::vector<int32_t> none, one{65};
  model.fit(none);
  model.fit(one);
  EXPECT_EQ(model.score(none).targets, 0);
  EXPECT_EQ(model.score(one).targets, 0);
  EXPECT_TRUE(std::isnan(model.score(one).bits_per_byte()));
  EXPECT_EQ(model.score(shard("one", one, bytes_format())).targets, 0);
}

TEST(Order1, OtherTokensAreRefused) {
  Order1Model model;
  for (const int32_t wrong : {-1, 259}) EXPECT_THROW(model.fit(std::vector<int32_t>{65, wrong}), Error);
  try {
    model.fit(shard("numbers", {1, 2, 3}, {.tokenizer = "", .vocab_size = 1000}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::bad_data);
    EXPECT_NE(std::string(error.what()).find("needs tokens of the tokenizer 'bytes'"), std::string::npos);
  }
}

}  // namespace
}  // namespace tael
