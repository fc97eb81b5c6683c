#include "data/prepare.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/text_source.hpp"
#include "data/tokenizer.hpp"

namespace tael {

namespace {

constexpr size_t kHeldInMemory = size_t{16} << 20;  // larger documents are read a second time
constexpr size_t kEncodePiece = 16384;
constexpr int64_t kProgressBytes = int64_t{16} << 20;

class Progress {
 public:
  explicit Progress(const ProgressCall& call) : call_(call) {}
  DataProgress state;
  void report(int64_t bytes_on_disk) {
    state.bytes_read += bytes_on_disk;
    if (call_ && state.bytes_read - reported_ >= kProgressBytes) {
      reported_ = state.bytes_read;
      call_(state);
    }
  }

 private:
  const ProgressCall& call_;
  int64_t reported_ = 0;
};

// One of the shards that are being made, or only counted.
class Part {
 public:
  Part(const DataPrepareOptions& options, const std::string& path, std::string split) {
    info_.path = path;
    info_.split = std::move(split);
    info_.tokenizer = ByteTokenizer::kName;
    info_.vocab_size = ByteTokenizer::kVocabSize;
    info_.end_of_document = ByteTokenizer::kEndOfSentence;
    for (const std::string& input : options.inputs) info_.sources.push_back({input});
    if (!options.dry_run) writer_ = std::make_unique<TokenShardWriter>(path, info_);
  }

  void begin(size_t input) {
    source_ = &info_.sources[input];
    if (writer_) writer_->begin_document();
  }
  void append(std::string_view text) {
    source_->text_bytes += static_cast<int64_t>(text.size());
    source_->tokens += static_cast<int64_t>(text.size());
    if (!writer_) return;
    while (!text.empty()) {
      const size_t n = std::min(text.size(), tokens_.size());
      ByteTokenizer::encode(text.substr(0, n), tokens_.data());
      writer_->append({tokens_.data(), n});
      text.remove_prefix(n);
    }
  }
  void end() {
    ++source_->documents;
    ++source_->tokens;
    const int32_t separator = ByteTokenizer::kEndOfSentence;
    if (writer_) writer_->append({&separator, 1});
  }

  bool empty() const {
    return std::ranges::all_of(info_.sources, [](const ShardSource& s) { return s.documents == 0; });
  }
  // The description of the whole; with a writer the file is complete and on the disk, under its temporary name.
  ShardInfo seal() {
    std::erase_if(info_.sources, [](const ShardSource& s) { return s.documents == 0; });
    source_ = nullptr;
    if (writer_) return writer_->seal(info_.sources, 1);  // documents are not empty, so the first token is a byte
    for (const ShardSource& source : info_.sources) {
      info_.documents += source.documents;
      info_.tokens += source.tokens;
      info_.text_bytes += source.text_bytes;
    }
    info_.target_text_bytes = info_.text_bytes - 1;
    info_.largest_token = ByteTokenizer::kEndOfSentence;
    return info_;
  }
  void publish() {
    if (writer_) writer_->publish();
  }

 private:
  ShardInfo info_;
  ShardSource* source_ = nullptr;
  std::unique_ptr<TokenShardWriter> writer_;
  std::array<int32_t, kEncodePiece> tokens_;
};

// A document that was read once, to know its size and hash.
struct Seen {
  TextFile file;
  uint64_t bytes = 0;
  Hash128 hash;
  bool in_memory = true;
  std::string text;  // when in memory
};

class Preparation {
 public:
  Preparation(const DataPrepareOptions& options, const ProgressCall& progress)
      : options_(options), progress_(progress) {}

  DataPrepareResult run() {
    const TextFiles list = list_text_files(options_.inputs);
    result_.files = static_cast<int64_t>(list.files.size()) + list.empty_files;
    result_.empty_files = list.empty_files;
    result_.skipped_links = list.skipped_links;
    result_.skipped_others = list.skipped_others;
    progress_.state.files_total = static_cast<int64_t>(list.files.size());
    // Before the writers exist, so that an output inside an input directory is not taken for text.
    train_ = std::make_unique<Part>(options_, options_.out, splitting() ? "train" : "all");
    if (splitting()) valid_ = std::make_unique<Part>(options_, options_.valid, "valid");
    for (const TextFile& file : list.files) {
      file.jsonl ? read_jsonl(file) : read_text(file);
      ++progress_.state.files;
    }
    finish();
    return std::move(result_);
  }

 private:
  bool splitting() const { return !options_.valid.empty(); }

  void count_document() { ++progress_.state.documents; }

  void read_text(const TextFile& file) {
    if (splitting()) {
      Seen seen = survey(file);
      if (seen.bytes == 0)
        ++result_.empty_files;
      else
        place(std::move(seen));
      return;
    }
    TextStream stream(file.path);
    bool any = false;
    for (std::string_view piece; !(piece = next_piece(stream)).empty(); any = true) {
      if (!any) train_->begin(file.input);
      train_->append(piece);
    }
    if (any) {
      train_->end();
      count_document();
    } else {
      ++result_.empty_files;  // compressed nothing
    }
  }

  void read_jsonl(const TextFile& file) {
    JsonlStream stream(file.path);
    int64_t read = 0;
    for (std::string text; stream.next(text);) {
      progress_.report(static_cast<int64_t>(stream.bytes_on_disk()) - std::exchange(read, stream.bytes_on_disk()));
      if (text.empty()) {
        ++result_.empty_documents;
      } else if (splitting()) {
        place({file, text.size(), xxh3_128(text.data(), text.size()), true, text});
      } else {
        train_->begin(file.input);
        train_->append(text);
        train_->end();
        count_document();
      }
    }
  }

  std::string_view next_piece(TextStream& stream) {
    const uint64_t before = stream.bytes_on_disk();
    const std::string_view piece = stream.next();
    progress_.report(static_cast<int64_t>(stream.bytes_on_disk() - before));
    return piece;
  }

  Seen survey(const TextFile& file) {
    Seen seen{file, 0, {}, true, {}};
    TextStream stream(file.path);
    Xxh3 hash;
    for (std::string_view piece; !(piece = next_piece(stream)).empty();) {
      hash.update(piece.data(), piece.size());
      seen.bytes += piece.size();
      if (!seen.in_memory) continue;
      seen.text += piece;
      if (seen.text.size() <= kHeldInMemory) continue;
      seen.in_memory = false;
      std::string().swap(seen.text);
    }
    seen.hash = hash.digest_128();
    return seen;
  }

  // The first document waits until a second one shows that it is not the whole input.
  void place(Seen seen) {
    count_document();
    if (!first_ && !several_) {
      first_ = std::move(seen);
      return;
    }
    several_ = true;
    if (first_) emit_by_hash(*std::exchange(first_, std::nullopt));
    emit_by_hash(seen);
  }

  void emit_by_hash(const Seen& seen) {
    const double place = static_cast<double>(seen.hash.low >> 11) * 0x1p-53;  // in [0, 1), a function of the content
    Part& part = place < options_.valid_fraction ? *valid_ : *train_;
    part.begin(seen.file.input);
    stream_pieces(seen, [&](std::string_view piece) { part.append(piece); });
    part.end();
  }

  // The only document: its end goes to the held-out shard.
  void emit_split(const Seen& seen) {
    // Of the held-out part, not of the rest: 1 - 0.9 is a little less than 0.1.
    uint64_t cut =
        seen.bytes - static_cast<uint64_t>(std::llround(options_.valid_fraction * static_cast<double>(seen.bytes)));
    if (cut == 0) return;  // finish() says that nothing is left to train on
    bool inside = true;
    uint64_t done = 0;
    train_->begin(seen.file.input);
    stream_pieces(seen, [&](std::string_view piece) {
      if (inside) {
        size_t n = std::min<uint64_t>(piece.size(), cut - done);
        while (done + n >= cut && n < piece.size() && !begins_character(piece[n])) ++n, ++cut;
        train_->append(piece.substr(0, n));
        done += n;
        piece.remove_prefix(n);
        if (piece.empty()) return;
        inside = false;
        train_->end();
        valid_->begin(seen.file.input);
      }
      valid_->append(piece);
    });
    inside ? train_->end() : valid_->end();
    result_.split_inside_document = true;
  }

  template <class Take>
  void stream_pieces(const Seen& seen, const Take& take) {
    if (seen.in_memory) return take(std::string_view(seen.text));
    TextStream stream(seen.file.path);
    Xxh3 hash;
    for (std::string_view piece; !(piece = next_piece(stream)).empty();) {
      hash.update(piece.data(), piece.size());
      take(piece);
    }
    if (hash.digest_128() != seen.hash) fail(Exit::bad_data, "{}: changed while it was read", seen.file.path);
  }

  void finish() {
    if (first_) emit_split(*first_);
    const int64_t documents = progress_.state.documents;
    if (documents == 0)
      fail(Exit::bad_data, "{}{}: no text in it ({} file{}, {} of them empty)", options_.inputs[0],
           options_.inputs.size() > 1 ? " and the other inputs" : "", result_.files, result_.files == 1 ? "" : "s",
           result_.empty_files);
    if (train_->empty())
      fail(Exit::bad_data, "no text is left to train on: valid_fraction {} of {} document{} is all",
           options_.valid_fraction, documents, documents == 1 ? "" : "s");
    if (valid_ && valid_->empty())
      fail(Exit::bad_data, "no text was held out: valid_fraction {} of {} document{} is none", options_.valid_fraction,
           documents, documents == 1 ? "" : "s");
    result_.train = train_->seal();
    if (valid_) result_.valid = valid_->seal();
    if (!valid_ || options_.dry_run) {
      train_->publish();
      return;
    }
    // Both or none: what `out` was comes back when the second cannot take its place.
    std::string before;
    if (path_exists(options_.out)) {
      before = free_name_beside(options_.out);
      tael::publish(options_.out, before);
    }
    try {
      train_->publish();
      valid_->publish();
    } catch (const Error&) {
      if (before.empty()) {
        remove_tree(options_.out);
      } else {
        tael::publish(before, options_.out);
      }
      throw;
    }
    if (!before.empty()) remove_tree(before);
  }

  const DataPrepareOptions& options_;
  Progress progress_;
  DataPrepareResult result_;
  std::unique_ptr<Part> train_, valid_;
  std::optional<Seen> first_;
  bool several_ = false;
};

}  // namespace

double DataPrepareResult::held_out() const {
  if (!valid) return 0;
  return static_cast<double>(valid->text_bytes) / static_cast<double>(valid->text_bytes + train.text_bytes);
}

namespace {

// Where a name leads, whatever is there: two names of one place give the same.
std::filesystem::path place_of(const std::string& name) {
  std::error_code ignored;
  return std::filesystem::weakly_canonical(std::filesystem::absolute(name, ignored), ignored);
}

// Refuses an output that would replace what nobody meant: an input, a file that an input directory holds, a device or a
// link. (A directory is refused where the file is made.)
void check_output(const std::string& out, const std::vector<std::string>& inputs) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::file_status status = fs::symlink_status(out, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status))
    fail(Exit::usage, "{}: exists and is no regular file; it is not replaced", out);
  const fs::path target = place_of(out);
  for (const std::string& input : inputs) {
    if (input.empty()) fail(Exit::usage, "an input has an empty name");
    const fs::path source = place_of(input);
    if (source == target) fail(Exit::usage, "{} is an input and an output at once", input);
    const fs::path relative = target.lexically_relative(source);
    const bool inside = fs::is_directory(source, ignored) && !relative.empty() && *relative.begin() != "..";
    if (inside && fs::exists(status))
      fail(Exit::usage, "{} exists inside the input {}; remove it, or give an output elsewhere", out, input);
  }
}

}  // namespace

DataPrepareResult prepare_data(const DataPrepareOptions& options, const ProgressCall& progress) {
  if (options.inputs.empty()) fail(Exit::usage, "data prepare needs at least one input");
  if (options.out.empty()) fail(Exit::usage, "data prepare needs --out");
  if (options.valid.empty() != (options.valid_fraction == 0))
    fail(Exit::usage, "--valid and a --valid-fraction above 0 and below 1 go together");
  if (!options.valid.empty() && !(options.valid_fraction > 0 && options.valid_fraction < 1))
    fail(Exit::usage, "--valid-fraction {}: expected a number above 0 and below 1", options.valid_fraction);
  if (!options.valid.empty() && place_of(options.out) == place_of(options.valid))
    fail(Exit::usage, "--out and --valid name the same file {}", options.out);
  check_output(options.out, options.inputs);
  if (!options.valid.empty()) check_output(options.valid, options.inputs);
  return Preparation(options, progress).run();
}

ShardInfo import_nanogpt(const DataImportOptions& options, const ProgressCall& progress) {
  if (options.inputs.empty()) fail(Exit::usage, "data import needs at least one input");
  if (options.out.empty()) fail(Exit::usage, "data import needs --out");
  check_output(options.out, options.inputs);
  if (options.vocab_size == 0) fail(Exit::usage, "--vocab-size: must be given, at least 1; every token lies below it");
  if (options.vocab_size < 1 || options.vocab_size > std::numeric_limits<int32_t>::max())
    fail(Exit::usage, "--vocab-size {}: expected 1 to {}", options.vocab_size, std::numeric_limits<int32_t>::max());
  std::vector<File> files;
  std::vector<ShardSource> sources;
  for (const std::string& path : options.inputs) {
    files.push_back(File::open(path, Exit::bad_data));
    const uint64_t bytes = files.back().size();
    if (bytes == 0) fail(Exit::bad_data, "{}: empty file", path);
    if (bytes % 2 != 0) fail(Exit::bad_data, "{}: {} bytes are no whole number of uint16 tokens", path, bytes);
    sources.push_back({path, 1, static_cast<int64_t>(bytes / 2), 0});
  }
  ShardInfo info;
  info.path = options.out;
  info.vocab_size = options.vocab_size;
  std::unique_ptr<TokenShardWriter> writer;
  if (!options.dry_run) writer = std::make_unique<TokenShardWriter>(options.out, info);
  Progress reporter(progress);
  reporter.state.files_total = static_cast<int64_t>(files.size());
  std::vector<uint16_t> narrow(kEncodePiece);
  std::vector<int32_t> tokens(kEncodePiece);
  for (size_t f = 0; f < files.size(); ++f) {
    if (writer) writer->begin_document();
    for (int64_t done = 0; done < sources[f].tokens;) {
      const size_t n = std::min<size_t>(kEncodePiece, static_cast<size_t>(sources[f].tokens - done));
      files[f].read_at(static_cast<uint64_t>(done) * 2, narrow.data(), n * 2);
      for (size_t i = 0; i < n; ++i) {
        tokens[i] = narrow[i];
        if (tokens[i] >= options.vocab_size)
          fail(Exit::bad_data, "{}: token {} at byte {} is not below the vocab size {}", options.inputs[f], tokens[i],
               2 * (static_cast<size_t>(done) + i), options.vocab_size);
        info.largest_token = std::max<int64_t>(info.largest_token, tokens[i]);
      }
      if (writer) writer->append({tokens.data(), n});
      done += static_cast<int64_t>(n);
      reporter.state.tokens += static_cast<int64_t>(n);
      reporter.report(static_cast<int64_t>(n) * 2);
    }
    ++reporter.state.files;
    ++reporter.state.documents;
  }
  if (writer) {
    info = writer->seal(sources, 0);
    writer->publish();
    return info;
  }
  info.sources = sources;
  info.documents = static_cast<int64_t>(files.size());
  for (const ShardSource& source : sources) info.tokens += source.tokens;
  return info;
}

}  // namespace tael
