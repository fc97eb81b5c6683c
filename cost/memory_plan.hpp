// What a run takes of this rank's memory, by kind, before a byte is allocated: every figure comes from the code that
// will allocate it, run on measuring arenas and a stream that computes nothing (base/arena.hpp, base/stream.hpp).
#pragma once

#include <cstddef>
#include <vector>

#include "model/network.hpp"
#include "parallel/grad_reduce.hpp"
#include "parallel/lanes.hpp"

namespace tael {

struct MemoryShape {
  std::vector<Sequences> micro_batches;  // every size that training will run
  std::vector<Sequences> evaluations;    // every size that evaluation will run; none: no evaluation
  int64_t segments = 1;
  LaneLayout lanes;
  SumOrder order = SumOrder::canonical;
  int ranks = 1;
};

struct MemoryPlan {
  size_t weights = 0;    // with gate biases
  size_t gradients = 0;  // log2(lanes of this rank) + 1 copies, and the further uses of shared tables once
  size_t optimizer = 0;
  size_t activations = 0;  // saved from forward to backward
  size_t scratch = 0;      // inside a layer
  size_t communication = 0;
  size_t total() const { return weights + gradients + optimizer + activations + scratch + communication; }
};

// Runs `network` dry; nothing of it is kept.
MemoryPlan plan_memory(Network& network, ThreadPool& pool, const MemoryShape& shape);
// The part of it that evaluation alone needs: weights, activations, scratch.
MemoryPlan plan_evaluation_memory(Network& network, ThreadPool& pool, const std::vector<Sequences>& evaluations,
                                  int64_t segments);

}  // namespace tael
