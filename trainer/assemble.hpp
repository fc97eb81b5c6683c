// From a configuration to live objects: everything a rank needs for a run, made in an order in which whatever is wrong
// is said before anything is spent or written.
//
// Collective: all ranks call it, and all leave together when one of them cannot go on (parallel/agree.hpp).
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "checkpoint/model_source.hpp"
#include "checkpoint/saver.hpp"
#include "checkpoint/training_state.hpp"
#include "cost/cost_clock.hpp"
#include "cost/memory_plan.hpp"
#include "data/loader.hpp"
#include "data/sampler.hpp"
#include "data/shard_set.hpp"
#include "model/network.hpp"
#include "optim/adamw.hpp"
#include "optim/clip.hpp"
#include "optim/lr_schedule.hpp"
#include "parallel/comm.hpp"
#include "parallel/grad_reduce.hpp"
#include "parallel/lanes.hpp"
#include "trainer/config.hpp"
#include "trainer/execution.hpp"

namespace tael {

// How a global batch is divided on this rank. Sizes in sequences.
struct BatchDivision {
  int ranks = 1, rank = 0;
  int lanes = 1;  // of this rank: its share of reduction_lanes, or one under `fast`
  SumOrder order = SumOrder::canonical;
  int64_t micro_batch = 1;
  // Micro-batches of one lane of a global batch: all of min(micro_batch, lane) sequences, the last perhaps fewer.
  int64_t lane_sequences(int64_t global_batch) const { return global_batch / ranks / lanes; }
};

// What a step needs besides the weights; filled before every micro-batch.
struct StepBuffers {
  Mat<int32_t> document_start_BT;  // empty without document_mask
  Vec<double> main_B, balance_B;   // losses of a micro-batch
  Mat<double> mtp_DB;
  Mat<double> lane_values_LV, all_values_LV;  // V: main, balance, one per MTP depth
  Vec<double> sums_V;
  Mat<int64_t> counts_LE;
};

// How far a run is.
struct Progress {
  int64_t step = 0;     // steps done
  int64_t samples = 0;  // sequences consumed by them
  int64_t tokens = 0;  // and tokens: the position of every schedule; a run's sequences may have been of several lengths
};

struct Run {
  // `time` and `began`: what the clock goes by, and when on it this rank began. node_bytes: memory that the ranks of a
  // host may take; 0: what this host has free. Where they cannot have it, Error(bad_config). `begins`: the position of
  // the checkpoint from which it probably will go on, nothing: there is none; begin_at says where it begins.
  Run(const LoadedConfig& loaded, Comm& comm, TimeSource time = monotonic_time(), double began = process_start(),
      size_t node_bytes = 0, const std::optional<Progress>& begins = std::nullopt);
  Run(const Run&) = delete;

  const LoadedConfig& loaded;
  const Config& config;
  Comm& comm;
  CostClock clock;
  Execution execution;
  ThreadPool pool;
  Stream stream;
  LocalTokenExchange exchange;

  std::vector<TokenShard> train_shards, valid_shards;
  int32_t separator = -1;  // with document_mask
  std::unique_ptr<Sampler> sampler;

  Network network;
  BatchDivision division;
  LrSchedule lr;
  Progress from;                      // where it begins, or probably will
  int64_t steps = 0, all_tokens = 0;  // of the whole run, as it looks from there

  // Memory, by lifetime; sizes are those of `memory_plan`.
  MemoryPlan memory_plan;
  size_t batch_bytes = 0;       // loader and step buffers
  size_t evaluation_bytes = 0;  // evaluation's own buffers
  size_t list_bytes = 0;        // names, shapes and sums of a checkpoint's tensors, while it is written or read
  size_t snapshot_bytes = 0;    // the copy from which a checkpoint is written while steps go on
  size_t baseline_bytes = 0;    // resident before any of it was allocated
  size_t history_bytes = 0;     // on rank 0, at the start: what earlier attempts booked, and evaluated
  std::unique_ptr<Arena> weights_arena, gradients_arena, optimizer_arena, saved_arena, scratch_arena, wire_arena,
      batch_arena, snapshot_arena;
  Vec<float> params, biases;
  std::unique_ptr<LaneAccumulator> lanes;
  AdamwState adamw;
  Vec<double> norm_rows;
  std::vector<ParamSpan> spans;
  GradReduceScratch wire;
  StepBuffers buffers;
  std::unique_ptr<Loader> loader;
  std::optional<ModelSource> initial;  // of initial_load_path, whose files are read whole once; until initialize()
  std::vector<std::string> initial_warnings;  // its damaged checkpoints, passed over; keys that it had otherwise

  Weights weights() const { return {params.data, biases.data}; }
  Context context() { return {stream, *scratch_arena, config.parallelism.segments()}; }
  Mat<float> bias_LE() const;

  int64_t held_out_tokens() const;  // of all validation shards

  size_t thread_bytes() const;  // of the threads' workspaces, as far as this model's kernels use them
  // Peak that the run will not exceed, and what it is expected to reach.
  size_t reserved_bytes() const;
  size_t expected_bytes() const;

  std::vector<std::pair<std::string, size_t>> memory_by_kind() const;  // bytes of this rank; "expected", "at_most" last

  void allocate();                          // takes all memory
  void initialize();                        // initial weights: random, or initial_load_path
  void begin_at(const Progress& progress);  // and what follows from it: steps, all_tokens, lr
  TrainingArrays arrays() const { return {params, adamw.moment1, adamw.moment2, biases}; }
  std::vector<BoxData> boxes() const;  // what this rank writes of a checkpoint

 private:
  void open_initial();
  LoaderShape loader_shape() const;
  LoaderBuffers plan_batches(Arena& arena);
};

}  // namespace tael
