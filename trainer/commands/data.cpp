#include "trainer/commands/data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "base/json.hpp"
#include "base/print.hpp"
#include "data/tokenizer.hpp"
#include "trainer/console.hpp"

namespace tael {

namespace {

constexpr int64_t kShownTokens = 64;

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

double megabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e6; }

// "a.h5: 3 documents, 20 tokens, 17 bytes of text, digest 0123..."
std::string summary(const ShardInfo& info, bool dry_run) {
  std::string line = fmt::format("{}: {}{}, {}", info.path, dry_run ? "would hold " : "",
                                 count_of(info.documents, "document"), count_of(info.tokens, "token"));
  if (info.has_text()) line += fmt::format(", {} of text", count_of(info.text_bytes, "byte"));
  if (!dry_run) line += fmt::format(", digest {}", to_hex(info.digest));
  return line;
}

// Progress: whether it arrives is no matter of the work.
void say(std::FILE* err, const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), err);
  std::fflush(err);
}

ProgressCall progress_on(std::FILE* err) {
  if (err == nullptr) return {};
  return [err](const DataProgress& p) {
    say(err, fmt::format("{:.0f} MB read, file {} of {}, {}\n", megabytes(p.bytes_read),
                         std::min(p.files + 1, p.files_total), p.files_total, count_of(p.documents, "document")));
  };
}

std::string as_json(const ShardInfo& info) {
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object().field("path", info.path);
  json.key("tokenizer");
  info.has_text() ? json.value(info.tokenizer) : json.null();
  json.field("vocab_size", info.vocab_size).field("split", info.split);
  json.key("end_of_document");
  info.end_of_document >= 0 ? json.value(info.end_of_document) : json.null();
  json.field("tokens", info.tokens).field("documents", info.documents).field("largest_token", info.largest_token);
  json.field("text_bytes", info.text_bytes).field("target_text_bytes", info.target_text_bytes);
  json.field("file_bytes", info.file_bytes).field("digest", to_hex(info.digest));
  json.key("sources").begin_array();
  for (const ShardSource& source : info.sources) {
    json.begin_object().field("name", source.name).field("documents", source.documents);
    json.field("tokens", source.tokens).field("text_bytes", source.text_bytes).end_object();
  }
  return json.end_array().end_object().text() + "\n";
}

// The first tokens: as the text they stand for, or as numbers.
std::string beginning(const TokenShard& shard) {
  std::vector<int32_t> tokens(static_cast<size_t>(std::min(kShownTokens, shard.tokens())));
  shard.read(0, vec(tokens.data(), static_cast<int64_t>(tokens.size())));
  if (shard.info().tokenizer != ByteTokenizer::kName) return fmt::format("{}", fmt::join(tokens, " "));
  std::string text;
  append_json_string(text, ByteTokenizer::decode(tokens));
  return text;
}

}  // namespace

int run_data_prepare(const DataPrepareOptions& options, std::FILE* out, std::FILE* err) {
  const Stopwatch clock;
  const DataPrepareResult result = prepare_data(options, progress_on(err));
  print_to(out, "{}\n", summary(result.train, options.dry_run));
  if (result.valid) {
    print_to(out, "{}\n", summary(*result.valid, options.dry_run));
    print_to(out, "held out: {:.2f}% of the text, {}\n", 100 * result.held_out(),
             result.split_inside_document ? "the end of the only document" : "documents by the hash of their content");
  }
  if (err == nullptr) return 0;
  std::string left_out;
  const auto add = [&](int64_t n, const char* noun, const char* why) {
    if (n > 0) left_out += fmt::format("{}{} {}", left_out.empty() ? "; " : ", ", count_of(n, noun), why);
  };
  add(result.empty_files, "file", "empty");
  add(result.empty_documents, "document", "empty");
  add(result.skipped_links, "symbolic link", "skipped");
  add(result.skipped_others, "special file", "skipped");
  const int64_t text = result.train.text_bytes + (result.valid ? result.valid->text_bytes : 0);
  const double seconds = clock.seconds(), rate = megabytes(text) / std::max(seconds, 1e-6);
  say(err, fmt::format("{} in {:.2f} s, {:.{}f} MB of text a second{}\n", count_of(result.files, "file"), seconds, rate,
                       rate < 10 ? 2 : 0, left_out));
  return 0;
}

int run_data_inspect(const DataInspectOptions& options, std::FILE* out) {
  const TokenShard shard(options.path, ShardVerify::all);
  const ShardInfo& info = shard.info();
  if (options.json) {
    print_to(out, "{}", as_json(info));
    return 0;
  }
  const auto line = [&](const char* name, const std::string& text) { print_to(out, "{:<12}{}\n", name, text); };
  line("file", fmt::format("{}, {}, every byte as it was written", info.path, count_of(info.file_bytes, "byte")));
  line("digest", to_hex(info.digest));
  line("tokenizer", info.has_text() ? info.tokenizer : "unknown: numbers that were imported");
  line("vocabulary", fmt::format("{}, largest used {}", grouped(info.vocab_size), grouped(info.largest_token)));
  line("tokens", grouped(info.tokens));
  line("documents",
       fmt::format("{}{}", grouped(info.documents),
                   info.end_of_document < 0 ? "" : fmt::format(", each ends with token {}", info.end_of_document)));
  if (info.has_text())
    line("text",
         fmt::format("{}, {} of them targets", count_of(info.text_bytes, "byte"), grouped(info.target_text_bytes)));
  line("split", info.split);
  for (const ShardSource& source : info.sources)
    line("source", fmt::format("{}: {}, {}", source.name, count_of(source.documents, "document"),
                               count_of(source.tokens, "token")));
  line("begins", beginning(shard));
  return 0;
}

int run_data_import(const DataImportCommandOptions& options, std::FILE* out, std::FILE* err) {
  if (options.format == "llmc" || options.format == "megatron")
    fail(Exit::missing_resource, "data import {} is not built yet; nanogpt is", options.format);
  if (options.format != "nanogpt")
    fail(Exit::usage, "data import '{}': expected nanogpt, llmc or megatron", options.format);
  const ShardInfo info = import_nanogpt(options.import, progress_on(err));
  print_to(out, "{}, largest token {}\n", summary(info, options.import.dry_run), info.largest_token);
  return 0;
}

namespace {

Verb data_prepare_verb() {
  const auto o = std::make_shared<DataPrepareOptions>();
  return {.name = "prepare",
          .does = "text, directories and JSONL (.gz, .zst) to token shards",
          .options = {{"--out", &o->out, "the shard to write", {.required = true}},
                      {"--valid", &o->valid, "a second shard for held-out documents"},
                      {"--valid-fraction", &o->valid_fraction, "the part that is held out, between 0 and 1"},
                      {"inputs", &o->inputs, "files and directories", {.required = true}},
                      {"--dry-run", &o->dry_run, "read and check everything, write nothing"}},
          .work = [o](const VerbContext&) { return run_data_prepare(*o, stdout, stderr); },
          .examples =
              "  tael data prepare --out train.h5 --valid valid.h5 --valid-fraction 0.05 corpus/\n"
              "  tael data prepare --out web.h5 web-00.jsonl.zst web-01.jsonl.zst"};
}

Verb data_inspect_verb() {
  const auto o = std::make_shared<DataInspectOptions>();
  return {
      .name = "inspect",
      .does = "what is in a token shard, after checking every byte",
      .options = {{"shard", &o->path, "a token shard", {.required = true}}, {"--json", &o->json, "as one JSON object"}},
      .work = [o](const VerbContext&) { return run_data_inspect(*o, stdout); },
      .examples = "  tael data inspect train.h5\n  tael data inspect train.h5 --json"};
}

Verb data_import_verb() {
  const auto o = std::make_shared<DataImportCommandOptions>();
  return {.name = "import",
          .does = "other programs' token files to token shards",
          .options = {{"format",
                       &o->format,
                       "nanogpt: bare little-endian uint16 tokens",
                       {.required = true, .words = {"nanogpt"}}},
                      {"--out", &o->import.out, "the shard to write", {.required = true}},
                      {"--vocab-size", &o->import.vocab_size, "tokens must lie below it"},
                      {"inputs", &o->import.inputs, "files; each becomes one document", {.required = true}},
                      {"--dry-run", &o->import.dry_run, "read and check everything, write nothing"}},
          .work = [o](const VerbContext&) { return run_data_import(*o, stdout, stderr); },
          .examples =
              "  tael data import nanogpt --out train.h5 --vocab-size 50304 train.bin\n"
              "  tael data import nanogpt --out all.h5 --vocab-size 4096 a.bin b.bin --dry-run"};
}

}  // namespace

VerbGroup data_verbs() {
  return {.name = "data",
          .does = "make and look into token shards",
          .examples = "  tael data prepare --out train.h5 corpus/\n  tael data inspect train.h5",
          .verbs = {data_prepare_verb(), data_inspect_verb(), data_import_verb()}};
}

}  // namespace tael
