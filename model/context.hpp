// What a layer is given besides its weights and its input: where to work, scratch, and how the sums are cut.
#pragma once

#include "base/arena.hpp"
#include "base/stream.hpp"

namespace tael {

// Whole sequences of one length: every batch of a layer is one.
struct Sequences {
  int64_t count = 0, length = 0;
  int64_t tokens() const { return count * length; }
};

struct Context {
  Stream stream;
  Arena& scratch;        // mark and release inside a layer
  int64_t segments = 1;  // reduction_segments: pieces of every sum that tensor parallelism would split
};

}  // namespace tael
