// What a user gets for input that is damaged or does not fit: the exit code and the exact words. After each case the
// directory holds what it held before: no shard, no temporary file.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <set>

#include "base/file.hpp"
#include "data/prepare.hpp"
#include "data/sampler.hpp"
#include "data/shard_set.hpp"
#include "tests/data/compress.hpp"
#include "tests/data/shard_fixture.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

struct Case {
  const char* name;
  std::string file;     // in the directory; with a trailing slash a directory of that name
  std::string content;  // of the file
  Exit code;
  std::string message;  // DIR stands for the directory
};

std::set<std::string> tree_of(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) names.insert(entry.path().string());
  return names;
}

// Makes the file and runs `body`, which must fail as the case says and leave nothing.
void expect_refused(const Case& c, const std::function<void(const std::string& dir, const std::string& path)>& body) {
  SCOPED_TRACE(c.name);
  const ScratchDirectory dir;
  const std::string path = dir.at(c.file);
  if (path.ends_with('/'))
    std::filesystem::create_directories(path);
  else if (!c.file.empty() && c.content != "(none)")
    write_file(path, c.content);
  const auto before = tree_of(dir.path());
  EXPECT_EQ(dir.relative(error_of(c.code, [&] { body(dir.path(), path); })), c.message);
  EXPECT_EQ(tree_of(dir.path()), before);
}

TEST(DamagedInput, Prepare) {
  const std::string long_start(300000, 'x');
  const std::string gz = gzip("some text that compresses"), zst = zstd("some text that compresses");
  std::string bad_gz = gz, bad_zst = zst;
  bad_gz[gz.size() - 8] = static_cast<char>(bad_gz[gz.size() - 8] ^ 1);      // its CRC
  bad_zst[zst.size() - 1] = static_cast<char>(bad_zst[zst.size() - 1] ^ 1);  // its checksum
  const std::vector<Case> cases = {
      {"missing file", "none.txt", "(none)", Exit::bad_data, "DIR/none.txt: no such file"},
      {"missing directory", "no/such/place", "(none)", Exit::bad_data, "DIR/no/such/place: no such file"},
      {"empty file", "a.txt", "", Exit::bad_data, "DIR/a.txt: no text in it (1 file, 1 of them empty)"},
      {"directory without files", "in/", "", Exit::bad_data, "DIR/in/: no text in it (0 files, 0 of them empty)"},
      {"compressed nothing", "a.txt.gz", gzip(""), Exit::bad_data,
       "DIR/a.txt.gz: no text in it (1 file, 1 of them empty)"},
      {"JSONL of blank lines", "a.jsonl", "\n \n\n", Exit::bad_data,
       "DIR/a.jsonl: no text in it (1 file, 0 of them empty)"},
      {"JSONL of empty texts", "a.jsonl", "{\"text\":\"\"}\n", Exit::bad_data,
       "DIR/a.jsonl: no text in it (1 file, 0 of them empty)"},
      {"Latin-1", "a.txt", "one\ntwo\nna\xefve\n", Exit::bad_data, "DIR/a.txt:3: not UTF-8 at byte 10"},
      {"UTF-16", "a.txt", "\xff\xfeT\0o\0", Exit::bad_data, "DIR/a.txt:1: not UTF-8 at byte 0"},
      {"overlong form", "a.txt", "ab\xc0\xaf", Exit::bad_data, "DIR/a.txt:1: not UTF-8 at byte 2"},
      {"surrogate", "a.txt", "\n\xed\xa0\x80", Exit::bad_data, "DIR/a.txt:2: not UTF-8 at byte 1"},
      {"cut inside a character", "a.txt", "price 5 \xe2\x82", Exit::bad_data, "DIR/a.txt:1: not UTF-8 at byte 8"},
      {"bad byte far inside", "a.txt", long_start + "\n\xff", Exit::bad_data, "DIR/a.txt:2: not UTF-8 at byte 300001"},
      {"bad byte in gzip", "a.txt.gz", gzip("line\nbad \xff"), Exit::bad_data,
       "DIR/a.txt.gz:2: not UTF-8 at byte 9 of the decompressed text"},
      {"bad byte in a JSONL string", "a.jsonl", "{\"text\":\"ok\"}\n{\"text\":\"\xff\"}\n", Exit::bad_data,
       "DIR/a.jsonl:2: not UTF-8 at byte 23"},
      {"cut gzip", "a.txt.gz", gz.substr(0, 20), Exit::bad_data,
       "DIR/a.txt.gz: cut: its compressed data does not end at byte 20"},
      {"cut zstd", "a.txt.zst", zst.substr(0, 20), Exit::bad_data,
       "DIR/a.txt.zst: cut: its compressed data does not end at byte 20"},
      {"gzip with a wrong CRC", "a.gz", bad_gz, Exit::bad_data,
       fmt::format("DIR/a.gz: damaged gzip data at byte {}: incorrect data check", gz.size() - 4)},
      {"zstd with a wrong checksum", "a.zst", bad_zst, Exit::bad_data,
       "DIR/a.zst: damaged zstd data at or after byte 0: Restored data doesn't match checksum"},
      {"plain text called gz", "a.gz", "plain text", Exit::bad_data,
       "DIR/a.gz: damaged gzip data at byte 2: incorrect header check"},
      {"garbage after gzip", "a.gz", gz + "garbage", Exit::bad_data,
       fmt::format("DIR/a.gz: damaged gzip data at byte {}: incorrect header check", gz.size() + 2)},
      {"garbage after the zeros after gzip", "a.gz", gz + std::string(300000, '\0') + "x", Exit::bad_data,
       fmt::format("DIR/a.gz: damaged gzip data at byte {}: behind the zeros after its end only zeros may stand",
                   gz.size() + 300000)},
      {"a member after the zeros after gzip", "a.gz", gz + std::string(3, '\0') + gz, Exit::bad_data,
       fmt::format("DIR/a.gz: damaged gzip data at byte {}: behind the zeros after its end only zeros may stand",
                   gz.size() + 3)},
      {"zeros called gz", "a.gz", std::string(100, '\0'), Exit::bad_data,
       "DIR/a.gz: damaged gzip data at byte 2: incorrect header check"},
      {"plain text called zst", "a.zst", "plain text", Exit::bad_data,
       "DIR/a.zst: damaged zstd data at or after byte 0: Unknown frame descriptor"},
      {"JSONL line that is no JSON", "a.jsonl", "{\"text\":\"ok\"}\n\n{\"text\":}\n", Exit::bad_data,
       "DIR/a.jsonl:3:9: not JSON: syntax error while parsing value - unexpected '}'; expected '[', '{', or a literal"},
      {"JSONL line that is cut", "a.jsonl", "{\"text\":\"ok\"}\n{\"text\":\"o", Exit::bad_data,
       "DIR/a.jsonl:2:11: not JSON: syntax error while parsing value - invalid string: missing closing quote; last "
       "read: '\"o'"},
      {"JSONL line without text", "a.jsonl", "{\"text\":\"ok\"}\n{\"body\":\"x\"}\n", Exit::bad_data,
       "DIR/a.jsonl:2:1: the object has no field 'text'"},
      {"JSONL text of another kind", "a.jsonl", "{\"text\":[\"x\"]}\n", Exit::bad_data,
       "DIR/a.jsonl:1:9: expected a string, found an array"},
      {"JSONL line that is no object", "a.jsonl", "\"text\"\n", Exit::bad_data,
       "DIR/a.jsonl:1:1: expected an object with a field 'text'"},
      {"JSONL with two texts", "a.jsonl", "{\"text\":\"a\",\"text\":\"b\"}\n", Exit::bad_data,
       "DIR/a.jsonl:1:13: the key \"text\" stands twice in one object"},
  };
  for (const Case& c : cases)
    expect_refused(c, [](const std::string& dir, const std::string& path) {
      prepare_data({.inputs = {path}, .out = dir + "/out.h5"});
    });
}

TEST(DamagedInput, PrepareWithAHeldOutPart) {
  const std::vector<Case> cases = {
      {"a document of one character", "a.txt", "x", Exit::bad_data,
       "no text is left to train on: valid_fraction 0.5 of 1 document is all"},
      {"damage behind the first document", "a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":1}\n",
       Exit::bad_data, "DIR/a.jsonl:3:9: expected a string, found an integer"},
      {"equal documents share a side", "a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"one\"}\n", Exit::bad_data,
       "no text was held out: valid_fraction 0.5 of 2 documents is none"},
  };
  for (const Case& c : cases)
    expect_refused(c, [](const std::string& dir, const std::string& path) {
      prepare_data({.inputs = {path}, .out = dir + "/t.h5", .valid = dir + "/v.h5", .valid_fraction = 0.5});
    });
}

TEST(DamagedInput, OutputsThatAreNoFilesStayAsTheyAre) {
  const ScratchDirectory dir;
  dir.write("a.txt", "text");
  std::filesystem::create_symlink("nowhere", dir.at("link.h5"));
  ASSERT_EQ(mkfifo(dir.at("pipe.h5").c_str(), 0600), 0);
  for (const std::string name : {"link.h5", "pipe.h5"}) {
    const std::string text =
        error_of(Exit::usage, [&] { prepare_data({.inputs = {dir.at("a.txt")}, .out = dir.at(name)}); });
    EXPECT_EQ(dir.relative(text), "DIR/" + name + ": exists and is no regular file; it is not replaced");
  }
  EXPECT_TRUE(std::filesystem::is_symlink(dir.at("link.h5")));
  EXPECT_TRUE(std::filesystem::is_fifo(dir.at("pipe.h5")));
}

TEST(DamagedInput, OptionsThatMakeNoSense) {
  const Case text{"options", "a.txt", "text", Exit::usage, ""};
  const auto refused = [&](const std::string& message, const std::function<void(DataPrepareOptions&)>& change) {
    Case c = text;
    c.message = message;
    expect_refused(c, [&](const std::string& dir, const std::string& path) {
      DataPrepareOptions options{.inputs = {path}, .out = dir + "/t.h5", .valid = dir + "/v.h5", .valid_fraction = 0.5};
      change(options);
      prepare_data(options);
    });
  };
  refused("data prepare needs at least one input", [](auto& o) { o.inputs.clear(); });
  refused("data prepare needs --out", [](auto& o) { o.out.clear(); });
  refused("--valid and a --valid-fraction above 0 and below 1 go together", [](auto& o) { o.valid.clear(); });
  refused("--valid and a --valid-fraction above 0 and below 1 go together", [](auto& o) { o.valid_fraction = 0; });
  refused("--valid-fraction 1: expected a number above 0 and below 1", [](auto& o) { o.valid_fraction = 1; });
  refused("--valid-fraction -0.5: expected a number above 0 and below 1", [](auto& o) { o.valid_fraction = -0.5; });
  refused("an input has an empty name", [](auto& o) { o.inputs = {""}; });
  refused("DIR/a.txt exists inside the input DIR; remove it, or give an output elsewhere", [](auto& o) {
    const std::string dir = std::filesystem::path(o.out).parent_path();
    o.inputs = {dir};
    o.out = dir + "/a.txt";
  });
  refused("DIR/./a.txt is an input and an output at once", [](auto& o) {
    const std::string dir = std::filesystem::path(o.out).parent_path();
    o.inputs = {dir + "/./a.txt"};
    o.out = dir + "/a.txt";
  });
  refused("--out and --valid name the same file DIR/t.h5", [](auto& o) { o.valid = o.out; });
  refused("--out and --valid name the same file DIR/t.h5",
          [](auto& o) { o.valid = parent_directory(o.out) + "/./t.h5"; });
  refused("DIR/a.txt is an input and an output at once", [](auto& o) { o.out = o.inputs[0]; });
}

TEST(DamagedInput, PlacesThatCannotBeWritten) {
  Case c{"no directory", "a.txt", "text", Exit::io,
         fmt::format("DIR/no/out.h5.{}.tmp: cannot create: No such file or directory", getpid())};
  expect_refused(c, [](const std::string& dir, const std::string& path) {
    prepare_data({.inputs = {path}, .out = dir + "/no/out.h5"});
  });
  c = {"the output is a directory", "out.h5/", "", Exit::io, "DIR/out.h5: is a directory"};
  expect_refused(c, [](const std::string& dir, const std::string&) {
    const ScratchDirectory input;
    write_file(input.at("a.txt"), "text");
    prepare_data({.inputs = {input.at("a.txt")}, .out = dir + "/out.h5"});
  });
}

TEST(DamagedInput, Import) {
  std::string far(100002, '\0');
  far[100000] = 7;
  far[100001] = 1;
  const std::vector<Case> cases = {
      {"missing", "a.bin", "(none)", Exit::bad_data, "DIR/a.bin: no such file"},
      {"empty", "a.bin", "", Exit::bad_data, "DIR/a.bin: empty file"},
      {"odd length", "a.bin", "abc", Exit::bad_data, "DIR/a.bin: 3 bytes are no whole number of uint16 tokens"},
      {"a token beyond the vocabulary", "a.bin", std::string("\x01\x00\x63\x00\x64\x00", 6), Exit::bad_data,
       "DIR/a.bin: token 100 at byte 4 is not below the vocab size 100"},
      {"a token far inside", "a.bin", far, Exit::bad_data,
       "DIR/a.bin: token 263 at byte 100000 is not below the vocab size 100"},
      {"a directory", "in/", "", Exit::bad_data, "DIR/in/: is a directory"},
  };
  for (const Case& c : cases)
    expect_refused(c, [](const std::string& dir, const std::string& path) {
      import_nanogpt({.inputs = {path}, .out = dir + "/out.h5", .vocab_size = 100});
    });
  expect_refused({"no vocabulary", "a.bin", "ab", Exit::usage,
                  "--vocab-size: must be given, at least 1; every token lies below it"},
                 [](const std::string& dir, const std::string& path) {
                   import_nanogpt({.inputs = {path}, .out = dir + "/out.h5"});
                 });
}

TEST(DamagedInput, Shards) {
  const std::vector<Case> cases = {
      {"missing", "a.h5", "(none)", Exit::bad_data, "DIR/a.h5: no such file"},
      {"a directory", "in/", "", Exit::bad_data, "DIR/in/: is a directory"},
      {"empty", "a.h5", "", Exit::bad_data, "DIR/a.h5: empty file, expected a token shard"},
      {"text", "a.h5", "to be or not to be, that is the question", Exit::bad_data,
       "DIR/a.h5: not a token shard: it does not begin with 'tael token shard' (byte 0)"},
      {"nanoGPT's tokens", "a.h5", std::string(200000, '\1'), Exit::bad_data,
       "DIR/a.h5: not a token shard: it does not begin with 'tael token shard' (byte 0)"},
      {"another HDF5 file", "a.h5", "\x89HDF\r\n\x1a\n" + std::string(100, '\0'), Exit::bad_data,
       "DIR/a.h5: an HDF5 file, but not a token shard: it does not begin with a seal"},
      {"a seal and nothing more", "a.h5", "tael token shard\n" + std::string(65519, '\0'), Exit::bad_data,
       "DIR/a.h5: damaged: cut at byte 65536, the seal alone has 65536"},
      {"a seal of zeros", "a.h5", "tael token shard\n" + std::string(100000, '\0'), Exit::bad_data,
       "DIR/a.h5: damaged between byte 0 and 65536: the seal does not match its own digest"},
  };
  for (const Case& c : cases)
    for (ShardVerify verify : {ShardVerify::all, ShardVerify::blocks, ShardVerify::trusted})
      expect_refused(c, [&](const std::string&, const std::string& path) { open_shards({&path, 1}, verify); });
}

// A file that is sealed as it should be but whose content is not a shard's: the seal protects from accidents, this from
// files that somebody else sealed.
TEST(DamagedInput, SealedFilesThatAreNoShards) {
  const auto refused = [](const std::string& message, const std::function<void(const std::string& path)>& make) {
    const ScratchDirectory dir;
    const std::string path = dir.at("a.h5");
    make(path);
    EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { TokenShard{path}; })), message);
  };
  const auto seal = [](const std::string& path, H5Region bulk) {
    const std::string bytes = read_file(path);
    std::filesystem::remove(path);
    const File file = File::create(path);
    file.write_at(0, bytes.data(), bytes.size());
    ShardSeal::write(file, bulk.offset, bulk.offset + bulk.bytes);
  };
  refused("DIR/a.h5: cannot read it as HDF5: file signature not found", [&](const std::string& path) {
    write_file(path, std::string(100000, 'x'));
    seal(path, {65536, 1000});
  });
  const H5Writer::Options options{.user_block = ShardSeal::kBytes};
  const uint64_t ten = 10;
  refused("DIR/a.h5: attribute 'format' of '/' is missing", [&](const std::string& path) {
    H5Writer writer(path, options);
    const H5Region region = writer.reserve("tokens", H5Type::u16, {&ten, 1});
    writer.close();
    seal(path, region);
  });
  refused("DIR/a.h5: token shard version 2, this program reads version 1", [&](const std::string& path) {
    H5Writer writer(path, options);
    const H5Region region = writer.reserve("tokens", H5Type::u16, {&ten, 1});
    writer.attribute("/", "format", "tael-token-shard");
    writer.attribute("/", "format_version", uint64_t{2});
    writer.close();
    seal(path, region);
  });
  const auto described = [&](const std::string& path, int64_t vocab, H5Type type, uint64_t shift) {
    H5Writer writer(path, options);
    H5Region region = writer.reserve("tokens", type, {&ten, 1});
    writer.attribute("/", "format", "tael-token-shard");
    writer.attribute("/", "format_version", uint64_t{1});
    writer.attribute("/", "tokenizer", "");
    writer.attribute("/", "split", "all");
    writer.attribute("/", "vocab_size", vocab);
    writer.attribute("/", "end_of_document", int64_t{-1});
    writer.attribute("/", "largest_token", int64_t{0});
    writer.attribute("/", "text_bytes", int64_t{0});
    writer.attribute("/", "target_text_bytes", int64_t{0});
    writer.close();
    region.offset += shift;
    seal(path, region);
  };
  const std::string not_readable = "DIR/a.h5: not a token shard that this program can read: ";
  refused(not_readable + "vocab_size out of range",
          [&](const std::string& path) { described(path, 0, H5Type::u16, 0); });
  refused(not_readable + "vocab_size out of range",
          [&](const std::string& path) { described(path, int64_t{1} << 31, H5Type::u32, 0); });
  refused(not_readable + "tokens are stored in another type",
          [&](const std::string& path) { described(path, 70000, H5Type::u16, 0); });
  refused(not_readable + "tokens lie elsewhere than the seal says",
          [&](const std::string& path) { described(path, 100, H5Type::u16, 2); });
  refused("DIR/a.h5: dataset 'document_starts' is missing",
          [&](const std::string& path) { described(path, 100, H5Type::u16, 0); });
}

// A sealed shard whose tokens are not below its vocab_size must not reach an embedding table.
TEST(DamagedInput, TokensBeyondTheVocabularyAreFoundWhenRead) {
  const ScratchDirectory dir;
  const std::string path = dir.at("a.h5");
  write_number_shard(path, counted(0, 100), 100);
  const std::string bytes = read_file(path);
  const H5Region tokens = H5Reader(path, Exit::bad_data).dataset("tokens").region;
  std::filesystem::remove(path);
  {
    const File file = File::create(path);
    file.write_at(0, bytes.data(), bytes.size());
    file.write_at(tokens.offset + 2 * 50, "\x64\x00", 2);
    ShardSeal::write(file, tokens.offset, tokens.offset + tokens.bytes);
  }
  const TokenShard shard(path);
  EXPECT_EQ(read_tokens(shard, 0, 50), counted(0, 50));
  EXPECT_EQ(dir.relative(error_of(Exit::bad_data, [&] { read_tokens(shard, 40, 20); })),
            "DIR/a.h5: token 100 between token 40 and 60 lies outside the vocabulary of 100");
}

}  // namespace
}  // namespace tael
