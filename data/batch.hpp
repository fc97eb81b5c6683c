// What a step reads: the sequences of one rank.
#pragma once

#include <cstdint>

#include "base/view.hpp"

namespace tael {

// Row b is sample first_sample + b: seq_length inputs, then one more token for the targets and one more per MTP depth.
// Position t of the inputs predicts column t + 1, MTP depth k column t + 1 + k.
struct Batch {
  Mat<const int32_t> tokens;  // [sequences, seq_length + 1 + mtp_depth]
  int64_t first_sample = 0;

  int64_t sequences() const { return tokens.dim[0]; }
};

}  // namespace tael
