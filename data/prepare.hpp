// `tael data prepare`: text, directories and JSONL become token shards; `tael data import nanogpt`: bare tokens do.
//
// Text streams through: memory does not grow with a file, except by the longest JSONL line, 8 bytes a document and the
// window of a .zst (data/text_source.hpp).
// Nothing is left behind after an error: a shard appears under its name when all shards of the call are whole and on
// the disk.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/token_shard.hpp"

namespace tael {

struct DataPrepareOptions {
  std::vector<std::string> inputs{};
  std::string out{};
  std::string valid{};        // the held-out shard; empty: none
  double valid_fraction = 0;  // between 0 and 1, with `valid` only
  bool dry_run = false;       // read and check everything, write nothing
};

struct DataProgress {
  int64_t files = 0, files_total = 0, documents = 0, tokens = 0;
  int64_t bytes_read = 0;  // on disk; a file that is read twice counts twice
};
using ProgressCall = std::function<void(const DataProgress&)>;  // about every 16 MiB; empty: nobody listens

struct DataPrepareResult {
  ShardInfo train;  // `path` is `out`; digest and file_bytes are zero after a dry run
  std::optional<ShardInfo> valid;
  int64_t files = 0, empty_files = 0;  // found, and how many of them hold nothing
  int64_t empty_documents = 0;         // of JSONL
  int64_t skipped_links = 0, skipped_others = 0;
  bool split_inside_document = false;  // the input was one document, and its end is held out
  double held_out() const;             // part of the text's bytes that is in `valid`
};

// Each document goes to `valid` or `out` by the hash of its content; where the whole input is one document, its last
// valid_fraction of bytes (the nearest whole number of them, moved forward to a character's start) is held out. Errors:
// usage (options that make no sense), bad_data (input), io.
DataPrepareResult prepare_data(const DataPrepareOptions& options, const ProgressCall& progress = {});

struct DataImportOptions {
  std::vector<std::string> inputs{};  // each file becomes one document
  std::string out{};
  int64_t vocab_size = 0;
  bool dry_run = false;
};
// Bare little-endian uint16 tokens, as nanoGPT writes them. Each must be below vocab_size.
ShardInfo import_nanogpt(const DataImportOptions& options, const ProgressCall& progress = {});

}  // namespace tael
