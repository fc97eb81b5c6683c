// The shards of a run together: opened, and agreeing about what a token is.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/view.hpp"
#include "data/token_shard.hpp"

namespace tael {

// Opens all, in order. Two tokenizers among them are Error(bad_data) naming both files; numbers without a tokenizer go
// with anything.
std::vector<TokenShard> open_shards(std::span<const std::string> paths, ShardVerify verify);

// The tokenizer of the shards: the one name that those with a tokenizer have, empty if none has.
std::string tokenizer_of(std::span<const TokenShard> shards);

// The token that ends every document in all shards, for document masks. Error(bad_data) names a shard that does not
// know one.
int32_t document_separator(std::span<const TokenShard> shards);

// document_start_BT(b, t) becomes the position in row b where the document of position t begins (0 if it began before
// the window). A separator belongs to the document that it ends. `tokens` has at least the columns of
// document_start_BT; further ones are not looked at.
void fill_document_starts(Mat<int32_t> document_start_BT, Mat<const int32_t> tokens, int32_t separator);

}  // namespace tael
