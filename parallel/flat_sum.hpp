// Sums over flat buffers, on the threads of a stream and at the speed of memory. Every element is independent: the
// result does not depend on the number of threads or the instruction set.
#pragma once

#include "base/stream.hpp"
#include "base/view.hpp"

namespace tael {

void fill_zero(const Stream& stream, Vec<float> values);

// lower = lower + upper. REQUIRES equal sizes; the two do not overlap.
void add_upper(const Stream& stream, Vec<float> lower, Vec<const float> upper);
// upper = lower + upper: the same sum where the result belongs in the other buffer.
void add_lower(const Stream& stream, Vec<float> upper, Vec<const float> lower);

}  // namespace tael
