// Token shards made for a test, and files written as they come.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "data/token_shard.hpp"
#include "data/tokenizer.hpp"

namespace tael {

inline void write_file(const std::string& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  EXPECT_TRUE(file.good()) << path;
}

// A shard of numbers, one document.
inline ShardInfo write_number_shard(const std::string& path, const std::vector<int32_t>& tokens, int64_t vocab_size,
                                    int32_t end_of_document = -1) {
  ShardFormat format;
  format.vocab_size = vocab_size;
  format.end_of_document = end_of_document;
  TokenShardWriter writer(path, format);
  writer.begin_document();
  writer.append(tokens);
  const ShardSource source{"numbers", 1, static_cast<int64_t>(tokens.size()), 0};
  const ShardInfo info = writer.seal({&source, 1}, 0);
  writer.publish();
  return info;
}

// Tokens first, first + 1, ... so that a window says where it came from.
inline std::vector<int32_t> counted(int32_t first, int64_t n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) tokens[static_cast<size_t>(i)] = first + static_cast<int32_t>(i);
  return tokens;
}

inline std::vector<int32_t> read_tokens(const TokenShard& shard, int64_t first, int64_t n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  shard.read(first, vec(tokens.data(), n));
  return tokens;
}
inline std::vector<int32_t> read_all(const TokenShard& shard) { return read_tokens(shard, 0, shard.tokens()); }

}  // namespace tael
