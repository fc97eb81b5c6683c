// How two models on disk differ: tensor by tensor in pieces, and what they say of the training.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/hf_import.hpp"
#include "checkpoint/model_files.hpp"

namespace tael {

struct TensorDifference {
  std::string tensor;  // "tensor 'x'", "exp_avg of tensor 'x'"
  std::string what;    // only in one, or another shape or format; empty: numbers differ
  int64_t numbers = 0, differing = 0;
  double largest = 0;   // |a - b|; infinite where only one of them is a number, or an infinity
  double relative = 0;  // |a - b| / max(|a|, |b|), likewise
};

struct CheckpointComparison {
  int64_t tensors = 0;                        // that both have and that are equal bit for bit
  std::vector<TensorDifference> differences;  // in natural order of their names
  std::vector<std::string> state;             // what else differs of the training: "step: 100 | 200"
  // What two attempts at the same training may differ in: texts beside the model, the attempt, its ledger, the program.
  std::vector<std::string> beside;

  bool equal() const { return differences.empty() && state.empty(); }
};

// Weights, moments, texts and state.
CheckpointComparison compare(const Checkpoint& a, const Checkpoint& b);
// Weights alone, of whatever keeps them. `copies`: tensors that one of the two may hold although they only repeat
// another one of it; where they do, they make no difference.
CheckpointComparison compare_weights(const ModelFiles& a, const ModelFiles& b, const std::vector<HfCopy>& copies = {});

}  // namespace tael
