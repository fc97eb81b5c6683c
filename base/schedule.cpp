#include "base/schedule.hpp"

#include <algorithm>
#include <limits>

#include "base/check.hpp"

namespace tael {

double Schedule::at(int64_t tokens) const {
  CHECK(!points.empty() && points.front().from_tokens == 0, "a schedule starts at 0 tokens");
  double value = points.front().value;
  for (const Point& point : points) {
    if (point.from_tokens > tokens) break;
    value = point.value;
  }
  return value;
}

double Schedule::largest() const {
  CHECK(!points.empty());
  return std::max_element(points.begin(), points.end(),
                          [](const Point& a, const Point& b) { return a.value < b.value; })
      ->value;
}

int64_t BatchSize::at(int64_t tokens) const {
  if (!ramp) return static_cast<int64_t>(steps.at(tokens));
  if (tokens >= ramp->over_tokens) return ramp->end;
  // Whole increments done: floor(tokens * parts / over), in 128 bits because tokens reach 1e13.
  const int64_t parts = (ramp->end - ramp->start) / ramp->increment;
  const auto done = static_cast<__int128>(tokens) * parts / ramp->over_tokens;
  return ramp->start + static_cast<int64_t>(done) * ramp->increment;
}

int64_t BatchSize::next_change(int64_t tokens) const {
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  if (!ramp) {
    for (const Schedule::Point& point : steps.points) {
      if (point.from_tokens > tokens) return point.from_tokens;
    }
    return kNever;
  }
  const int64_t parts = (ramp->end - ramp->start) / ramp->increment;
  if (parts == 0 || tokens >= ramp->over_tokens) return kNever;
  const __int128 done = static_cast<__int128>(tokens) * parts / ramp->over_tokens;
  return static_cast<int64_t>(((done + 1) * ramp->over_tokens + parts - 1) / parts);
}

int64_t steps_to_consume(const BatchSize& batch, int64_t seq_length, int64_t train_tokens, int64_t tokens) {
  int64_t steps = 0;
  while (tokens < train_tokens) {
    // As many steps of this size as begin before the size changes or the tokens are consumed.
    const int64_t step_tokens = batch.at(tokens) * seq_length;
    const int64_t until = std::min(batch.next_change(tokens), train_tokens);
    const int64_t count = (until - tokens - 1) / step_tokens + 1;
    steps += count;
    if (__builtin_add_overflow(tokens, count * step_tokens, &tokens)) break;
  }
  return steps;
}

int64_t tokens_after_steps(const BatchSize& batch, int64_t seq_length, int64_t steps, int64_t tokens) {
  while (steps > 0) {
    const int64_t step_tokens = batch.at(tokens) * seq_length;
    const int64_t count = std::min(steps, (batch.next_change(tokens) - tokens - 1) / step_tokens + 1);
    if (__builtin_add_overflow(tokens, count * step_tokens, &tokens)) break;
    steps -= count;
  }
  return tokens;
}

std::vector<int64_t> BatchSize::all() const {
  std::vector<int64_t> sizes;
  if (ramp) {
    for (int64_t size = ramp->start; size < ramp->end; size += ramp->increment) sizes.push_back(size);
    sizes.push_back(ramp->end);
  } else {
    for (const Schedule::Point& point : steps.points) sizes.push_back(static_cast<int64_t>(point.value));
  }
  return sizes;
}

}  // namespace tael
