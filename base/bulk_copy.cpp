#include "base/bulk_copy.hpp"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace tael {

#ifdef __SSE2__

namespace {

constexpr size_t kVector = sizeof(__m128i), kLine = 4 * kVector;

// Streamed stores of a whole line fill the buffer in which they are gathered. REQUIRES that `to` is aligned to a line.
void copy_line(std::byte* to, const std::byte* from) {
  const auto* source = reinterpret_cast<const __m128i*>(from);
  auto* target = reinterpret_cast<__m128i*>(to);
  const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
  const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
  _mm_stream_si128(target, a);
  _mm_stream_si128(target + 1, b);
  _mm_stream_si128(target + 2, c);
  _mm_stream_si128(target + 3, d);
}

}  // namespace

void bulk_copy(void* to, const void* from, size_t bytes) {
  auto* out = static_cast<std::byte*>(to);
  const auto* in = static_cast<const std::byte*>(from);
  const size_t head = std::min(bytes, (kLine - reinterpret_cast<uintptr_t>(out) % kLine) % kLine);
  if (head > 0) std::memcpy(out, in, head);
  size_t at = head;
  // A core fetches ahead within a page: several pages at a time keep more lines on their way.
  constexpr size_t kPage = 4096, kPages = 4;
  for (; bytes - at >= kPages * kPage; at += kPages * kPage)
    for (size_t line = at; line < at + kPage; line += kLine)
      for (size_t page = 0; page < kPages; ++page) copy_line(out + line + page * kPage, in + line + page * kPage);
  for (; bytes - at >= kLine; at += kLine) copy_line(out + at, in + at);
  if (bytes > at) std::memcpy(out + at, in + at, bytes - at);
  _mm_sfence();  // streamed stores are seen by others in no order otherwise
}

#else

void bulk_copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

#endif

}  // namespace tael
