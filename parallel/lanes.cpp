#include "parallel/lanes.hpp"

#include <algorithm>
#include <bit>

#include "parallel/flat_sum.hpp"

namespace tael {

namespace {

bool is_power_of_two(int n) { return n > 0 && std::has_single_bit(static_cast<unsigned>(n)); }

}  // namespace

LaneRange lanes_of(int rank, int ranks, int lanes) {
  CHECK(is_power_of_two(lanes) && ranks > 0 && lanes % ranks == 0, "{} lanes of {} ranks", lanes, ranks);
  CHECK(rank >= 0 && rank < ranks, "rank {} of {}", rank, ranks);
  const int each = lanes / ranks;
  return {rank * each, (rank + 1) * each};
}

SequenceRange sequences_of(int lane, int lanes, int64_t global_batch) {
  CHECK(lanes > 0 && lane >= 0 && lane < lanes && global_batch % lanes == 0, "lane {} of {}, {} sequences", lane, lanes,
        global_batch);
  const int64_t each = global_batch / lanes;
  return {lane * each, (lane + 1) * each};
}

int LaneAccumulator::buffers(int lanes) {
  CHECK(is_power_of_two(lanes), "{} lanes", lanes);
  return std::bit_width(static_cast<unsigned>(lanes));
}

LaneAccumulator::LaneAccumulator(Arena& arena, LaneLayout layout) : layout_(std::move(layout)) {
  CHECK(layout_.elements >= 0 && layout_.gradient_size >= layout_.elements, "{} elements of {}", layout_.elements,
        layout_.gradient_size);
  for (const ExtraUse& use : layout_.extra_uses)
    CHECK(use.size >= 0 && use.destination >= 0 && use.destination <= layout_.elements - use.size &&
              use.offset >= layout_.elements && use.offset <= layout_.gradient_size - use.size,
          "{} elements at {} added to {}, of {}", use.size, use.offset, use.destination, layout_.elements);
  constexpr int64_t kAlignElements = Arena::kAlign / sizeof(float);
  int64_t stride = 0, total = 0;
  // Sizes come from a configuration: they are multiplied with overflow checks, like everything the arena gives.
  if (__builtin_add_overflow(layout_.elements, kAlignElements - 1, &stride) ||
      __builtin_mul_overflow(stride /= kAlignElements, kAlignElements, &stride) ||
      __builtin_mul_overflow(stride, int64_t{buffers(layout_.lanes)} - 1, &total) ||
      __builtin_add_overflow(total, std::max(stride, layout_.gradient_size), &total))
    fail(Exit::bad_config, "gradients of {} lanes x {} numbers are larger than any memory", layout_.lanes,
         layout_.elements);
  stride_ = stride;
  memory_ = arena.vec<float>(total);
}

Vec<float> LaneAccumulator::begin_lane(const Stream& stream) {
  CHECK(!open_ && lane_ < layout_.lanes, "lane {} of {} begins{}", lane_, layout_.lanes,
        open_ ? " inside another" : "");
  open_ = true;
  fill_zero(stream, lane(depth_));
  return lane(depth_);
}

void LaneAccumulator::end_lane(const Stream& stream) {
  CHECK(open_, "no lane is open");
  open_ = false;
  float* grads = lane(depth_).data;
  for (const ExtraUse& use : layout_.extra_uses)
    add_upper(stream, vec(grads + use.destination, use.size), vec(grads + use.offset, use.size));
  // Lane `lane_` is counted in binary: each trailing one is a subtree on the stack as large as the sum so far.
  for (int carry = lane_; (carry & 1) != 0; carry >>= 1) {
    add_upper(stream, sum(depth_ - 1), sum(depth_));
    --depth_;
  }
  ++depth_;
  ++lane_;
}

Vec<float> LaneAccumulator::finish() {
  CHECK(!open_ && lane_ == layout_.lanes && depth_ == 1, "finished after {} of {} lanes", lane_, layout_.lanes);
  lane_ = 0;
  depth_ = 0;
  return sum(0);
}

double tree_sum(const double* values, int64_t count, int64_t stride) {
  if (count <= 0) return 0.0;
  if (count == 1) return values[0];
  const auto left = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(count - 1)));
  return tree_sum(values, left, stride) + tree_sum(values + left * stride, count - left, stride);
}

double tree_sum(std::span<const double> values) { return tree_sum(values.data(), static_cast<int64_t>(values.size())); }

}  // namespace tael
