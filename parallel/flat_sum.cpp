#include "parallel/flat_sum.hpp"

#include <algorithm>
#include <cstring>

namespace tael {

namespace {

constexpr int64_t kTaskElements = 64 * 1024;  // 256 KiB: large against the price of a task, small against a cache

template <class Body>
void for_pieces(const Stream& stream, int64_t n, const Body& body) {
  stream.enqueue([&] {
    stream.pool().parallel_for((n + kTaskElements - 1) / kTaskElements, [&](int64_t task, int) {
      const int64_t begin = task * kTaskElements;
      body(begin, std::min(n, begin + kTaskElements));
    });
  });
}

}  // namespace

void fill_zero(const Stream& stream, Vec<float> values) {
  for_pieces(stream, values.size(), [values](int64_t begin, int64_t end) {
    std::memset(values.data + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
  });
}

void add_upper(const Stream& stream, Vec<float> lower, Vec<const float> upper) {
  CHECK(lower.size() == upper.size(), "{} elements and {}", lower.size(), upper.size());
  for_pieces(stream, lower.size(), [lower, upper](int64_t begin, int64_t end) {
    float* __restrict a = lower.data;
    const float* __restrict b = upper.data;
    for (int64_t i = begin; i < end; ++i) a[i] = a[i] + b[i];
  });
}

void add_lower(const Stream& stream, Vec<float> upper, Vec<const float> lower) {
  CHECK(lower.size() == upper.size(), "{} elements and {}", lower.size(), upper.size());
  for_pieces(stream, upper.size(), [lower, upper](int64_t begin, int64_t end) {
    const float* __restrict a = lower.data;
    float* __restrict b = upper.data;
    for (int64_t i = begin; i < end; ++i) b[i] = a[i] + b[i];
  });
}

}  // namespace tael
