#include "base/schedule.hpp"

#include <algorithm>

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
