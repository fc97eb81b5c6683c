#include "data/token_shard.hpp"

#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/file.hpp"
#include "base/rng.hpp"
#include "data/shard_set.hpp"
#include "tests/data/shard_fixture.hpp"
#include "tests/harness/file_size_limit.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

ShardInfo write_text_shard(const std::string& path, const std::vector<std::string>& documents) {
  ShardFormat format{std::string(ByteTokenizer::kName), ByteTokenizer::kVocabSize, ByteTokenizer::kEndOfSentence,
                     "all"};
  TokenShardWriter writer(path, format);
  ShardSource source{"text"};
  for (const std::string& text : documents) {
    std::vector<int32_t> tokens(text.size());
    ByteTokenizer::encode(text, tokens.data());
    tokens.push_back(ByteTokenizer::kEndOfSentence);
    writer.begin_document();
    writer.append(tokens);
    source.documents += 1;
    source.tokens += static_cast<int64_t>(tokens.size());
    source.text_bytes += static_cast<int64_t>(text.size());
  }
  const ShardInfo info = writer.seal({&source, 1}, 1);
  writer.publish();
  return info;
}

TEST(TokenShard, RoundTripOfText) {
  const ScratchDirectory dir;
  const ShardInfo written = write_text_shard(dir.at("a.h5"), {"Hello", "w\xc3\xb6rld", "!"});
  const TokenShard shard(dir.at("a.h5"));
  const ShardInfo& info = shard.info();
  EXPECT_EQ(info.tokenizer, "bytes");
  EXPECT_EQ(info.vocab_size, 259);
  EXPECT_EQ(info.end_of_document, 257);
  EXPECT_EQ(info.split, "all");
  EXPECT_EQ(info.tokens, 5 + 6 + 1 + 3);
  EXPECT_EQ(info.documents, 3);
  EXPECT_EQ(info.largest_token, 257);
  EXPECT_EQ(info.text_bytes, 12);
  EXPECT_EQ(info.target_text_bytes, 11);
  EXPECT_EQ(info.digest, written.digest);
  EXPECT_EQ(info.file_bytes, static_cast<int64_t>(std::filesystem::file_size(dir.at("a.h5"))));
  ASSERT_EQ(info.sources.size(), 1u);
  EXPECT_EQ(info.sources[0].name, "text");
  EXPECT_EQ(info.sources[0].documents, 3);
  EXPECT_EQ(info.sources[0].tokens, 15);
  EXPECT_EQ(info.sources[0].text_bytes, 12);
  EXPECT_EQ(shard.document_starts(), (std::vector<int64_t>{0, 6, 13}));
  EXPECT_EQ(ByteTokenizer::decode(read_all(shard)),
            "Hello<|end_of_sentence|>w\xc3\xb6rld<|end_of_sentence|>!<|end_of_sentence|>");
  EXPECT_EQ(testing::count_entries(dir.path()), 1);
}

TEST(TokenShard, NarrowAndWideNumbersAtEverySizeAndWindow) {
  const ScratchDirectory dir;
  for (const int64_t vocab : {int64_t{65536}, int64_t{65537}, int64_t{2147483647}})
    for (const int64_t n : {1, 2, 511, 8191, 8192, 8193, 300001}) {
      const int32_t shift = static_cast<int32_t>(vocab - 65536);  // the largest tokens that there are
      std::vector<int32_t> tokens = counted(0, n);
      for (int32_t& token : tokens) token = token % 65536 + shift;
      const std::string path = dir.at("n.h5");
      write_number_shard(path, tokens, vocab);
      for (ShardVerify verify : {ShardVerify::all, ShardVerify::blocks, ShardVerify::trusted}) {
        const TokenShard shard(path, verify);
        EXPECT_EQ(shard.info().vocab_size, vocab);
        EXPECT_EQ(shard.info().largest_token, std::min<int64_t>(n - 1, 65535) + shift);
        EXPECT_FALSE(shard.info().has_text());
        EXPECT_EQ(shard.info().target_text_bytes, 0);
        EXPECT_EQ(read_all(shard), tokens);
        for (int64_t first : {int64_t{0}, n / 3, n - 1})
          for (int64_t count : {int64_t{0}, int64_t{1}, (n - first) / 2, n - first}) {
            const auto window = read_tokens(shard, first, count);
            EXPECT_TRUE(std::equal(window.begin(), window.end(), tokens.begin() + first)) << first << " " << count;
          }
      }
      std::filesystem::remove(path);
    }
}

TEST(TokenShard, EqualContentGivesEqualBytesAndADigest) {
  const ScratchDirectory dir;
  const ShardInfo a = write_text_shard(dir.at("a.h5"), {"one", "two"});
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5 would keep times, in seconds
  const ShardInfo b = write_text_shard(dir.at("b.h5"), {"one", "two"});
  const ShardInfo c = write_text_shard(dir.at("c.h5"), {"one", "twp"});
  EXPECT_TRUE(read_file(dir.at("a.h5")) == read_file(dir.at("b.h5")));
  EXPECT_EQ(a.digest, b.digest);
  EXPECT_NE(a.digest, c.digest);
}

// One flipped bit at 200 seeded places, half of them behind the seal, and then bits of every byte of the seal's head.
TEST(TokenShard, EveryFlippedBitIsRefused) {
  const ScratchDirectory dir;
  const std::string path = dir.at("a.h5");
  write_text_shard(path, std::vector<std::string>(100, "some text of a document"));
  const std::string good = read_file(path);
  const Rng rng(11, "flip");
  for (uint64_t i = 0; i < 288; ++i) {
    size_t at = i < 100   ? rng.below(i, good.size())
                : i < 200 ? ShardSeal::kBytes + rng.below(i, good.size() - ShardSeal::kBytes)
                          : i - 200;
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << rng.below(1000 + i, 8)));
    write_file(path, bad);
    for (ShardVerify verify : {ShardVerify::all, ShardVerify::blocks}) {
      const std::string message = dir.relative(error_of(Exit::bad_data, [&] { read_all(TokenShard(path, verify)); }));
      std::string expected = "DIR/a.h5: damaged between byte 0 and 65536: the seal does not match its own digest";
      if (at < 24) expected = "DIR/a.h5: not a token shard: it does not begin with 'tael token shard' (byte 0)";
      if (at >= ShardSeal::kBytes)
        expected = fmt::format("DIR/a.h5: damaged between byte 65536 and {}: block 1 of 1 does not match the seal",
                               good.size());
      EXPECT_EQ(message, expected) << at;
    }
  }
}

TEST(TokenShard, EveryCutIsRefused) {
  const ScratchDirectory dir;
  const std::string path = dir.at("a.h5");
  write_text_shard(path, std::vector<std::string>(100, "some text of a document"));
  const std::string good = read_file(path);
  const Rng rng(12, "cut");
  for (uint64_t i = 0; i < 200; ++i) {
    const size_t size = i < 3     ? good.size() - 1 - i
                        : i < 6   ? ShardSeal::kBytes + 4 - i
                        : i < 100 ? rng.below(i, good.size())
                                  : ShardSeal::kBytes + rng.below(i, good.size() - ShardSeal::kBytes);
    write_file(path, std::string_view(good).substr(0, size));
    for (ShardVerify verify : {ShardVerify::all, ShardVerify::blocks, ShardVerify::trusted}) {
      const std::string message = dir.relative(error_of(Exit::bad_data, [&] { TokenShard(path, verify); }));
      std::string expected = fmt::format("DIR/a.h5: damaged: cut at byte {} of {}", size, good.size());
      if (size <= ShardSeal::kBytes)
        expected = fmt::format("DIR/a.h5: damaged: cut at byte {}, the seal alone has 65536", size);
      if (size < 17) expected = "DIR/a.h5: not a token shard: it does not begin with 'tael token shard' (byte 0)";
      if (size == 0) expected = "DIR/a.h5: empty file, expected a token shard";
      EXPECT_EQ(message, expected);
    }
  }
  write_file(path, "");
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { TokenShard{path}; })),
            "DIR/a.h5: empty file, expected a token shard");
  write_file(path, good + "x");
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { TokenShard{path}; })),
            fmt::format("DIR/a.h5: damaged: its end is at byte {}, and 1 byte too many", good.size()));
}

// `blocks` finds damage in the tokens when they are read and not before; elsewhere at once.
TEST(TokenShard, BlocksAreCheckedWhenTheyAreRead) {
  const ScratchDirectory dir;
  const std::string path = dir.at("a.h5");
  std::vector<int32_t> tokens = counted(0, 1000000);
  for (int32_t& token : tokens) token %= 1000;
  write_number_shard(path, tokens, 1000);
  std::string bytes = read_file(path);
  const size_t at = bytes.size() / 2;  // among the tokens
  bytes[at] = static_cast<char>(bytes[at] ^ 4);
  write_file(path, bytes);
  const size_t block = (at - 65536) / 65536;
  const std::string expected =
      fmt::format("DIR/a.h5: damaged between byte {} and {}: block {} of {} does not match the seal",
                  65536 * (block + 1), 65536 * (block + 2), block + 1, (bytes.size() - 1) / 65536);
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { TokenShard{path}; })), expected);

  const TokenShard shard(path, ShardVerify::blocks);
  const int64_t middle = shard.tokens() / 2;
  EXPECT_EQ(read_tokens(shard, 0, 1000), counted(0, 1000));
  EXPECT_EQ(read_tokens(shard, shard.tokens() - 1000, 1000), counted(0, 1000));
  for (int repeat = 0; repeat < 2; ++repeat)
    EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { read_tokens(shard, middle - 20000, 40000); })), expected);

  bytes[at] = static_cast<char>(bytes[at] ^ 4);
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 4);  // HDF5's own
  write_file(path, bytes);
  EXPECT_NE(error_of(Exit::bad_data, [&] { TokenShard(path, ShardVerify::trusted); }), "no error");
}

TEST(TokenShard, WindowsOfManyThreads) {
  const ScratchDirectory dir;
  std::vector<int32_t> tokens = counted(0, 400000);
  write_number_shard(dir.at("a.h5"), tokens, 400000);
  const TokenShard shard(dir.at("a.h5"), ShardVerify::blocks);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const Rng rng(static_cast<uint64_t>(t), "windows");
      for (uint64_t i = 0; i < 200; ++i) {
        const auto first = static_cast<int64_t>(rng.below(i, 390000));
        EXPECT_EQ(read_tokens(shard, first, 1000), counted(static_cast<int32_t>(first), 1000));
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(TokenShard, WriterThatStopsLeavesWhatWasThere) {
  const ScratchDirectory dir;
  write_file(dir.at("a.h5"), "an older file");
  {
    TokenShardWriter writer(dir.at("a.h5"), {"", 10, -1, "all"});
    writer.begin_document();
    writer.append(counted(0, 10));
    const ShardSource source{"x", 1, 10, 0};
    writer.seal({&source, 1}, 0);  // but never published
    EXPECT_EQ(testing::count_entries(dir.path()), 2);
  }
  EXPECT_EQ(read_file(dir.at("a.h5")), "an older file");
  EXPECT_EQ(testing::count_entries(dir.path()), 1);
  // Files of somebody's that are called as ours might be stay.
  const std::string own = dir.at(fmt::format("a.h5.{}.tmp", getpid()));
  for (const std::string& path : {dir.at("a.h5.tmp"), own, dir.at("a.h5.tmp.layout")}) write_file(path, "precious");
  write_number_shard(dir.at("a.h5"), counted(0, 10), 10);
  EXPECT_EQ(TokenShard(dir.at("a.h5")).tokens(), 10);
  for (const std::string& path : {dir.at("a.h5.tmp"), own, dir.at("a.h5.tmp.layout")})
    EXPECT_EQ(read_file(path), "precious");
  EXPECT_EQ(testing::count_entries(dir.path()), 4);
}

TEST(TokenShard, WriterRefusesTokensOutsideTheVocabulary) {
  const ScratchDirectory dir;
  for (int64_t vocab : {10, 70000})
    for (int32_t token : {static_cast<int32_t>(vocab), -1}) {
      const std::string message = error_of(Exit::internal, [&] {
        write_number_shard(dir.at("a.h5"), {0, token}, vocab);
      });
      EXPECT_NE(message.find(fmt::format("token {} of {}", static_cast<uint32_t>(token), vocab)), std::string::npos);
      EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
    }
}

// No space, as a limit on the size of a file: the error is one of I/O, and nothing is left.
TEST(TokenShard, NoSpaceIsAnErrorAndLeavesNothing) {
  const ScratchDirectory dir;
  // In the tokens, in what HDF5 writes, in the seal's neighbourhood.
  for (rlim_t limit : {rlim_t{1} << 20, rlim_t{4081920}, rlim_t{90000}, rlim_t{1000}}) {
    const std::string message = dir.relative(error_of(Exit::io, [&] {
      const testing::FileSizeLimit full(limit);
      write_number_shard(dir.at("a.h5"), counted(0, 2000000), 2000000);
    }));
    EXPECT_EQ(message, fmt::format("DIR/a.h5.{}.tmp: cannot write: File too large", getpid()));
    EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  }
  write_number_shard(dir.at("a.h5"), counted(0, 10), 10);  // the library still works
  EXPECT_EQ(TokenShard(dir.at("a.h5")).tokens(), 10);
}

TEST(TokenShard, VocabularyOfTheModel) {
  const ScratchDirectory dir;
  const ShardInfo text = write_text_shard(dir.at("t.h5"), {"abc"});
  require_vocab(text, 259);
  require_vocab(text, 300);
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { require_vocab(text, 258); })),
            "DIR/t.h5: its tokenizer 'bytes' has 259 tokens, the model's vocab_size is 258");
  const ShardInfo numbers = write_number_shard(dir.at("n.h5"), {5, 41, 7}, 1000);
  require_vocab(numbers, 42);
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { require_vocab(numbers, 41); })),
            "DIR/n.h5: its largest token is 41, the model's vocab_size is 41");
}

TEST(ShardSet, TokenizersAndSeparatorsMustAgree) {
  const ScratchDirectory dir;
  write_text_shard(dir.at("a.h5"), {"abc"});
  write_text_shard(dir.at("b.h5"), {"def"});
  write_number_shard(dir.at("n.h5"), {1, 2, 3}, 10);
  write_number_shard(dir.at("e.h5"), {1, 2, 3}, 10, 3);
  const auto open = [&](std::vector<std::string> names) {
    for (std::string& name : names) name = dir.at(name);
    return open_shards(names, ShardVerify::all);
  };
  const auto texts = open({"a.h5", "b.h5"});
  EXPECT_EQ(tokenizer_of(texts), "bytes");
  EXPECT_EQ(document_separator(texts), 257);
  EXPECT_EQ(tokenizer_of(open({"n.h5"})), "");
  EXPECT_EQ(tokenizer_of(open({"n.h5", "b.h5"})), "bytes");
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data,
                                  [&] {
                                    document_separator(open({"a.h5", "n.h5"}));
                                  })),
            "DIR/n.h5: it does not say which token ends a document, so document_mask cannot be used");
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data,
                                  [&] {
                                    document_separator(open({"a.h5", "e.h5"}));
                                  })),
            "DIR/e.h5: token 3 ends its documents, in DIR/a.h5 it is 257");
  {
    TokenShardWriter other(dir.at("o.h5"), {"other", 10, -1, "all"});
    other.begin_document();
    other.append(counted(0, 3));
    const ShardSource source{"x", 1, 3, 3};
    other.seal({&source, 1}, 1);
    other.publish();
  }
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data,
                                  [&] {
                                    open({"a.h5", "o.h5"});
                                  })),
            "DIR/o.h5: its tokenizer is 'other', that of DIR/a.h5 is 'bytes'");
}

TEST(ShardSet, DocumentStartsInsideAWindow) {
  // Columns beyond the starts are not looked at.
  const std::vector<int32_t> tokens = {1, 2, 9, 3, 9, 9, 4, 9, /**/ 9, 1, 2, 3, 4, 5, 6, 9};
  std::vector<int32_t> starts(2 * 7, -1);
  fill_document_starts(mat(starts.data(), 2, 7), mat(tokens.data(), 2, 8), 9);
  EXPECT_EQ(starts, (std::vector<int32_t>{0, 0, 0, 3, 3, 5, 6, /**/ 0, 1, 1, 1, 1, 1, 1}));
}

}  // namespace
}  // namespace tael
