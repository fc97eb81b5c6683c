#include "data/prepare.hpp"

#include <sys/resource.h>

#include <filesystem>
#include <functional>
#include <set>

#include "base/file.hpp"
#include "data/text_source.hpp"
#include "data/tokenizer.hpp"
#include "tests/data/compress.hpp"
#include "tests/data/shard_fixture.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::ScratchDirectory;

constexpr const char* kEnd = "<|end_of_sentence|>";

std::string text_of(const std::string& path) { return ByteTokenizer::decode(read_all(TokenShard(path))); }

std::set<std::string> names_in(const ScratchDirectory& dir) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path()))
    names.insert(entry.path().filename().string());
  return names;
}

TEST(Prepare, OneTextFile) {
  const ScratchDirectory dir;
  write_file(dir.at("a.txt"), "To be, or not to be");
  const DataPrepareResult result = prepare_data({.inputs = {dir.at("a.txt")}, .out = dir.at("a.h5")});
  EXPECT_EQ(text_of(dir.at("a.h5")), std::string("To be, or not to be") + kEnd);
  EXPECT_EQ(result.files, 1);
  EXPECT_EQ(result.train.tokens, 20);
  EXPECT_EQ(result.train.documents, 1);
  EXPECT_EQ(result.train.text_bytes, 19);
  EXPECT_EQ(result.train.target_text_bytes, 18);
  EXPECT_EQ(result.train.split, "all");
  EXPECT_EQ(result.train.digest, TokenShard(dir.at("a.h5")).info().digest);
  EXPECT_FALSE(result.valid);
  EXPECT_EQ(result.held_out(), 0);
  EXPECT_EQ(names_in(dir), (std::set<std::string>{"a.h5", "a.txt"}));
}

TEST(Prepare, DirectoriesJsonlAndCompressionTogether) {
  const ScratchDirectory dir;
  std::filesystem::create_directories(dir.at("in/sub"));
  write_file(dir.at("in/b"), "second");
  write_file(dir.at("in/a.gz"), gzip("first"));
  write_file(dir.at("in/sub/c"), "third");
  write_file(dir.at("in/empty"), "");
  write_file(dir.at("in/empty.zst"), zstd(""));
  write_file(dir.at("d.jsonl.zst"), zstd("{\"text\":\"x\"}\n{\"text\":\"\"}\n{\"text\":\"y\"}\n"));
  const DataPrepareResult result =
      prepare_data({.inputs = {dir.at("in"), dir.at("d.jsonl.zst")}, .out = dir.at("in/out.h5")});
  EXPECT_EQ(text_of(dir.at("in/out.h5")), fmt::format("first{0}second{0}third{0}x{0}y{0}", kEnd));
  EXPECT_EQ(result.files, 6);
  EXPECT_EQ(result.empty_files, 2);
  EXPECT_EQ(result.empty_documents, 1);
  const ShardInfo info = TokenShard(dir.at("in/out.h5")).info();
  ASSERT_EQ(info.sources.size(), 2u);
  EXPECT_EQ(info.sources[0].name, dir.at("in"));
  EXPECT_EQ(info.sources[0].documents, 3);
  EXPECT_EQ(info.sources[0].text_bytes, 16);
  EXPECT_EQ(info.sources[0].tokens, 19);
  EXPECT_EQ(info.sources[1].documents, 2);
  EXPECT_EQ(info.text_bytes, 18);
  EXPECT_EQ(info.target_text_bytes, 17);
  EXPECT_EQ(TokenShard(dir.at("in/out.h5")).document_starts(), (std::vector<int64_t>{0, 6, 13, 19, 21}));
}

// The input is one document: its end is held out, at the start of a character.
TEST(Prepare, OneDocumentIsCutAtACharacter) {
  const ScratchDirectory dir;
  const std::string euro = "\xe2\x82\xac";
  const std::string text = "abcdef" + euro + "ghi" + euro;  // 15 bytes
  struct Case {
    double fraction;
    size_t cut;
  };
  // 15 less the nearest whole number to 15 F, then forward to the next character's start
  for (const Case c : {Case{0.2, 12}, {0.4, 9}, {0.5, 9}, {0.6, 6}, {0.55, 9}, {0.9, 1}}) {
    for (const char* kind : {"plain", "gz", "jsonl"}) {
      const std::string path = dir.at(kind == std::string("plain") ? "a.txt"
                                      : kind == std::string("gz")  ? "a.txt.gz"
                                                                   : "a.jsonl");
      write_file(path, kind == std::string("plain") ? text
                       : kind == std::string("gz")  ? gzip(text)
                                                    : "\n{\"text\":\"" + text + "\"}\n");
      const DataPrepareResult result = prepare_data(
          {.inputs = {path}, .out = dir.at("t.h5"), .valid = dir.at("v.h5"), .valid_fraction = c.fraction});
      EXPECT_TRUE(result.split_inside_document);
      EXPECT_EQ(text_of(dir.at("t.h5")), text.substr(0, c.cut) + kEnd) << kind << " " << c.fraction;
      EXPECT_EQ(text_of(dir.at("v.h5")), text.substr(c.cut) + kEnd);
      EXPECT_EQ(result.train.split, "train");
      EXPECT_EQ(result.valid->split, "valid");
      EXPECT_DOUBLE_EQ(result.held_out(), static_cast<double>(15 - c.cut) / 15);
      EXPECT_EQ(result.valid->target_text_bytes, static_cast<int64_t>(15 - c.cut) - 1);
    }
  }
}

// Where F of the bytes is a whole number, that many are held out: 1 - F is not exact, and must not shift the cut.
TEST(Prepare, TheHeldOutEndHasTheNearestWholeNumberOfBytes) {
  const ScratchDirectory dir;
  for (size_t bytes : {10, 100, 1000}) {
    const std::string text(bytes, 'x');
    write_file(dir.at("a.txt"), text);
    write_file(dir.at("a.txt.gz"), gzip(text));
    write_file(dir.at("a.jsonl.zst"), zstd("{\"text\":\"" + text + "\"}\n"));
    for (int tenths = 1; tenths <= 9; ++tenths) {
      for (const char* name : {"a.txt", "a.txt.gz", "a.jsonl.zst"}) {
        const DataPrepareResult result = prepare_data({.inputs = {dir.at(name)},
                                                       .out = dir.at("t.h5"),
                                                       .valid = dir.at("v.h5"),
                                                       .valid_fraction = tenths / 10.0,
                                                       .dry_run = true});
        EXPECT_EQ(result.valid->text_bytes, static_cast<int64_t>(bytes) * tenths / 10) << name << " " << tenths;
        EXPECT_EQ(result.train.text_bytes, static_cast<int64_t>(bytes) * (10 - tenths) / 10) << name << " " << tenths;
      }
    }
  }
  // 2.4 bytes of three are two, and 1.5 of them too.
  write_file(dir.at("a.txt"), "abc");
  for (double fraction : {0.8, 0.5}) {
    prepare_data(
        {.inputs = {dir.at("a.txt")}, .out = dir.at("t.h5"), .valid = dir.at("v.h5"), .valid_fraction = fraction});
    EXPECT_EQ(text_of(dir.at("v.h5")), std::string("bc") + kEnd) << fraction;
  }
}

// A file that is larger than what is kept in memory is read twice, and must be the same both times.
TEST(Prepare, AFileThatChangesWhileItIsReadIsRefused) {
  const ScratchDirectory dir;
  const std::string path = dir.at("a.txt");
  write_file(dir.at("b.txt"), "short");
  const auto put = [&](size_t at, char byte) {
    std::fstream(path, std::ios::binary | std::ios::in | std::ios::out)
        .seekp(static_cast<std::streamoff>(at))
        .put(byte);
  };
  struct Case {
    const char* what;
    int64_t at;  // MiB that had been read: 16 are inside the first reading of 17, 32 inside the second
    std::function<void()> change;
  };
  const std::vector<Case> cases = {
      {"what was read, behind the first reading's back", 16, [&] { put(1000, 'y'); }},
      {"the last byte, before the second reading comes to it", 32, [&] { put((size_t{17} << 20) - 1, 'y'); }},
      {"more at the end", 32, [&] { std::ofstream(path, std::ios::binary | std::ios::app) << 'y'; }},
  };
  for (const Case& c : cases) {
    for (const bool alone : {true, false}) {  // cut inside, and placed as a whole
      write_file(path, std::string(size_t{17} << 20, 'x'));
      DataPrepareOptions options{
          .inputs = {path}, .out = dir.at("t.h5"), .valid = dir.at("v.h5"), .valid_fraction = 0.5};
      if (!alone) options.inputs.push_back(dir.at("b.txt"));
      const std::string message = testing::error_of(Exit::bad_data, [&] {
        prepare_data(options, [&](const DataProgress& p) {
          if (p.bytes_read >> 20 == c.at) c.change();
        });
      });
      EXPECT_EQ(dir.relative(message), "DIR/a.txt: changed while it was read") << c.what;
      EXPECT_EQ(names_in(dir), (std::set<std::string>{"a.txt", "b.txt"}));
    }
  }
}

// A document that is larger than what is kept in memory takes the other way through the code.
TEST(Prepare, LargeDocumentsAreReadTwiceAndCutAlike) {
  const ScratchDirectory dir;
  std::string text;
  while (text.size() < (size_t{17} << 20)) text += "0123456789 \xe2\x82\xac\n";
  write_file(dir.at("a.txt"), text);
  const DataPrepareOptions options{
      .inputs = {dir.at("a.txt")}, .out = dir.at("t.h5"), .valid = dir.at("v.h5"), .valid_fraction = 0.1};
  const DataPrepareResult result = prepare_data(options);
  EXPECT_EQ(result.train.text_bytes + result.valid->text_bytes, static_cast<int64_t>(text.size()));
  EXPECT_NEAR(static_cast<double>(result.valid->text_bytes), static_cast<double>(text.size()) * 0.1, 4);
  EXPECT_EQ(text_of(dir.at("t.h5")) + text_of(dir.at("v.h5")),
            text.substr(0, static_cast<size_t>(result.train.text_bytes)) + kEnd +
                text.substr(static_cast<size_t>(result.train.text_bytes)) + kEnd);
  // With a second document it is placed as a whole.
  write_file(dir.at("b.txt"), "short");
  DataPrepareOptions two = options;
  two.inputs.push_back(dir.at("b.txt"));
  two.valid_fraction = 0.5;
  std::string message;
  try {
    const DataPrepareResult both = prepare_data(two);
    EXPECT_EQ(both.train.documents + both.valid->documents, 2);
    EXPECT_FALSE(both.split_inside_document);
  } catch (const Error& error) {  // both on one side is a possible, and lawful, answer of the hash
    EXPECT_EQ(error.code(), Exit::bad_data);
  }
}

TEST(Prepare, DocumentsAreHeldOutByTheirContent) {
  const ScratchDirectory dir;
  std::filesystem::create_directories(dir.at("in"));
  std::string jsonl;
  for (int i = 0; i < 2000; ++i) jsonl += fmt::format("{{\"text\":\"document {}\"}}\n", i);
  write_file(dir.at("a.jsonl"), jsonl);
  const auto prepare = [&](const std::string& input, const std::string& name, double fraction) {
    return prepare_data({.inputs = {dir.at(input)},
                         .out = dir.at(name + "t.h5"),
                         .valid = dir.at(name + "v.h5"),
                         .valid_fraction = fraction});
  };
  const DataPrepareResult result = prepare("a.jsonl", "a", 0.1);
  EXPECT_EQ(result.train.documents + result.valid->documents, 2000);
  // Binomial: 200 with a deviation of 13.4.
  EXPECT_NEAR(static_cast<double>(result.valid->documents), 200, 6 * 13.4);
  // Order and company do not matter: reversed, half the documents, each stays on its side.
  std::string reversed;
  for (int i = 1999; i >= 0; i -= 2) reversed += fmt::format("{{\"text\":\"document {}\"}}\n", i);
  write_file(dir.at("b.jsonl"), reversed);
  prepare("b.jsonl", "b", 0.1);
  const std::string held_out = kEnd + text_of(dir.at("av.h5")), trained = kEnd + text_of(dir.at("at.h5"));
  const TokenShard valid(dir.at("bv.h5"));
  const auto starts = valid.document_starts();
  for (size_t i = 0; i < starts.size(); ++i) {
    const int64_t end = i + 1 < starts.size() ? starts[i + 1] : valid.tokens();
    const std::string document = kEnd + ByteTokenizer::decode(read_tokens(valid, starts[i], end - starts[i]));
    EXPECT_NE(held_out.find(document), std::string::npos) << document;
    EXPECT_EQ(trained.find(document), std::string::npos) << document;
  }
  EXPECT_GT(starts.size(), 30u);
  // A larger fraction holds out all that a smaller one does.
  const int64_t more = prepare("a.jsonl", "c", 0.3).valid->documents;
  EXPECT_NEAR(static_cast<double>(more), 600, 6 * 20.5);
  // The same text as files of a directory lands on the same side.
  for (int i = 0; i < 200; ++i) write_file(dir.at(fmt::format("in/{}", i)), fmt::format("document {}", i));
  prepare("in", "d", 0.1);
  const TokenShard files(dir.at("dv.h5"));
  const int64_t end = files.document_starts().size() > 1 ? files.document_starts()[1] : files.tokens();
  EXPECT_NE(held_out.find(kEnd + ByteTokenizer::decode(read_tokens(files, 0, end))), std::string::npos);
}

TEST(Prepare, DryRunSaysTheSameAndWritesNothing) {
  const ScratchDirectory dir;
  write_file(dir.at("a.jsonl"), "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"three\"}\n{\"text\":\"four\"}\n");
  DataPrepareOptions options{.inputs = {dir.at("a.jsonl")},
                             .out = dir.at("t.h5"),
                             .valid = dir.at("v.h5"),
                             .valid_fraction = 0.5,
                             .dry_run = true};
  const DataPrepareResult dry = prepare_data(options);
  EXPECT_EQ(names_in(dir), (std::set<std::string>{"a.jsonl"}));
  options.dry_run = false;
  const DataPrepareResult real = prepare_data(options);
  for (const auto& [a, b] : {std::pair(dry.train, real.train), std::pair(*dry.valid, *real.valid)}) {
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.documents, b.documents);
    EXPECT_EQ(a.text_bytes, b.text_bytes);
    EXPECT_EQ(a.target_text_bytes, b.target_text_bytes);
    EXPECT_EQ(a.largest_token, b.largest_token);
    EXPECT_EQ(a.file_bytes, 0);
  }
}

TEST(Prepare, ProgressIsReported) {
  const ScratchDirectory dir;
  write_file(dir.at("a.txt"), std::string(size_t{33} << 20, 'x'));
  std::vector<int64_t> seen;
  prepare_data({.inputs = {dir.at("a.txt")}, .out = dir.at("a.h5")},
               [&](const DataProgress& p) { seen.push_back(p.bytes_read); });
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0], int64_t{16} << 20);
  EXPECT_EQ(seen[1], int64_t{32} << 20);
}

// 64 MiB of text may cost a few MiB of memory. The limit is on new memory above what the process has now.
TEST(Prepare, MemoryDoesNotGrowWithTheFile) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory hides the program's";
#endif
  const ScratchDirectory dir;
  {
    std::ofstream file(dir.at("a.txt"), std::ios::binary);
    const std::string piece(size_t{1} << 20, 'x');
    for (int i = 0; i < 64; ++i) file << piece;
  }
  const auto peak = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;  // KiB
  };
  write_file(dir.at("small.txt"), "warm the code up");
  prepare_data({.inputs = {dir.at("small.txt")}, .out = dir.at("s.h5")});
  const int64_t before = peak();
  prepare_data({.inputs = {dir.at("a.txt")}, .out = dir.at("a.h5")});
  EXPECT_LT(peak() - before, 8 * 1024);
  // A document that is split is kept up to 16 MiB before it is read again.
  prepare_data({.inputs = {dir.at("a.txt")}, .out = dir.at("t.h5"), .valid = dir.at("v.h5"), .valid_fraction = 0.1});
  EXPECT_LT(peak() - before, 44 * 1024);
  TokenShard(dir.at("t.h5"), ShardVerify::all);
  EXPECT_LT(peak() - before, 44 * 1024);
}

TEST(ImportNanogpt, TokensComeOverAsTheyAre) {
  const ScratchDirectory dir;
  const auto bytes_of = [](const std::vector<uint16_t>& tokens) {
    return std::string(reinterpret_cast<const char*>(tokens.data()), tokens.size() * 2);
  };
  write_file(dir.at("a.bin"), bytes_of({0, 50256, 258, 1}));
  write_file(dir.at("b.bin"), bytes_of({65535}));
  for (int64_t vocab : {65536, 100000}) {
    const ShardInfo info =
        import_nanogpt({.inputs = {dir.at("a.bin"), dir.at("b.bin")}, .out = dir.at("n.h5"), .vocab_size = vocab});
    EXPECT_EQ(info.tokens, 5);
    EXPECT_EQ(info.documents, 2);
    EXPECT_EQ(info.largest_token, 65535);
    EXPECT_FALSE(info.has_text());
    const TokenShard shard(dir.at("n.h5"));
    EXPECT_EQ(read_all(shard), (std::vector<int32_t>{0, 50256, 258, 1, 65535}));
    EXPECT_EQ(shard.info().vocab_size, vocab);
    EXPECT_EQ(shard.info().end_of_document, -1);
    EXPECT_EQ(shard.document_starts(), (std::vector<int64_t>{0, 4}));
  }
  std::filesystem::remove(dir.at("n.h5"));
  const ShardInfo dry =
      import_nanogpt({.inputs = {dir.at("a.bin")}, .out = dir.at("n.h5"), .vocab_size = 50257, .dry_run = true});
  EXPECT_EQ(dry.tokens, 4);
  EXPECT_EQ(dry.largest_token, 50256);
  EXPECT_EQ(names_in(dir), (std::set<std::string>{"a.bin", "b.bin"}));
}

}  // namespace
}  // namespace tael
