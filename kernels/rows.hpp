// How the row kernels walk: rows shared out in blocks, and along a row sixteen numbers at a time with the same code for
// the whole vectors and the last part.
#pragma once

#include "kernels/isa.hpp"
#include "kernels/vector.hpp"

namespace tael::TAEL_ISA {

// Work of one task: long enough to hide the price of handing it out, short enough to share out evenly.
inline constexpr int64_t kTaskBytes = 128 << 10;

// body(begin, end, thread) on blocks of rows; bytes_per_row is what a row reads and writes. For bodies whose result
// does not depend on how the rows are cut.
template <class Body>
TAEL_INLINE void for_row_blocks(const Stream& stream, int64_t rows, int64_t bytes_per_row, const Body& body) {
  if (rows <= 0) return;
  int64_t block = kTaskBytes / (bytes_per_row > 0 ? bytes_per_row : 1);
  block = block < 1 ? 1 : block;
  stream.pool().parallel_for((rows + block - 1) / block, [&](int64_t task, int thread) {
    const int64_t begin = task * block;
    body(begin, begin + block < rows ? begin + block : rows, thread);
  });
}

// The part of a row that one step works on: sixteen numbers, or the last n < 16.
struct Whole {};
struct Part {
  int64_t n;
};

TAEL_INLINE F16 load(const float* p, Whole) { return load(p); }
TAEL_INLINE F16 load(const float* p, Part part) { return load(p, part.n); }
TAEL_INLINE void store(float* p, F16 x, Whole) { store(p, x); }
TAEL_INLINE void store(float* p, F16 x, Part part) { store(p, x, part.n); }
// x in the lanes of the part, `other` in the rest.
TAEL_INLINE F16 keep(F16 x, F16, Whole) { return x; }
TAEL_INLINE F16 keep(F16 x, F16 other, Part part) { return select(first_lanes(part.n), x, other); }

// body(j, part) for j = 0, 16, 32, ... below n; body is [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { ... }.
template <class Body>
TAEL_INLINE void along(int64_t n, const Body& body) {
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) body(j, Whole{});
  if (j < n) body(j, Part{n - j});
}

}  // namespace tael::TAEL_ISA
