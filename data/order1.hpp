// The yardstick of a byte model: an order-1 model, which knows only the token before. A run on byte shards says how far
// below it came.
//
// p(b | a) = (count of b after a + 1/2) / (count of a + V / 2), the estimator of Krichevsky and Trofimov (1981), over
// the V = 259 tokens of the tokenizer `bytes`. Fitted on one stream of tokens, scored on another; ends of documents are
// tokens like any other, so its bits per byte is the same measure as a model's: nats of all targets / ln 2 / bytes of
// text that the targets stand for. The first token of a stream is no target. Owns 259 x 260 counts (0.5 MB).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/token_shard.hpp"
#include "data/tokenizer.hpp"

namespace tael {

struct Order1Score {
  double nats = 0;         // of all targets
  int64_t targets = 0;     // tokens but the stream's first
  int64_t text_bytes = 0;  // that the targets stand for

  double bits_per_byte() const;  // NaN where the targets stand for no text
};

class Order1Model {
 public:
  Order1Model();

  // Adds the pairs of a stream; of several streams, one call each. The shards' tokenizer is `bytes`, else
  // Error(bad_data). A token outside the tokenizer is Error(bad_data) as well.
  void fit(const TokenShard& shard);
  void fit(std::span<const int32_t> stream);

  Order1Score score(const TokenShard& shard) const;
  Order1Score score(std::span<const int32_t> stream) const;

  double probability(int32_t token, int32_t previous) const;

 private:
  void add(int32_t previous, int32_t token);
  static size_t index(int32_t previous, int32_t token);

  std::vector<int64_t> counts_;  // of the token after the previous one, row by row
  std::vector<int64_t> totals_;  // of a row
};

}  // namespace tael
