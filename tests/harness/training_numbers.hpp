// What a training holds of a model that is as small as one with both kinds of layers can be, filled from a seed.
#pragma once

#include <vector>

#include "checkpoint/training_state.hpp"
#include "model/param_table.hpp"
#include "tests/harness/random.hpp"

namespace tael::testing {

inline ModelShape tiny_shape() {
  ModelShape s;
  s.vocab_size = 31;
  s.hidden_size = 8;
  s.intermediate_size = 12;
  s.moe_intermediate_size = 4;
  s.num_hidden_layers = 2;
  s.num_attention_heads = 2;
  s.kv_lora_rank = 4;
  s.qk_nope_head_dim = 4;
  s.qk_rope_head_dim = 2;
  s.v_head_dim = 4;
  s.n_routed_experts = 4;
  s.n_shared_experts = 1;
  s.num_experts_per_tok = 2;
  s.first_k_dense_replace = 1;
  return s;
}

// One rank's arrays.
struct TrainingNumbers {
  TrainingNumbers(const ParamTable& table, uint64_t seed) { set(table, seed); }
  // In place: boxes go on pointing to the numbers.
  void set(const ParamTable& table, uint64_t seed) {
    Random random(seed);
    const auto fill = [&](std::vector<float>& array, int64_t n) {
      array.resize(static_cast<size_t>(n));
      for (float& x : array) x = static_cast<float>(random.normal());
    };
    for (std::vector<float>* array : {&params, &exp_avg, &exp_avg_sq}) fill(*array, table.size());
    fill(biases, table.bias_size());
  }
  TrainingArrays arrays() {
    const auto view = [](std::vector<float>& v) { return vec(v.data(), static_cast<int64_t>(v.size())); };
    return {view(params), view(exp_avg), view(exp_avg_sq), view(biases)};
  }
  bool operator==(const TrainingNumbers&) const = default;
  std::vector<float> params, exp_avg, exp_avg_sq, biases;
};

}  // namespace tael::testing
