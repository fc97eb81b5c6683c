// A token shard: one stream of tokens in one HDF5 file, with where its documents begin, which tokenizer made it, from
// what, and a seal (data/shard_seal.hpp) that covers every byte.
//
// Inside, for any HDF5 tool: dataset `tokens` (uint16 for vocabularies up to 65,536, else uint32), `document_starts`
// (uint64), `source_names` (text), `source_documents`, `source_tokens`, `source_text_bytes` (uint64), and attributes of
// the root: format, format_version, tokenizer (empty: numbers that somebody else made), vocab_size, end_of_document
// (-1: not known), largest_token, text_bytes, target_text_bytes, split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/h5_file.hpp"
#include "base/hash.hpp"
#include "base/view.hpp"
#include "data/shard_seal.hpp"

namespace tael {

struct ShardFormat {
  std::string tokenizer;         // "bytes", or empty: unknown
  int64_t vocab_size = 0;        // tokens lie in [0, vocab_size); 1 to 2^31 - 1
  int32_t end_of_document = -1;  // the token that ends every document and belongs to it; -1: none is known
  std::string split = "all";     // "all", "train" or "valid"
};

struct ShardSource {
  std::string name;  // as it was given: a file or a directory
  int64_t documents = 0, tokens = 0, text_bytes = 0;
};

struct ShardInfo : ShardFormat {
  std::string path;
  int64_t tokens = 0, documents = 0;
  int64_t largest_token = 0;
  int64_t text_bytes = 0;         // of all tokens
  int64_t target_text_bytes = 0;  // of all tokens but the first, which nothing predicts
  int64_t file_bytes = 0;
  Hash128 digest;  // of every byte of the file: the identity of the data
  std::vector<ShardSource> sources;

  bool has_text() const { return !tokenizer.empty(); }
};

// How much of a shard is checked against its seal. In each case the seal itself, the file's length and everything that
// HDF5 will parse are checked before HDF5 sees the file.
enum class ShardVerify : uint8_t {
  all,      // all of it, when it is opened
  blocks,   // blocks of tokens before they are read for the first time
  trusted,  // no tokens: another rank of this host has just opened the same digest with `all`
};

// Windows may be read by several threads at once.
class TokenShard {
 public:
  // Throws Error(bad_data) with file and place for whatever is wrong with it, a missing file included.
  explicit TokenShard(const std::string& path, ShardVerify verify = ShardVerify::all);
  ~TokenShard();
  TokenShard(TokenShard&&) noexcept;

  const ShardInfo& info() const { return info_; }
  int64_t tokens() const { return info_.tokens; }

  // Copies out.size() tokens that start at token `first`; they lie inside the shard (checked). Allocates nothing.
  // Throws Error(bad_data) for a token outside the vocabulary, or damage found by `blocks`.
  void read(int64_t first, Vec<int32_t> out) const;
  // First token of each document; ascending, and the first is 0.
  std::vector<int64_t> document_starts() const;

 private:
  struct LateCheck;
  void check_late(uint64_t offset, uint64_t bytes) const;
  void read_description(const H5Reader& reader);

  File file_;
  ShardSeal seal_;
  ShardInfo info_;
  bool wide_ = false;  // uint32
  uint64_t tokens_offset_ = 0;
  H5Region starts_;
  std::unique_ptr<LateCheck> late_check_;  // only under `blocks`
};

// Error(bad_data) unless a model with this vocabulary can read the shard.
void require_vocab(const ShardInfo& shard, int64_t vocab_size);

// Writes a file beside PATH under a name of its own, and PATH only when all is well: until publish, PATH is what it
// was. The destructor removes the rest; what a killed writer leaves ends in .tmp. Memory: 1 MiB and 8 bytes a document.
// What the system refuses (no space, a limit) is Error(io).
class TokenShardWriter {
 public:
  TokenShardWriter(std::string path, ShardFormat format);
  ~TokenShardWriter();
  TokenShardWriter(const TokenShardWriter&) = delete;

  void begin_document() { document_starts_.push_back(static_cast<uint64_t>(tokens_)); }
  // Tokens of the document that was begun last; each lies in the vocabulary (checked).
  void append(std::span<const int32_t> tokens);
  int64_t tokens() const { return tokens_; }

  // Ends the file, seals it and forces it to the disk. At least one token was appended. `first_token_text_bytes`: what
  // the first token of the shard stands for.
  ShardInfo seal(std::span<const ShardSource> sources, int64_t first_token_text_bytes);
  void publish();  // after seal

 private:
  void flush();
  H5Region write_layout(std::span<const ShardSource> sources, const ShardInfo& info);

  std::string path_, temporary_;
  ShardFormat format_;
  bool wide_;
  File file_;
  uint64_t tokens_offset_ = 0;
  int64_t tokens_ = 0, flushed_ = 0;
  int64_t largest_ = 0;
  std::vector<std::byte> buffer_;
  size_t buffered_ = 0;  // bytes
  std::vector<uint64_t> document_starts_;
  bool sealed_ = false;
};

}  // namespace tael
