#include "data/shard_set.hpp"

#include "base/check.hpp"

namespace tael {

std::vector<TokenShard> open_shards(std::span<const std::string> paths, ShardVerify verify) {
  std::vector<TokenShard> shards;
  shards.reserve(paths.size());
  const ShardInfo* first = nullptr;
  for (const std::string& path : paths) {
    const ShardInfo& info = shards.emplace_back(path, verify).info();
    if (!info.has_text()) continue;
    if (first == nullptr) first = &info;
    if (first->tokenizer != info.tokenizer)
      fail(Exit::bad_data, "{}: its tokenizer is '{}', that of {} is '{}'", path, info.tokenizer, first->path,
           first->tokenizer);
  }
  return shards;
}

std::string tokenizer_of(std::span<const TokenShard> shards) {
  for (const TokenShard& shard : shards)
    if (shard.info().has_text()) return shard.info().tokenizer;
  return {};
}

int32_t document_separator(std::span<const TokenShard> shards) {
  CHECK(!shards.empty());
  const ShardInfo& first = shards[0].info();
  for (const TokenShard& shard : shards) {
    const ShardInfo& info = shard.info();
    if (info.end_of_document < 0)
      fail(Exit::bad_data, "{}: it does not say which token ends a document, so document_mask cannot be used",
           info.path);
    if (info.end_of_document != first.end_of_document)
      fail(Exit::bad_data, "{}: token {} ends its documents, in {} it is {}", info.path, info.end_of_document,
           first.path, first.end_of_document);
  }
  return first.end_of_document;
}

void fill_document_starts(Mat<int32_t> document_start_BT, Mat<const int32_t> tokens, int32_t separator) {
  CHECK(tokens.dim[0] == document_start_BT.dim[0] && tokens.dim[1] >= document_start_BT.dim[1]);
  for (int64_t b = 0; b < document_start_BT.dim[0]; ++b) {
    int32_t start = 0;
    for (int64_t t = 0; t < document_start_BT.dim[1]; ++t) {
      document_start_BT(b, t) = start;
      if (tokens(b, t) == separator) start = static_cast<int32_t>(t + 1);
    }
  }
}

}  // namespace tael
