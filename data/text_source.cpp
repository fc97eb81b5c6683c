#include "data/text_source.hpp"

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/check.hpp"
#include "base/json.hpp"

namespace tael {

namespace {

namespace fs = std::filesystem;

constexpr size_t kPieceBytes = size_t{256} << 10;

std::string_view without_compression(std::string_view path) {
  for (std::string_view ending : {".gz", ".zst"})
    if (path.ends_with(ending)) return path.substr(0, path.size() - ending.size());
  return path;
}

bool is_jsonl(std::string_view path) {
  const std::string_view name = without_compression(path);
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

void list_directory(const std::string& directory, size_t input, TextFiles& out) {
  std::error_code error;
  std::vector<std::string> paths;
  fs::recursive_directory_iterator it(directory, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const fs::file_status status = it->symlink_status(error);
    if (error) break;
    if (fs::is_symlink(status))
      ++out.skipped_links;
    else if (fs::is_regular_file(status))
      paths.push_back(it->path().string());
    else if (!fs::is_directory(status))
      ++out.skipped_others;
  }
  if (error) fail(Exit::io, "{}: cannot list: {}", directory, error.message());
  std::ranges::sort(paths);
  for (std::string& path : paths) {
    if (File::open(path, Exit::bad_data).size() == 0)
      ++out.empty_files;
    else
      out.files.push_back({path, input, is_jsonl(path)});
  }
}

}  // namespace

TextFiles list_text_files(std::span<const std::string> inputs) {
  TextFiles out;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string& path = inputs[i];
    if (is_directory(path)) {
      list_directory(path, i, out);
      continue;
    }
    if (File::open(path, Exit::bad_data).size() == 0)
      ++out.empty_files;
    else
      out.files.push_back({path, i, is_jsonl(path)});
  }
  return out;
}

// Takes compressed bytes, gives text. Offsets are those of the compressed file.
struct TextStream::Decoder {
  virtual ~Decoder() = default;
  // Consumes from the front of `in`, fills `out` from its start, returns how much was filled. Zero with an empty `in`:
  // it needs more input, or there is no more.
  virtual size_t decode(std::string_view& in, std::span<char> out) = 0;
  virtual bool whole() const = 0;  // the file may end here
};

struct TextStream::GzDecoder final : Decoder {
  explicit GzDecoder(const TextStream& owner) : stream(owner) { CHECK(inflateInit2(&z, 15 + 16) == Z_OK, "zlib"); }
  ~GzDecoder() override { inflateEnd(&z); }

  size_t decode(std::string_view& in, std::span<char> out) override {
    // Behind the last member zeros may fill a block, as tar and tapes leave them; gzip passes over them too.
    padded = padded || (ended && !in.empty() && in[0] == '\0');
    if (padded) {
      const size_t other = in.find_first_not_of('\0');
      if (other != std::string_view::npos)
        fail(Exit::bad_data, "{}: damaged gzip data at byte {}: behind the zeros after its end only zeros may stand",
             stream.path_, stream.disk_offset_ - in.size() + other);
      in = {};
      return 0;
    }
    if (ended && !in.empty()) {  // another member follows
      CHECK(inflateReset(&z) == Z_OK, "zlib");
      ended = false;
    }
    // The library does not write to its input; the field merely lacks the const.
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    z.avail_in = static_cast<uInt>(in.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    const int result = inflate(&z, Z_NO_FLUSH);
    in.remove_prefix(in.size() - z.avail_in);
    ended = result == Z_STREAM_END;
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
      fail(Exit::bad_data, "{}: damaged gzip data at byte {}: {}", stream.path_, stream.disk_offset_ - in.size(),
           z.msg != nullptr ? z.msg : "unknown error");
    return out.size() - z.avail_out;
  }
  bool whole() const override { return ended; }

  const TextStream& stream;
  z_stream z{};
  bool ended = false, padded = false;
};

struct TextStream::ZstDecoder final : Decoder {
  // Text may refer back as far as its window, and the decoder holds a window of text: what the frame asks for, up to
  // 2 GiB for `zstd --long=31`. (The library's own limit is 128 MiB. Only pages that text fills become resident.)
  explicit ZstDecoder(const TextStream& owner) : stream(owner), z(ZSTD_createDStream()) {
    CHECK(z != nullptr, "zstd");
    const int largest = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound;
    CHECK(ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, largest)) == 0, "window of 2^{} bytes", largest);
  }
  ~ZstDecoder() override { ZSTD_freeDStream(z); }

  size_t decode(std::string_view& in, std::span<char> out) override {
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    const size_t result = ZSTD_decompressStream(z, &to, &from);
    in.remove_prefix(from.pos);
    if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation)
      fail(Exit::io, "{}: no memory for the window of its zstd data at or after byte {}", stream.path_,
           stream.disk_offset_ - in.size());
    if (ZSTD_isError(result) != 0)
      fail(Exit::bad_data, "{}: damaged zstd data at or after byte {}: {}", stream.path_,
           stream.disk_offset_ - in.size(), ZSTD_getErrorName(result));
    // Asked again after a frame's end it would announce the next one, which need not come.
    if (from.pos > 0 || to.pos > 0) ended = result == 0;
    return to.pos;
  }
  bool whole() const override { return ended; }

  const TextStream& stream;
  ZSTD_DStream* z;
  bool ended = false;
};

TextStream::TextStream(const std::string& path)
    : path_(path), file_(File::open(path, Exit::bad_data)), raw_(kPieceBytes) {
  if (path.ends_with(".gz")) decoder_ = std::make_unique<GzDecoder>(*this);
  if (path.ends_with(".zst")) decoder_ = std::make_unique<ZstDecoder>(*this);
  if (decoder_) decoded_.resize(kPieceBytes);
}

TextStream::~TextStream() = default;

std::string_view TextStream::read_raw() {
  const uint64_t size = file_.size();
  const size_t piece = std::min<uint64_t>(raw_.size(), size > disk_offset_ ? size - disk_offset_ : 0);
  file_.read_at(disk_offset_, raw_.data(), piece);
  disk_offset_ += piece;
  return {raw_.data(), piece};
}

std::string_view TextStream::decode_piece() {
  if (!decoder_) return read_raw();
  while (true) {
    // Output that did not fit may still be inside the decoder after its input is used up.
    if (const size_t got = decoder_->decode(undecoded_, decoded_); got > 0) return {decoded_.data(), got};
    if (!undecoded_.empty()) continue;  // a member without content
    undecoded_ = read_raw();
    if (!undecoded_.empty()) continue;
    if (!decoder_->whole())
      fail(Exit::bad_data, "{}: cut: its compressed data does not end at byte {}", path_, disk_offset_);
    return {};
  }
}

std::string_view TextStream::next() {
  const std::string_view piece = decode_piece();
  const bool good = piece.empty() ? utf8_.finish() : utf8_.feed(piece);
  if (!good)
    fail(Exit::bad_data, "{}:{}: not UTF-8 at byte {}{}", path_, utf8_.error_line(), utf8_.error_offset(),
         decoder_ ? " of the decompressed text" : "");
  return piece;
}

bool JsonlStream::next_line() {
  line_.clear();
  while (true) {
    if (rest_.empty()) {
      if (!ended_) rest_ = stream_.next();
      if (rest_.empty()) {
        ended_ = true;
        if (line_.empty()) return false;
        ++line_number_;
        return true;
      }
    }
    const size_t end = rest_.find('\n');
    line_.append(rest_.substr(0, end));
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    if (line_.size() > kMaxLineBytes)
      fail(Exit::bad_data, "{}:{}: a line of more than {} bytes", stream_.path(), line_number_ + 1, kMaxLineBytes);
    if (end != std::string_view::npos) {
      ++line_number_;
      return true;
    }
  }
}

bool JsonlStream::next(std::string& text) {
  while (next_line()) {
    if (line_.find_first_not_of(" \t\r") == std::string::npos) continue;
    const JsonOptions options{.max_bytes = kMaxLineBytes, .first_line = line_number_, .code = Exit::bad_data};
    const JsonDocument document = JsonDocument::parse(line_, stream_.path(), options);
    if (document.root().kind() != Json::Kind::object)
      document.root().fail_here("expected an object with a field 'text'");
    const Json* field = document.root().find("text");
    if (field == nullptr) document.root().fail_here("the object has no field 'text'");
    text = field->as_string();
    return true;
  }
  return false;
}

}  // namespace tael
