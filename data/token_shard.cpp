#include "data/token_shard.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <limits>
#include <mutex>
#include <utility>

namespace tael {

namespace {

constexpr std::string_view kFormat = "tael-token-shard";
constexpr uint64_t kFormatVersion = 1;
constexpr int64_t kMaxNarrowVocab = 65536;
constexpr uint64_t kMaxSourceNameBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxSources = 1'000'000;
constexpr size_t kWriteBufferBytes = size_t{1} << 20;
constexpr size_t kReadPieceTokens = 8192;

const H5Writer::Options kLayout = {.user_block = ShardSeal::kBytes, .alignment = 512};

void remove_file(const std::string& path) {
  std::error_code ignored;  // best effort: whoever comes next removes it again
  std::filesystem::remove(path, ignored);
}

// Where the tokens will lie: HDF5 decides, but not by how many there are, so they can be written before they are
// counted.
uint64_t find_tokens_offset(H5Type type) {
  H5Writer::Options options = kLayout;
  options.in_memory = true;
  H5Writer layout("layout of a token shard", options);
  const uint64_t one = 1;
  const uint64_t offset = layout.reserve("tokens", type, {&one, 1}).offset;
  layout.close();
  return offset;
}

}  // namespace

struct TokenShard::LateCheck {
  std::mutex mutex;
  std::vector<uint8_t> checked;  // per block
  Xxh3 hash;
  std::vector<std::byte> buffer = std::vector<std::byte>(size_t{1} << 20);
};

TokenShard::TokenShard(const std::string& path, ShardVerify verify)
    : file_(File::open(path, Exit::bad_data)), seal_(ShardSeal::read(file_)) {
  if (verify == ShardVerify::all)
    seal_.check_all(file_);
  else
    seal_.check_outside_bulk(file_);
  read_description(H5Reader(path, Exit::bad_data));
  if (verify == ShardVerify::blocks) {
    late_check_ = std::make_unique<LateCheck>();
    late_check_->checked.resize(seal_.blocks());
  }
}

TokenShard::~TokenShard() = default;
TokenShard::TokenShard(TokenShard&&) noexcept = default;

void TokenShard::read_description(const H5Reader& reader) {
  const std::string& path = file_.path();
  const auto require = [&](bool good, const char* what) {
    if (!good) fail(Exit::bad_data, "{}: not a token shard that this program can read: {}", path, what);
  };
  require(reader.text_attribute("/", "format") == kFormat, "its attribute 'format' is another one");
  const uint64_t version = reader.uint_attribute("/", "format_version");
  if (version != kFormatVersion)
    fail(Exit::bad_data, "{}: token shard version {}, this program reads version {}", path, version, kFormatVersion);

  info_.path = path;
  info_.tokenizer = reader.text_attribute("/", "tokenizer");
  info_.split = reader.text_attribute("/", "split");
  info_.vocab_size = reader.int_attribute("/", "vocab_size");
  require(info_.vocab_size >= 1 && info_.vocab_size <= std::numeric_limits<int32_t>::max(), "vocab_size out of range");
  const int64_t end = reader.int_attribute("/", "end_of_document");
  require(end >= -1 && end < info_.vocab_size, "end_of_document lies outside the vocabulary");
  info_.end_of_document = static_cast<int32_t>(end);
  info_.largest_token = reader.int_attribute("/", "largest_token");
  require(info_.largest_token >= 0 && info_.largest_token < info_.vocab_size, "largest_token out of range");
  info_.text_bytes = reader.int_attribute("/", "text_bytes");
  info_.target_text_bytes = reader.int_attribute("/", "target_text_bytes");
  require(info_.target_text_bytes >= 0 && info_.target_text_bytes <= info_.text_bytes, "text bytes out of range");

  const H5Reader::Dataset tokens = reader.dataset("tokens");
  wide_ = info_.vocab_size > kMaxNarrowVocab;
  require(tokens.type == (wide_ ? H5Type::u32 : H5Type::u16), "tokens are stored in another type");
  require(tokens.dims.size() == 1 && tokens.elements >= 1 && tokens.elements <= (uint64_t{1} << 48),
          "tokens have another shape");
  require(tokens.region.offset == seal_.bulk_begin() && tokens.region.offset + tokens.region.bytes == seal_.bulk_end(),
          "tokens lie elsewhere than the seal says");
  tokens_offset_ = tokens.region.offset;
  info_.tokens = static_cast<int64_t>(tokens.elements);

  const H5Reader::Dataset starts = reader.dataset("document_starts");
  require(starts.type == H5Type::u64 && starts.dims.size() == 1 && starts.elements <= tokens.elements,
          "document_starts have another type or shape");
  starts_ = starts.region;
  info_.documents = static_cast<int64_t>(starts.elements);

  const std::vector<std::string> names = reader.read_text("source_names", kMaxSourceNameBytes);
  const auto numbers = [&](const char* dataset) {
    const H5Reader::Dataset d = reader.dataset(dataset);
    require(d.type == H5Type::u64 && d.dims.size() == 1 && d.elements == names.size() && d.elements <= kMaxSources,
            "sources of different lengths");
    std::vector<int64_t> values(d.elements);
    file_.read_at(d.region.offset, values.data(), d.region.bytes);
    return values;
  };
  const auto documents = numbers("source_documents"), counts = numbers("source_tokens"),
             bytes = numbers("source_text_bytes");
  for (size_t i = 0; i < names.size(); ++i) info_.sources.push_back({names[i], documents[i], counts[i], bytes[i]});
  info_.file_bytes = static_cast<int64_t>(seal_.file_bytes());
  info_.digest = seal_.digest();
}

void TokenShard::check_late(uint64_t offset, uint64_t bytes) const {
  const std::lock_guard lock(late_check_->mutex);
  for (uint64_t block = seal_.block_of(offset); block <= seal_.block_of(offset + bytes - 1); ++block) {
    if (late_check_->checked[block] != 0) continue;
    seal_.check_block(file_, block, late_check_->hash, late_check_->buffer);
    late_check_->checked[block] = 1;
  }
}

void TokenShard::read(int64_t first, Vec<int32_t> out) const {
  const int64_t count = out.size();
  CHECK(first >= 0 && count >= 0 && count <= info_.tokens && first <= info_.tokens - count, "{}: tokens {} to {} of {}",
        file_.path(), first, first + count, info_.tokens);
  if (count == 0) return;
  const uint64_t width = wide_ ? 4 : 2;
  const uint64_t offset = tokens_offset_ + static_cast<uint64_t>(first) * width;
  if (late_check_) check_late(offset, static_cast<uint64_t>(count) * width);
  uint32_t largest = 0;
  if (wide_) {
    file_.read_at(offset, out.data, static_cast<size_t>(count) * 4);
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<uint32_t>(out.data[i]));
  } else {
    std::array<uint16_t, kReadPieceTokens> piece;
    for (int64_t done = 0; done < count;) {
      const int64_t n = std::min<int64_t>(count - done, kReadPieceTokens);
      file_.read_at(offset + static_cast<uint64_t>(done) * 2, piece.data(), static_cast<size_t>(n) * 2);
      for (int64_t i = 0; i < n; ++i) {
        largest = std::max<uint32_t>(largest, piece[static_cast<size_t>(i)]);
        out.data[done + i] = piece[static_cast<size_t>(i)];
      }
      done += n;
    }
  }
  if (largest >= static_cast<uint64_t>(info_.vocab_size))
    fail(Exit::bad_data, "{}: token {} between token {} and {} lies outside the vocabulary of {}", file_.path(),
         largest, first, first + count, info_.vocab_size);
}

std::vector<int64_t> TokenShard::document_starts() const {
  std::vector<int64_t> starts(static_cast<size_t>(info_.documents));
  file_.read_at(starts_.offset, starts.data(), starts_.bytes);
  for (size_t i = 0; i < starts.size(); ++i)
    if (starts[i] < 0 || starts[i] >= info_.tokens || (i == 0 ? starts[i] != 0 : starts[i] <= starts[i - 1]))
      fail(Exit::bad_data, "{}: document {} begins at token {}, which is out of order", file_.path(), i, starts[i]);
  return starts;
}

void require_vocab(const ShardInfo& shard, int64_t vocab_size) {
  const int64_t needed = shard.has_text() ? shard.vocab_size : shard.largest_token + 1;
  if (vocab_size >= needed) return;
  if (shard.has_text())
    fail(Exit::bad_data, "{}: its tokenizer '{}' has {} tokens, the model's vocab_size is {}", shard.path,
         shard.tokenizer, needed, vocab_size);
  fail(Exit::bad_data, "{}: its largest token is {}, the model's vocab_size is {}", shard.path, shard.largest_token,
       vocab_size);
}

TokenShardWriter::TokenShardWriter(std::string path, ShardFormat format)
    : path_(std::move(path)),
      temporary_(free_name_beside(path_)),
      format_(std::move(format)),
      wide_(format_.vocab_size > kMaxNarrowVocab),
      buffer_(kWriteBufferBytes) {
  CHECK(format_.vocab_size >= 1 && format_.vocab_size <= std::numeric_limits<int32_t>::max());
  if (is_directory(path_)) fail(Exit::io, "{}: is a directory", path_);
  file_ = File::create(temporary_);
  tokens_offset_ = find_tokens_offset(wide_ ? H5Type::u32 : H5Type::u16);
}

TokenShardWriter::~TokenShardWriter() {
  if (!temporary_.empty()) remove_file(temporary_);
}

void TokenShardWriter::append(std::span<const int32_t> tokens) {
  CHECK(!document_starts_.empty() && !sealed_, "{}: append outside a document", path_);
  const size_t width = wide_ ? 4 : 2;
  while (!tokens.empty()) {
    const size_t n = std::min(tokens.size(), (buffer_.size() - buffered_) / width);
    uint32_t largest = 0;  // a negative token is larger than any vocabulary
    if (wide_) {
      std::memcpy(buffer_.data() + buffered_, tokens.data(), n * 4);
      for (size_t i = 0; i < n; ++i) largest = std::max(largest, static_cast<uint32_t>(tokens[i]));
    } else {
      auto* out = reinterpret_cast<uint16_t*>(buffer_.data() + buffered_);
      for (size_t i = 0; i < n; ++i) {
        largest = std::max(largest, static_cast<uint32_t>(tokens[i]));
        out[i] = static_cast<uint16_t>(tokens[i]);
      }
    }
    CHECK(largest < static_cast<uint64_t>(format_.vocab_size), "{}: token {} of {}", path_, largest,
          format_.vocab_size);
    largest_ = std::max<int64_t>(largest_, largest);
    tokens_ += static_cast<int64_t>(n);
    buffered_ += n * width;
    if (buffered_ == buffer_.size()) flush();
    tokens = tokens.subspan(n);
  }
}

void TokenShardWriter::flush() {
  const int64_t width = wide_ ? 4 : 2;
  file_.write_at(tokens_offset_ + static_cast<uint64_t>(flushed_ * width), buffer_.data(), buffered_);
  flushed_ += static_cast<int64_t>(buffered_) / width;
  buffered_ = 0;
}

// HDF5 lays the file out in a sparse copy, whose reserved regions hold nothing; what lies between them comes over here.
// Returns the region of the tokens.
H5Region TokenShardWriter::write_layout(std::span<const ShardSource> sources, const ShardInfo& info) {
  const std::string layout_path = free_name_beside(path_);
  struct Removal {
    const std::string& path;
    ~Removal() { remove_file(path); }
  } removal{layout_path};

  H5Writer layout(layout_path, kLayout);
  struct Bulk {
    H5Region region;
    const void* data;  // nullptr: there already
  };
  std::vector<Bulk> bulk;
  const uint64_t tokens = static_cast<uint64_t>(tokens_), documents = document_starts_.size(), count = sources.size();
  bulk.push_back({layout.reserve("tokens", wide_ ? H5Type::u32 : H5Type::u16, {&tokens, 1}), nullptr});
  CHECK(bulk[0].region.offset == tokens_offset_, "HDF5 moved the tokens from {} to {}", tokens_offset_,
        bulk[0].region.offset);
  bulk.push_back({layout.reserve("document_starts", H5Type::u64, {&documents, 1}), document_starts_.data()});
  std::vector<std::string> names;
  std::array<std::vector<int64_t>, 3> numbers;
  for (const ShardSource& source : sources) {
    names.push_back(source.name);
    numbers[0].push_back(source.documents);
    numbers[1].push_back(source.tokens);
    numbers[2].push_back(source.text_bytes);
  }
  layout.write_text("source_names", names);
  for (size_t k = 0; k < 3; ++k) {
    static constexpr const char* kNames[] = {"source_documents", "source_tokens", "source_text_bytes"};
    bulk.push_back({layout.reserve(kNames[k], H5Type::u64, {&count, 1}), numbers[k].data()});
  }
  layout.attribute("/", "format", kFormat);
  layout.attribute("/", "format_version", kFormatVersion);
  layout.attribute("/", "tokenizer", format_.tokenizer);
  layout.attribute("/", "split", format_.split);
  layout.attribute("/", "vocab_size", format_.vocab_size);
  layout.attribute("/", "end_of_document", int64_t{format_.end_of_document});
  layout.attribute("/", "largest_token", info.largest_token);
  layout.attribute("/", "text_bytes", info.text_bytes);
  layout.attribute("/", "target_text_bytes", info.target_text_bytes);
  layout.close();

  std::ranges::sort(bulk, {}, [](const Bulk& b) { return b.region.offset; });
  const File from = File::open(layout_path);
  const uint64_t end = from.size();
  std::vector<std::byte> gap;
  uint64_t done = ShardSeal::kBytes;
  const auto copy_until = [&](uint64_t stop) {
    CHECK(done <= stop, "datasets overlap in {}", layout_path);
    gap.resize(stop - done);
    from.read_at(done, gap.data(), gap.size());
    file_.write_at(done, gap.data(), gap.size());
  };
  for (const Bulk& b : bulk) {
    copy_until(b.region.offset);
    if (b.data != nullptr) file_.write_at(b.region.offset, b.data, b.region.bytes);
    done = b.region.offset + b.region.bytes;
  }
  copy_until(end);
  return {tokens_offset_, tokens * (wide_ ? 4u : 2u)};
}

ShardInfo TokenShardWriter::seal(std::span<const ShardSource> sources, int64_t first_token_text_bytes) {
  CHECK(tokens_ > 0 && !sources.empty() && !sealed_, "{}: nothing to seal", path_);
  flush();
  ShardInfo info;
  static_cast<ShardFormat&>(info) = format_;
  info.path = path_;
  info.tokens = tokens_;
  info.documents = static_cast<int64_t>(document_starts_.size());
  info.largest_token = largest_;
  info.sources.assign(sources.begin(), sources.end());
  for (const ShardSource& source : sources) info.text_bytes += source.text_bytes;
  info.target_text_bytes = info.text_bytes - first_token_text_bytes;
  const H5Region tokens = write_layout(sources, info);
  const ShardSeal seal = ShardSeal::write(file_, tokens.offset, tokens.offset + tokens.bytes);
  file_.sync();
  file_.close();
  info.file_bytes = static_cast<int64_t>(seal.file_bytes());
  info.digest = seal.digest();
  sealed_ = true;
  return info;
}

void TokenShardWriter::publish() {
  CHECK(sealed_, "{}: published before it was sealed", path_);
  tael::publish(temporary_, path_);
  temporary_.clear();
}

}  // namespace tael
