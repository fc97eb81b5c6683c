// The state of a training between memory and a checkpoint: float32 masters, moments and gate biases under their Hugging
// Face names, and the model's config.json as a text beside them.
#pragma once

#include <vector>

#include "base/view.hpp"
#include "checkpoint/checkpoint.hpp"
#include "checkpoint/shard_file.hpp"
#include "model/param_table.hpp"

namespace tael {

struct TrainingArrays {
  Vec<float> params, exp_avg, exp_avg_sq;  // [table.size()]
  Vec<float> biases;                       // [table.bias_size()]
};

// What one of `ranks` ranks that all hold everything writes: tensors are whole, each is written once, and every rank
// writes about as many bytes. In table order.
std::vector<BoxData> training_boxes(const ParamTable& table, const TrainingArrays& arrays, int rank, int ranks);

// Error(bad_data) unless the checkpoint holds what the table needs: weights, and with `moments` the optimizer's state.
void require_training_state(const Checkpoint& checkpoint, const ParamTable& table, bool moments);
// REQUIRES require_training_state. Damage is Error(bad_data); the arrays are then worthless. Without moments the two
// arrays may be empty. Weights of other formats than float32 are widened.
void read_training_state(const Checkpoint& checkpoint, const ParamTable& table, const TrainingArrays& arrays,
                         bool moments);

}  // namespace tael
