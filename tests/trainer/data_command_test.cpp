// What tael data prints.
#include "tests/data/shard_fixture.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "trainer/commands/data.hpp"
#include "trainer/console.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

// What `body` writes to the stream it gets.
template <class Body>
std::string printed(const Body& body) {
  char* text = nullptr;
  size_t bytes = 0;
  std::FILE* stream = open_memstream(&text, &bytes);
  EXPECT_EQ(body(stream), 0);
  std::fclose(stream);
  const std::string all(text, bytes);
  std::free(text);
  return all;
}

TEST(DataCommand, PrepareInspectAndImport) {
  const ScratchDirectory dir;
  write_file(dir.at("a.txt"), "To be, or not to be, that is the question:\n");
  DataPrepareOptions prepare{.inputs = {dir.at("a.txt")},
                             .out = dir.at("t.h5"),
                             .valid = dir.at("v.h5"),
                             .valid_fraction = 0.5,
                             .dry_run = true};
  EXPECT_EQ(dir.relative(printed([&](std::FILE* out) { return run_data_prepare(prepare, out, nullptr); })),
            "DIR/t.h5: would hold 1 document, 22 tokens, 21 bytes of text\n"
            "DIR/v.h5: would hold 1 document, 23 tokens, 22 bytes of text\n"
            "held out: 51.16% of the text, the end of the only document\n");
  prepare.dry_run = false;
  const std::string out = dir.relative(printed([&](std::FILE* o) { return run_data_prepare(prepare, o, nullptr); }));
  const std::string digest = to_hex(TokenShard(dir.at("t.h5")).info().digest);
  EXPECT_EQ(out.substr(0, out.find('\n')), "DIR/t.h5: 1 document, 22 tokens, 21 bytes of text, digest " + digest);
  const std::string err = printed([&](std::FILE* e) {
    std::FILE* ignored = std::tmpfile();
    const int code = run_data_prepare(prepare, ignored, e);
    std::fclose(ignored);
    return code;
  });
  EXPECT_EQ(err.find("1 file in 0."), 0u) << err;

  EXPECT_EQ(dir.relative(printed([&](std::FILE* o) { return run_data_inspect({dir.at("t.h5")}, o); })),
            fmt::format("file        DIR/t.h5, {} bytes, every byte as it was written\n"
                        "digest      {}\n"
                        "tokenizer   bytes\n"
                        "vocabulary  259, largest used 257\n"
                        "tokens      22\n"
                        "documents   1, each ends with token 257\n"
                        "text        21 bytes, 20 of them targets\n"
                        "split       train\n"
                        "source      DIR/a.txt: 1 document, 22 tokens\n"
                        "begins      \"To be, or not to be, <|end_of_sentence|>\"\n",
                        grouped(TokenShard(dir.at("t.h5")).info().file_bytes), digest));

  write_file(dir.at("n.bin"), std::string("\x05\x00\x07\x01", 4));
  DataImportCommandOptions import{"nanogpt", {.inputs = {dir.at("n.bin")}, .out = dir.at("n.h5"), .vocab_size = 50257}};
  const std::string imported = dir.relative(printed([&](std::FILE* o) { return run_data_import(import, o, nullptr); }));
  EXPECT_EQ(imported, "DIR/n.h5: 1 document, 2 tokens, digest " + to_hex(TokenShard(dir.at("n.h5")).info().digest) +
                          ", largest token 263\n");
  const std::string json = dir.relative(printed([&](std::FILE* o) {
    return run_data_inspect({dir.at("n.h5"), true}, o);
  }));
  for (const char* part : {"\"tokenizer\": null", "\"end_of_document\": null", "\"tokens\": 2",
                           "\"largest_token\": 263", "\"vocab_size\": 50257", "\"name\": \"DIR/n.bin\""})
    EXPECT_NE(json.find(part), std::string::npos) << json;
  import.format = "megatron";
  EXPECT_EQ(error_of(Exit::missing_resource, [&] { run_data_import(import, stdout, nullptr); }),
            "data import megatron is not built yet; nanogpt is");
  import.format = "csv";
  EXPECT_EQ(error_of(Exit::usage, [&] { run_data_import(import, stdout, nullptr); }),
            "data import 'csv': expected nanogpt, llmc or megatron");
}

}  // namespace
}  // namespace tael
