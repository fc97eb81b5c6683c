// The tree of options of a run: what a configuration file may say, section by section, and how it is loaded.
//
// A configuration is built from layers: the files named in `defaults:` in order, then the file itself, then key=value
// of the command line; a later layer's keys replace an earlier one's. `model: {preset: NAME}` starts the model from
// configs/models/NAME.yaml, whatever an earlier layer said about it. After load_config the tree is constant.
//
// What a field means, its default and its range stand in config_fields.cpp, once.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/fields.hpp"
#include "base/schedule.hpp"
#include "model/shape_fields.hpp"
#include "optim/lr_schedule.hpp"

namespace tael {

struct RunOptions {
  std::string dir;  // must be given
  int64_t seed = 1234;
};

enum class AuxLossType : uint8_t { seq_aux_loss, none };
struct AuxLossOptions {
  AuxLossType type = AuxLossType::seq_aux_loss;
  Schedule coeff = Schedule::constant(1e-4);  // alpha
};
struct RouterOptions {
  Schedule bias_update_rate = {{{0, 1e-3}, {14'300'000'000'000, 0.0}}};  // gamma
  AuxLossOptions aux_loss;
  // alpha at `tokens`, 0 without the loss
  double aux_coeff(int64_t tokens) const { return aux_loss.type == AuxLossType::none ? 0 : aux_loss.coeff.at(tokens); }
};

struct MtpOptions {
  Schedule loss_scaling_factor = {{{0, 0.3}, {10'000'000'000'000, 0.1}}};  // lambda
  MtpHidden hidden = MtpHidden::after_final_norm;
};

enum class Precision : uint8_t { automatic, fp32, bf16, fp8 };
enum class Fp8Gemm : uint8_t { fast, exact, shortened, short_unpromoted };
enum class Fp8Scales : uint8_t { standard, pow2 };
struct PrecisionOptions {
  Precision compute = Precision::automatic;  // automatic means fp32 until others are built
  Precision moments = Precision::fp32;       // fp32 or bf16
  Precision dispatch = Precision::automatic;
  Precision combine = Precision::automatic;
  Fp8Gemm fp8_gemm = Fp8Gemm::fast;
  Fp8Scales fp8_scales = Fp8Scales::standard;
  std::map<std::string, std::string> overrides;
  int64_t shadow_interval = 0;
};

struct DataSource {
  std::string path;
  std::optional<double> weight;  // of its tokens in the mixture; all sources have one or none has
};
enum class Verify : uint8_t { all, blocks };
struct DataOptions {
  std::vector<DataSource> train;  // must be given
  std::vector<std::string> valid;
  std::string tokenizer = "auto";
  Verify verify = Verify::all;
  bool shuffle = true;
  bool document_mask = false;
  double fim_rate = 0.0;
};

struct TrainingOptions {
  int64_t seq_length = 256;
  int64_t micro_batch_size = 4;
  BatchSize global_batch_size;
  std::optional<int64_t> train_tokens, train_steps;  // one of them must be given
  int64_t eval_interval = 100;                       // steps; 0: only at the end
  int64_t log_interval = 1;
  // Of the whole run, the last step's number and the tokens until then, when `done` steps have consumed `tokens`: these
  // may have been of another length or batch. REQUIRES a checked configuration.
  int64_t steps(int64_t done = 0, int64_t tokens = 0) const;
  int64_t all_tokens(int64_t done = 0, int64_t tokens = 0) const;
  // Whether held-out data, if there is any, is evaluated after this step of a run of `steps`.
  bool evaluation_due(int64_t step, int64_t steps) const {
    return step == steps || (eval_interval > 0 && step % eval_interval == 0);
  }
};

struct OptimizerOptions {
  std::string name = "adamw";
  double lr = 3e-3;
  std::array<double, 2> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_grad = 1.0;  // 0: no clipping
};

struct Decay {
  LrShape shape = LrShape::cosine;
  std::vector<LrPhase> phases;  // not empty: `shape` has no meaning
};
struct LrSchedulerOptions {
  int64_t warmup_steps = 100;
  Decay decay;
  double min_lr = 3e-4;
};

enum class PipelineSchedule : uint8_t { one_f_one_b, interleaved, zb_h1, dualpipe, dualpipev };
enum class TokenDispatcher : uint8_t { alltoall, hierarchical };
enum class Reduction : uint8_t { automatic, canonical, fast };
struct ParallelismOptions {
  std::optional<int64_t> data_parallel;  // nothing: what the launcher gives
  int64_t tensor_parallel = 1, expert_parallel = 1, pipeline_parallel = 1;
  PipelineSchedule pipeline_schedule = PipelineSchedule::one_f_one_b;
  int64_t zero_stage = 0;  // 1 as soon as it is built
  TokenDispatcher token_dispatcher = TokenDispatcher::alltoall;
  Reduction reduction = Reduction::automatic;
  int64_t reduction_lanes = 4;
  std::optional<int64_t> reduction_segments;  // nothing: as many as tensor_parallel
  double expert_capacity = 2.0;
  double timeout_seconds = 600;

  int64_t segments() const { return reduction_segments.value_or(tensor_parallel); }
};

enum class Recompute : uint8_t { none, selective, full };
struct ActivationCheckpointOptions {
  Recompute mode = Recompute::none;
};

enum class OnSaveError : uint8_t { carry_on, stop };
struct CheckpointOptions {
  int64_t interval = 100;  // steps; 0: only when the run ends or is stopped
  int64_t keep = 3;
  std::optional<int64_t> milestone_interval;  // tokens
  OnSaveError on_error = OnSaveError::carry_on;
  std::optional<std::string> initial_load_path;
};

struct ClusterOptions {
  std::string device = "auto";
  std::optional<int64_t> nodes, devices_per_node, threads_per_rank;
  std::optional<int64_t> hosts;
  std::string cpu_isa = "auto";
  std::optional<Money> price_per_device_hour;
};

enum class OnLimit : uint8_t { checkpoint_and_stop };
struct BudgetOptions {
  std::optional<double> gpu_hours;
  std::optional<Money> money;
  OnLimit on_limit = OnLimit::checkpoint_and_stop;
};

struct MetricsOptions {
  bool tensorboard = true;
};

struct Config {
  RunOptions run;
  ModelFields model;
  RouterOptions router;
  MtpOptions mtp;
  PrecisionOptions precision;
  DataOptions data;
  TrainingOptions training;
  OptimizerOptions optimizer;
  LrSchedulerOptions lr_scheduler;
  ParallelismOptions parallelism;
  ActivationCheckpointOptions activation_checkpoint;
  CheckpointOptions checkpoint;
  ClusterOptions cluster;
  BudgetOptions budget;
  MetricsOptions metrics;

  // `reduction: auto` decided: canonical on the CPU, fast on CUDA.
  bool canonical() const {
    return parallelism.reduction == Reduction::canonical ||
           (parallelism.reduction == Reduction::automatic && cluster.device != "cuda");
  }
};
void describe(Config& config, FieldVisitor& visitor);

struct LoadedConfig {
  Config config;
  Reading reading;                 // where each value is from, keys without effect, other programs' names
  std::vector<std::string> files;  // that were read: the one that was named, then what it names, as it is met
  std::vector<FieldDifference> preset_deviations;  // model keys that differ from the preset: its value, then ours
};

// Where `defaults:` and presets are looked for, after the naming file's own directory and the working directory: the
// installed or the source tree's configs/.
struct ConfigSearch {
  std::vector<std::string> config_dirs;
};

// `path` is looked for like an entry of `defaults:`; ".yaml" may be left out. Reads all layers and completes the model
// from its type. Errors: Error(bad_config); Error(usage) for an override without "=". Cross-field rules are apart
// (config_rules.hpp). A configuration without any model key is accepted here.
LoadedConfig load_config(const std::string& path, const std::vector<std::string>& overrides,
                         const ConfigSearch& search);
// The same from a text, as if it stood in a file of that name in the working directory.
LoadedConfig load_config_text(std::string_view text, const std::string& name, const std::vector<std::string>& overrides,
                              const ConfigSearch& search);

// The resolved configuration: every key, such that load_config reads the same back.
std::string resolved_yaml(const LoadedConfig& loaded);
// Values that differ from the defaults, the model's left out: first the default, then ours.
std::vector<FieldDifference> changes_from_defaults(const Config& config);
// One line a key; what `tael help` and the documentation print.
const Schema& config_schema();

}  // namespace tael
