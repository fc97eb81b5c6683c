#include "cost/memory_plan.hpp"

#include <algorithm>

#include "optim/adamw.hpp"
#include "optim/clip.hpp"
#include "parallel/ownership.hpp"

namespace tael {

namespace {

// Weights as an arena lays them out: parameters, then gate biases.
Weights measured_weights(Arena& arena, const ParamTable& table) {
  const Vec<float> params = arena.vec<float>(table.size());
  const Vec<float> biases = arena.vec<float>(table.bias_size());
  return {params.data, biases.data};
}

void measure_evaluation(Network& network, ThreadPool& pool, const std::vector<Sequences>& evaluations, int64_t segments,
                        const Weights& weights, MemoryPlan& plan) {
  for (const Sequences& sequences : evaluations) {
    Arena saved = Arena::measuring(), scratch = Arena::measuring(), other = Arena::measuring();
    Context context{Stream::dry(pool), scratch, segments};
    const MicroBatch batch{sequences, other.mat<int32_t>(sequences.count, sequences.length + 1), {}};
    network.evaluate(context, saved, weights, batch, other.vec<double>(sequences.count));
    plan.activations = std::max(plan.activations, saved.peak());
    plan.scratch = std::max(plan.scratch, scratch.peak());
  }
}

}  // namespace

MemoryPlan plan_memory(Network& network, ThreadPool& pool, const MemoryShape& shape) {
  const ParamTable& table = network.table();
  MemoryPlan plan;
  Arena weights_arena = Arena::measuring(), grads_arena = Arena::measuring(), optimizer = Arena::measuring();
  const Weights weights = measured_weights(weights_arena, table);
  plan.weights = weights_arena.used();
  const LaneAccumulator lanes(grads_arena, shape.lanes);
  plan.gradients = grads_arena.used();
  plan_adamw(optimizer, table.size());
  plan_global_norm(optimizer, owned_spans(table));
  plan.optimizer = optimizer.used();
  Arena wire = Arena::measuring();
  plan_grad_reduce(wire, shape.order, table.size(), shape.ranks);
  plan.communication = wire.used();
  for (const Sequences& sequences : shape.micro_batches) {
    Arena saved = Arena::measuring(), scratch = Arena::measuring(), other = Arena::measuring();
    Context context{Stream::dry(pool), scratch, shape.segments};
    const int64_t depth = table.shape.num_nextn_predict_layers;
    const MicroBatch batch{sequences, other.mat<int32_t>(sequences.count, sequences.length + 1 + depth), {}};
    const MicroBatchLosses losses{other.vec<double>(sequences.count), other.mat<double>(depth, sequences.count),
                                  other.vec<double>(sequences.count)};
    network.train(context, saved, weights, batch, {.main = 1, .mtp = 1, .balance = 1},
                  other.vec<float>(table.gradient_size()).data, losses,
                  other.mat<int64_t>(table.moe_layers, std::max<int64_t>(table.shape.n_routed_experts, 1)));
    plan.activations = std::max(plan.activations, saved.peak());
    plan.scratch = std::max(plan.scratch, scratch.peak());
  }
  measure_evaluation(network, pool, shape.evaluations, shape.segments, weights, plan);
  return plan;
}

MemoryPlan plan_evaluation_memory(Network& network, ThreadPool& pool, const std::vector<Sequences>& evaluations,
                                  int64_t segments) {
  MemoryPlan plan;
  Arena weights_arena = Arena::measuring();
  const Weights weights = measured_weights(weights_arena, network.table());
  plan.weights = weights_arena.used();
  measure_evaluation(network, pool, evaluations, segments, weights, plan);
  return plan;
}

}  // namespace tael
