#include "data/order1.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace tael {
namespace {

constexpr int32_t kTokens = ByteTokenizer::kVocabSize;
constexpr int64_t kPiece = 1 << 16;  // tokens of a shard that are in memory at a time

void require_bytes(const TokenShard& shard) {
  if (shard.info().tokenizer != ByteTokenizer::kName)
    fail(Exit::bad_data, "{}: an order-1 byte model needs tokens of the tokenizer 'bytes', these are of '{}'",
         shard.info().path, shard.info().tokenizer);
}

// body(previous, token) for each pair of a stream.
template <class Body>
void for_pairs(std::span<const int32_t> stream, const Body& body) {
  for (size_t i = 1; i < stream.size(); ++i) body(stream[i - 1], stream[i]);
}

template <class Body>
void for_pairs(const TokenShard& shard, const Body& body) {
  require_bytes(shard);
  std::vector<int32_t> piece(static_cast<size_t>(kPiece + 1));
  for (int64_t first = 0; first + 1 < shard.tokens(); first += kPiece) {  // pieces share a token
    const int64_t n = std::min(kPiece + 1, shard.tokens() - first);
    shard.read(first, vec(piece.data(), n));
    for_pairs(std::span<const int32_t>(piece.data(), static_cast<size_t>(n)), body);
  }
}

template <class Stream>
Order1Score score_of(const Order1Model& model, const Stream& stream) {
  Order1Score score;
  for_pairs(stream, [&](int32_t previous, int32_t token) {
    score.nats -= std::log(model.probability(token, previous));
    score.targets += 1;
    score.text_bytes += ByteTokenizer::text_bytes(token);
  });
  return score;
}

}  // namespace

double Order1Score::bits_per_byte() const {
  if (text_bytes == 0) return std::numeric_limits<double>::quiet_NaN();
  return nats / std::numbers::ln2 / static_cast<double>(text_bytes);
}

Order1Model::Order1Model() : counts_(size_t{kTokens} * kTokens), totals_(size_t{kTokens}) {}

size_t Order1Model::index(int32_t previous, int32_t token) {
  for (const int32_t t : {previous, token})
    if (t < 0 || t >= kTokens) fail(Exit::bad_data, "token {} is none of the tokenizer 'bytes'", t);
  return static_cast<size_t>(previous) * kTokens + static_cast<size_t>(token);
}

void Order1Model::add(int32_t previous, int32_t token) {
  ++counts_[index(previous, token)];
  ++totals_[static_cast<size_t>(previous)];
}

void Order1Model::fit(const TokenShard& shard) {
  for_pairs(shard, [this](int32_t previous, int32_t token) { add(previous, token); });
}

void Order1Model::fit(std::span<const int32_t> stream) {
  for_pairs(stream, [this](int32_t previous, int32_t token) { add(previous, token); });
}

double Order1Model::probability(int32_t token, int32_t previous) const {
  const double n = static_cast<double>(counts_[index(previous, token)]);
  return (n + 0.5) / (static_cast<double>(totals_[static_cast<size_t>(previous)]) + 0.5 * kTokens);
}

Order1Score Order1Model::score(const TokenShard& shard) const { return score_of(*this, shard); }
Order1Score Order1Model::score(std::span<const int32_t> stream) const { return score_of(*this, stream); }

}  // namespace tael
