// A model that reads a text a few tokens at a time and says what may come next: the forward pass with a latent cache.
//
// Main head only; MTP modules take no part. All memory is taken when the decoder is made (the cache and the rotary
// tables, from `memory`) or inside extend, from the context's scratch, which is empty again afterwards: nothing is
// allocated per token. The bits of a position's logits depend on the tokens up to it only, and not on how the calls
// cut the text. On Stream::dry with measuring arenas the same calls measure.
#pragma once

#include <vector>

#include "model/block.hpp"
#include "model/network.hpp"

namespace tael {

class Decoder {
 public:
  // positions: the most tokens that the cache holds. `table` and `exchange` must live as long.
  Decoder(Arena& memory, const ParamTable& table, const TokenExchange& exchange, int64_t positions);

  int64_t positions() const { return rotary_.cos_SJ.dim[0]; }
  int64_t length() const { return length_; }  // tokens read so far
  void restart() { length_ = 0; }

  // Reads tokens at positions length(), length() + 1, ...; logits_RV gets those of the last R of them, R may be 0.
  // REQUIRES tokens of the vocabulary, at least one, and room for them.
  void extend(Context& context, const Weights& weights, Vec<const int32_t> token_T, Mat<float> logits_RV);

 private:
  const ParamTable& table_;
  const TokenExchange& exchange_;
  RotaryTable rotary_;
  std::vector<Mat<float>> cache_;  // of each layer
  Vec<int64_t> head_E1_, counts_E_;
  Vec<double> balance_B_;
  int64_t length_ = 0;
};

}  // namespace tael
