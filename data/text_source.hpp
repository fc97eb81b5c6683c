// Text from disk as a stream: plain, .gz (any number of members, perhaps zeros behind them) or .zst (any number of
// frames), checked to be UTF-8 as it passes. Memory does not grow with the file, only with the longest line of a JSONL
// file and with the window that a .zst was made with: 8 MiB at most without `zstd --ultra` or `--long`, up to 2 GiB
// with `--long=31`.
//
// Everything wrong with the content is Error(bad_data) that names the file and the place: bytes count from 0 in the
// text (after decompression), or in the compressed file where it is the compression that is damaged; lines from 1.
// Without memory for a window: Error(io).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.hpp"
#include "data/utf8.hpp"

namespace tael {

struct TextFile {
  std::string path;
  size_t input = 0;    // which of the inputs it comes from
  bool jsonl = false;  // a document a line; else one document
};

struct TextFiles {
  std::vector<TextFile> files;  // none of them empty on disk
  int64_t empty_files = 0;
  int64_t skipped_links = 0;   // symbolic links inside directories
  int64_t skipped_others = 0;  // pipes, sockets and devices inside directories
};

// The files of the inputs, in order: a directory stands for all files below it, by bytewise ascending path. A name that
// ends in .jsonl or .ndjson (before .gz or .zst) is JSONL. A missing input, or one that is neither a file nor a
// directory, is Error(bad_data).
TextFiles list_text_files(std::span<const std::string> inputs);

class TextStream {
 public:
  explicit TextStream(const std::string& path);
  ~TextStream();
  TextStream(const TextStream&) = delete;

  // The next piece of text, valid until the next call; empty at the end. A piece may end inside a character.
  std::string_view next();
  const std::string& path() const { return path_; }
  uint64_t bytes() const { return utf8_.bytes(); }         // of text so far
  uint64_t bytes_on_disk() const { return disk_offset_; }  // read so far

 private:
  struct Decoder;
  struct GzDecoder;
  struct ZstDecoder;
  std::string_view read_raw();      // the next bytes of the file; empty at its end
  std::string_view decode_piece();  // the next bytes of text

  std::string path_;
  File file_;
  uint64_t disk_offset_ = 0;
  std::vector<char> raw_, decoded_;
  std::unique_ptr<Decoder> decoder_;  // nullptr: plain
  std::string_view undecoded_;        // rest of raw_
  Utf8Check utf8_;
};

// The documents of a JSONL file: the field `text` of the object on each line. Blank lines stand for nothing.
class JsonlStream {
 public:
  static constexpr size_t kMaxLineBytes = size_t{256} << 20;
  explicit JsonlStream(const std::string& path) : stream_(path) {}

  bool next(std::string& text);  // false: no document is left
  uint64_t bytes_on_disk() const { return stream_.bytes_on_disk(); }

 private:
  bool next_line();  // into line_

  TextStream stream_;
  std::string_view rest_;  // of the piece
  std::string line_;
  int64_t line_number_ = 0;
  bool ended_ = false;
};

}  // namespace tael
