// The canonical order of sums over a global batch, the same for every number of ranks.
//
// The global batch has L lanes (a power of two) of equally many consecutive sequences. Inside a lane gradients
// accumulate in token order, one chain per element; lanes combine by the fixed tree of neighbours
//
//   ((l0 + l1) + (l2 + l3)) + ((l4 + l5) + (l6 + l7)) ...
//
// R ranks (R divides L) own L / R neighbouring lanes each, so every rank owns whole subtrees: LaneAccumulator sums a
// rank's own, parallel/grad_reduce.hpp continues the same tree across ranks. A rank holds lane sums like the digits of
// a binary counter and merges on carry: at most log2(L / R) + 1 gradient buffers live, and that is the price of
// canonical.
//
// Source: fixed trees over logical micro-batches; architecture.md, "Order of sums".
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/arena.hpp"
#include "base/stream.hpp"
#include "base/view.hpp"
#include "model/param_table.hpp"

namespace tael {

struct LaneRange {
  int begin = 0, end = 0;
  int count() const { return end - begin; }
};
// Lanes of one data rank. REQUIRES lanes a power of two, ranks divides lanes.
LaneRange lanes_of(int rank, int ranks, int lanes);

struct SequenceRange {
  int64_t begin = 0, end = 0;
  int64_t count() const { return end - begin; }
};
// Sequences of one lane inside the global batch. REQUIRES lanes divides global_batch.
SequenceRange sequences_of(int lane, int lanes, int64_t global_batch);

struct LaneLayout {
  int64_t elements = 0;       // trained numbers: what is summed over lanes
  int64_t gradient_size = 0;  // elements, then the accumulators of further uses (ParamTable::gradient_size())
  int lanes = 1;              // of this rank, a power of two
  // Added to their destinations in this order when a lane ends. Each use accumulates by itself, or the order of its sum
  // would depend on how the uses interleave with micro-batches.
  std::vector<ExtraUse> extra_uses = {};
};

// Sums the gradients of this rank's lanes. Takes log2(lanes) + 1 buffers of `elements` floats from the arena and the
// extra accumulators once; a measuring arena counts them. Nothing is allocated after construction. For each lane in
// order:
//
//   Vec<float> grads = accumulator.begin_lane(stream);   // gradient_size zeros
//   ... accumulate into grads over the lane's micro-batches ...
//   accumulator.end_lane(stream);
//
// then finish(): the sum of all lanes, valid until the next begin_lane.
class LaneAccumulator {
 public:
  LaneAccumulator(Arena& arena, LaneLayout layout);

  static int buffers(int lanes);  // log2(lanes) + 1

  Vec<float> begin_lane(const Stream& stream);
  void end_lane(const Stream& stream);
  Vec<float> finish();
  bool complete() const { return !open_ && lane_ == layout_.lanes; }

 private:
  // Buffer d of the stack. Behind the numbers of the lane at the top lie its extra accumulators: they reach into the
  // next buffer, which is free as long as the lane is at the top, and behind the last buffer there is room for them.
  Vec<float> sum(int depth) const { return vec(memory_.data + depth * stride_, layout_.elements); }
  Vec<float> lane(int depth) const { return vec(memory_.data + depth * stride_, layout_.gradient_size); }

  LaneLayout layout_;
  int64_t stride_ = 0;  // elements, rounded up to keep buffers aligned
  Vec<float> memory_;
  int lane_ = 0;   // lanes ended since the last finish
  int depth_ = 0;  // sums on the stack, of whole subtrees, the larger ones first
  bool open_ = false;
};

// The tree of lanes over numbers: for a count that is no power of two, the last one without a neighbour moves up.
// The element i of the sum is values[i * stride].
double tree_sum(const double* values, int64_t count, int64_t stride = 1);
double tree_sum(std::span<const double> values);

}  // namespace tael
