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
