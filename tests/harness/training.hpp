// Whole runs of the trainer inside a test process: N ranks as N threads, on shards of a few tokens, nothing written but
// the shards.
#pragma once

#include <string>
#include <vector>

#include "data/prepare.hpp"
#include "parallel/comm_threads.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "trainer/assemble.hpp"
#include "trainer/config_rules.hpp"
#include "trainer/step.hpp"

namespace tael::testing {

// A run of one step on shards that are yet to be named.
inline constexpr const char* kTinyRun = R"(schema: 1
run: {dir: unused}
model: {vocab_size: 37, hidden_size: 24, intermediate_size: 40, moe_intermediate_size: 20, num_hidden_layers: 2,
  num_attention_heads: 4, q_lora_rank: 12, kv_lora_rank: 10, qk_nope_head_dim: 6, qk_rope_head_dim: 4, v_head_dim: 6,
  n_routed_experts: 8, n_shared_experts: 1, num_experts_per_tok: 3, n_group: 4, topk_group: 2, first_k_dense_replace: 1}
training: {seq_length: 16, micro_batch_size: 2, global_batch_size: 16, train_steps: 1}
)";

struct Trained {
  std::vector<StepReport> steps;
  std::vector<float> params, biases;
};

// A shard without tokenizer from plain tokens, as `tael data import nanogpt` makes it.
inline std::string make_shard(const ScratchDirectory& directory, const std::string& name,
                              const std::vector<int32_t>& tokens, int64_t vocab_size) {
  std::string bytes;
  for (const int32_t token : tokens) {
    bytes += static_cast<char>(token & 0xff);
    bytes += static_cast<char>(token >> 8);
  }
  directory.write(name + ".bin", bytes);
  const std::string shard = directory.at(name + ".h5");
  import_nanogpt({.inputs = {directory.at(name + ".bin")}, .out = shard, .vocab_size = vocab_size});
  return shard;
}

// Runs the configuration to its last step on `ranks` ranks. What rank 0 has at the end.
inline Trained train(const std::string& yaml, int ranks, const std::vector<std::string>& overrides = {}) {
  const LoadedConfig loaded = load_config_text(yaml, "test.yaml", overrides, {});
  check_config(loaded);
  check_built(loaded);
  check_world(loaded, ranks);
  Trained out;
  ThreadWorld world(ranks);
  world.run([&](Comm& comm) {
    Run run(loaded, comm);
    run.allocate();
    run.initialize();
    Progress progress;
    std::vector<StepReport> steps;
    while (progress.step < run.steps) steps.push_back(train_step(run, progress));
    if (comm.rank() != 0) return;
    out.steps = steps;
    out.params.assign(run.params.data, run.params.data + run.params.size());
    out.biases.assign(run.biases.data, run.biases.data + run.biases.size());
  });
  return out;
}

}  // namespace tael::testing
