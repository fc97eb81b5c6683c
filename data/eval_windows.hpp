// How evaluation cuts a stream of N tokens: windows start at i * seq_length, every token but the first is a target
// exactly once, and the last window may be shorter.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/check.hpp"

namespace tael {

struct EvalWindow {
  int64_t first = 0;    // token; inputs are [first, first + targets), targets lie one further
  int64_t targets = 0;  // 1 to seq_length; the window reads targets + 1 tokens
};

inline int64_t eval_window_count(int64_t tokens, int64_t seq_length) {
  return tokens < 2 ? 0 : (tokens - 1 + seq_length - 1) / seq_length;
}

inline EvalWindow eval_window(int64_t tokens, int64_t seq_length, int64_t i) {
  DCHECK(i >= 0 && i < eval_window_count(tokens, seq_length));
  const int64_t first = i * seq_length;
  return {first, std::min(seq_length, tokens - 1 - first)};
}

}  // namespace tael
