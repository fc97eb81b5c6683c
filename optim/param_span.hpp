// What the optimizer needs to know of a tensor: where its numbers lie, how they form rows, and whether they decay. The
// spans of a model come in table order; an owner of a part of the state has the spans of its part.
#pragma once

#include <cstdint>

namespace tael {

struct ParamSpan {
  int64_t offset = 0;  // of the first number, in weights, gradients and moments alike
  int64_t rows = 1, cols = 0;
  bool decay = false;  // tensors of two or more dimensions

  int64_t size() const { return rows * cols; }
  int64_t end() const { return offset + size(); }
};

}  // namespace tael
