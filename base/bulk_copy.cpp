#include "base/bulk_copy.hpp"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace tael {

#ifdef __SSE2__

void bulk_copy(void* to, const void* from, size_t bytes) {
  constexpr size_t kVector = sizeof(__m128i), kLine = 4 * kVector;
  auto* out = static_cast<std::byte*>(to);
  const auto* in = static_cast<const std::byte*>(from);
  // Streamed stores need an aligned place; a line at a time fills the buffers in which they are gathered.
  const size_t head = std::min(bytes, (kLine - reinterpret_cast<uintptr_t>(out) % kLine) % kLine);
  if (head > 0) std::memcpy(out, in, head);
  size_t at = head;
  for (; bytes - at >= kLine; at += kLine) {
    const auto* source = reinterpret_cast<const __m128i*>(in + at);
    auto* target = reinterpret_cast<__m128i*>(out + at);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  if (bytes > at) std::memcpy(out + at, in + at, bytes - at);
  _mm_sfence();  // streamed stores are seen by others in no order otherwise
}

#else

void bulk_copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

#endif

}  // namespace tael
