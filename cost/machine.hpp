// What the machine says of itself: memory, and the arithmetic that it could do.
#pragma once

#include <cstddef>

#include "base/stream.hpp"

namespace tael {

// This process as the system counts it, in bytes: now, and at its largest so far.
size_t resident_bytes();
size_t peak_resident_bytes();
// Memory that the system could still give, in bytes; 0 where it does not say.
size_t available_bytes();

// Multiply-adds that the stream's threads can do, in FLOP/s, by a loop that touches registers only
// (kernels/fma_peak.hpp). Takes some 50 ms.
double multiply_add_peak(const Stream& stream);

}  // namespace tael
