#include <algorithm>

#include "trainer/config.hpp"

namespace tael {

namespace {

constexpr double kNoLimit = Real{}.max;

constexpr std::array<Word<AuxLossType>, 2> kAuxLossTypes = {
    {{"seq_aux_loss", AuxLossType::seq_aux_loss}, {"none", AuxLossType::none}}};
constexpr std::array<Word<MtpHidden>, 2> kMtpHidden = {
    {{"after_final_norm", MtpHidden::after_final_norm}, {"before_final_norm", MtpHidden::before_final_norm}}};
constexpr std::array<Word<Precision>, 4> kComputes = {
    {{"auto", Precision::automatic}, {"fp32", Precision::fp32}, {"bf16", Precision::bf16}, {"fp8", Precision::fp8}}};
constexpr std::array<Word<Precision>, 2> kMoments = {{{"fp32", Precision::fp32}, {"bf16", Precision::bf16}}};
constexpr std::array<Word<Fp8Gemm>, 4> kFp8Gemms = {{{"fast", Fp8Gemm::fast},
                                                     {"exact", Fp8Gemm::exact},
                                                     {"short", Fp8Gemm::shortened},
                                                     {"short_unpromoted", Fp8Gemm::short_unpromoted}}};
constexpr std::array<Word<Fp8Scales>, 2> kFp8Scales = {{{"default", Fp8Scales::standard}, {"pow2", Fp8Scales::pow2}}};
constexpr std::array<Word<Verify>, 2> kVerifies = {{{"all", Verify::all}, {"blocks", Verify::blocks}}};
constexpr std::array<Word<LrShape>, 2> kLrShapes = {{{"constant", LrShape::constant}, {"cosine", LrShape::cosine}}};
constexpr std::array<Word<PipelineSchedule>, 5> kPipelineSchedules = {
    {{"1f1b", PipelineSchedule::one_f_one_b},
     {"interleaved_1f1b", PipelineSchedule::interleaved},
     {"zb_h1", PipelineSchedule::zb_h1},
     {"dualpipe", PipelineSchedule::dualpipe},
     {"dualpipev", PipelineSchedule::dualpipev}}};
constexpr std::array<Word<TokenDispatcher>, 2> kTokenDispatchers = {
    {{"alltoall", TokenDispatcher::alltoall}, {"hierarchical", TokenDispatcher::hierarchical}}};
constexpr std::array<Word<Reduction>, 3> kReductions = {
    {{"auto", Reduction::automatic}, {"canonical", Reduction::canonical}, {"fast", Reduction::fast}}};
constexpr std::array<Word<Recompute>, 3> kRecomputes = {
    {{"none", Recompute::none}, {"selective", Recompute::selective}, {"full", Recompute::full}}};
constexpr std::array<Word<OnSaveError>, 2> kOnSaveErrors = {
    {{"continue", OnSaveError::carry_on}, {"stop", OnSaveError::stop}}};
constexpr std::array<Word<OnLimit>, 1> kOnLimits = {{{"checkpoint_and_stop", OnLimit::checkpoint_and_stop}}};
constexpr std::array<Word<std::string_view>, 1> kOptimizers = {{{"adamw", "adamw"}}};
constexpr std::array<Word<std::string_view>, 4> kIsas = {
    {{"auto", "auto"}, {"portable", "portable"}, {"avx2", "avx2"}, {"avx512", "avx512"}}};

// One of some words, kept as that word.
struct WordKind {
  Choice<std::string_view> choice;
  std::string expected() const { return choice.expected(); }
  std::vector<std::string> choices() const { return choice.choices(); }
  void read(const ConfigNode& node, std::string& value) const {
    std::string_view word;
    choice.read(node, word);
    value = word;
  }
  ConfigNode write(const std::string& value) const { return ConfigNode::text(value); }
};

struct DataSourceKind {
  std::string expected() const { return "paths or of {path, weight}"; }
  void read(const ConfigNode& node, DataSource& source) const {
    if (!node.is_map()) {
      Text{expected()}.read(node, source.path);
      return;
    }
    constexpr std::array<std::string_view, 2> kNames = {"path", "weight"};
    require_only(node, kNames);
    if (const ConfigNode* path = node.find("path")) Text{"a path"}.read(*path, source.path);
    if (const ConfigNode* weight = node.find("weight")) Real{0, kNoLimit, true}.read(*weight, source.weight.emplace());
    if (source.path.empty()) refuse(node, "a path in it");
  }
  ConfigNode write(const DataSource& source) const {
    if (!source.weight) return ConfigNode::text(source.path);
    ConfigNode map = ConfigNode::map();
    map.set("path", ConfigNode::text(source.path));
    map.set("weight", Real{}.write(*source.weight));
    return map;
  }
};

// [[until tokens, constant | cosine, lr at its end], ...]
struct PhasesKind {
  std::string expected() const { return "a list of [until tokens, constant or cosine, learning rate at its end]"; }
  void read(const ConfigNode& node, Decay& decay) const {
    if (!node.is_list() || node.items.empty()) refuse(node, expected());
    std::vector<LrPhase> phases;
    for (const ConfigNode& item : node.items) {
      if (!item.is_list() || item.items.size() != 3) refuse(item, expected());
      LrPhase phase;
      Count{1}.read(item.items[0], phase.until_tokens);
      Choice(kLrShapes).read(item.items[1], phase.shape);
      Real{0}.read(item.items[2], phase.lr);
      if (!phases.empty() && phase.until_tokens <= phases.back().until_tokens) {
        refuse(item.items[0], fmt::format("more than the {} tokens before it", phases.back().until_tokens));
      }
      phases.push_back(phase);
    }
    decay.phases = std::move(phases);
  }
  ConfigNode write(const Decay& decay) const {
    ConfigNode list = ConfigNode::list();
    for (const LrPhase& phase : decay.phases) {
      list.items.push_back(ConfigNode::list(
          {Count{}.write(phase.until_tokens), Choice(kLrShapes).write(phase.shape), Real{}.write(phase.lr)}));
    }
    return list;
  }
};

// constant | cosine | {phases: [...]} | [...]
struct DecayKind {
  std::string expected() const { return "constant, cosine or phases: " + PhasesKind{}.expected(); }
  std::vector<std::string> choices() const { return Choice(kLrShapes).choices(); }
  void read(const ConfigNode& node, Decay& decay) const {
    if (node.is_list()) {
      PhasesKind{}.read(node, decay);
    } else if (node.is_map()) {
      constexpr std::array<std::string_view, 1> kNames = {"phases"};
      require_only(node, kNames);
      const ConfigNode* phases = node.find("phases");
      if (phases == nullptr) refuse(node, expected());
      PhasesKind{}.read(*phases, decay);
    } else if (node.is_scalar()) {
      Choice(kLrShapes).read(node, decay.shape);
      decay.phases.clear();
    } else {
      refuse(node, expected());
    }
  }
  ConfigNode write(const Decay& decay) const {
    if (decay.phases.empty()) return Choice(kLrShapes).write(decay.shape);
    ConfigNode map = ConfigNode::map();
    map.set("phases", PhasesKind{}.write(decay));
    return map;
  }
};

}  // namespace

void describe(RunOptions& o, FieldVisitor& v) {
  v.field("dir", o.dir, Text{"a path"}, "Directory of the run, made by it. Must be given.");
  v.field("seed", o.seed, Integer{}, "Seed of the initial weights and of the order of the data.");
}

void describe(AuxLossOptions& o, FieldVisitor& v) {
  v.field("type", o.type, Choice(kAuxLossTypes), "Balance within each sequence (V3 eq. 17), or no such loss.");
  v.field("coeff", o.coeff, ScheduleKind{Real{0}}, "Its weight alpha, by tokens.");
}

void describe(RouterOptions& o, FieldVisitor& v) {
  v.field("bias_update_rate", o.bias_update_rate, ScheduleKind{Real{0}},
          "Step gamma of the gate bias after each optimizer step, by tokens; only with topk_method noaux_tc.");
  v.section("aux_loss", o.aux_loss, "The balance loss.");
}

void describe(MtpOptions& o, FieldVisitor& v) {
  v.field("loss_scaling_factor", o.loss_scaling_factor, ScheduleKind{Real{0}},
          "Weight lambda of the MTP loss, by tokens.");
  v.field("hidden", o.hidden, Choice(kMtpHidden), "Which hidden state the first MTP module reads.");
}

void describe(PrecisionOptions& o, FieldVisitor& v) {
  v.field("compute", o.compute, Choice(kComputes), "Format of the computation; auto is fp32 until others are built.");
  v.field("moments", o.moments, Choice(kMoments), "Format of the optimizer's moments.");
  v.field("dispatch", o.dispatch, Choice(kComputes), "Format of tokens on their way to experts; auto: as compute.");
  v.field("combine", o.combine, Choice(kComputes), "Format of expert outputs on their way back; auto: as compute.");
  v.field("fp8_gemm", o.fp8_gemm, Choice(kFp8Gemms), "Accumulation of FP8 products.");
  v.field("fp8_scales", o.fp8_scales, Choice(kFp8Scales), "Scales of FP8 tiles.");
  v.field("overrides", o.overrides, WordMap{"a map of kinds of tensors to formats"}, "Formats by kind of tensor.");
  v.field("shadow_interval", o.shadow_interval, Integer{}, "Steps between checks of FP8 against float32; 0: none.");
}

void describe(DataOptions& o, FieldVisitor& v) {
  v.field("train", o.train, ListOf<DataSourceKind>{{}}, "Token shards to train on. Must be given.");
  v.field("valid", o.valid, ListOf<Text>{Text{"paths"}}, "Token shards to evaluate on; none: no evaluation.");
  v.field("tokenizer", o.tokenizer, Text{"a tokenizer's name or path"}, "auto: what the shards say.");
  v.field("verify", o.verify, Choice(kVerifies),
          "Check every byte of a shard when it is opened, or the blocks as read.");
  v.field("shuffle", o.shuffle, Boolean{}, "Samples in a permutation by seed and epoch instead of file order.");
  v.field("document_mask", o.document_mask, Boolean{}, "Attention inside documents only.");
  v.field("fim_rate", o.fim_rate, Real{0, 1}, "Share of documents in fill-in-the-middle form.");
}

void describe(TrainingOptions& o, FieldVisitor& v) {
  v.field("seq_length", o.seq_length, Count{1, (int64_t{1} << 31) - 1}, "Tokens of a sequence (4k is 4000).");
  v.field("micro_batch_size", o.micro_batch_size, Count{1, (int64_t{1} << 31) - 1}, "Sequences of a rank at once.");
  v.field("global_batch_size", o.global_batch_size, BatchSizeKind{}, "Sequences of an optimizer step, by tokens.");
  v.exclusive(
      "train_tokens", [&] { o.train_tokens.reset(); }, "train_steps", [&] { o.train_steps.reset(); });
  v.field("train_tokens", o.train_tokens, or_null(Tokens{1}), "Length of the run in tokens.");
  v.field("train_steps", o.train_steps, or_null(Count{1}), "Length of the run in optimizer steps.");
  v.field("eval_interval", o.eval_interval, Count{}, "Steps between evaluations; 0: only at the end.");
  v.field("log_interval", o.log_interval, Count{1}, "Steps between lines of the log.");
}

void describe(OptimizerOptions& o, FieldVisitor& v) {
  v.field("name", o.name, WordKind{Choice(kOptimizers)}, "AdamW as PyTorch has it.");
  v.field("lr", o.lr, Real{0}, "Learning rate at the end of warm-up.");
  v.field("betas", o.betas, ArrayOf<Real, 2>{Real{0, 1, false, true}}, "Decay of the two moments.");
  v.field("eps", o.eps, Real{0}, "Added to the root of the second moment.");
  v.field("weight_decay", o.weight_decay, Real{0}, "Decoupled, times lr; tensors of two or more dimensions.");
  v.field("clip_grad", o.clip_grad, Real{0}, "Largest global gradient norm; 0: no clipping.");
}

void describe(LrSchedulerOptions& o, FieldVisitor& v) {
  v.field("warmup_steps", o.warmup_steps, Count{}, "Steps over which the rate rises linearly from 0.");
  v.exclusive(
      "decay", [] {}, "phases", [] {});
  v.field("decay", o.decay, DecayKind{}, "What follows: constant, cosine down to min_lr at the last step, or phases.");
  v.field("phases", o.decay, PhasesKind{}, "The list of decay: {phases: [...]}.", FieldUse::input_only);
  v.field("min_lr", o.min_lr, Real{0}, "Where cosine ends.");
}

void describe(ParallelismOptions& o, FieldVisitor& v) {
  const Integer ranks{1, 1'000'000};
  v.field("data_parallel", o.data_parallel, or_auto(ranks), "Data ranks; auto: all that the launcher gives.");
  v.field("tensor_parallel", o.tensor_parallel, ranks, "Ranks that share every layer.");
  v.field("expert_parallel", o.expert_parallel, ranks, "Ranks that share the experts; divides the data ranks.");
  v.field("pipeline_parallel", o.pipeline_parallel, ranks, "Ranks that share the layers one after the other.");
  v.field("pipeline_schedule", o.pipeline_schedule, Choice(kPipelineSchedules),
          "Order of micro-batches in a pipeline.");
  v.field("zero_stage", o.zero_stage, Integer{0, 3}, "What data ranks share out: 0 nothing, 1 the optimizer's state.");
  v.field("token_dispatcher", o.token_dispatcher, Choice(kTokenDispatchers), "How tokens travel to their experts.");
  v.field("reduction", o.reduction, Choice(kReductions),
          "canonical: one set of numbers for every layout (auto on the CPU); fast: any number of ranks.");
  v.field("reduction_lanes", o.reduction_lanes, Integer{1, 4096},
          "Parts of the global batch that are summed apart under canonical; a power of two.");
  v.field("reduction_segments", o.reduction_segments, or_auto(Integer{1, 64}),
          "Pieces of sums that tensor parallelism splits; auto: as many as tensor_parallel.");
  v.field("expert_capacity", o.expert_capacity, Real{1}, "Planned tokens of an expert over the balanced number.");
  v.field("timeout", o.timeout_seconds, Duration{1},
          "How long a rank waits for the others; not built yet: a frozen rank is waited for.");
}

void describe(ActivationCheckpointOptions& o, FieldVisitor& v) {
  v.field("mode", o.mode, Choice(kRecomputes), "What backward computes again instead of keeping.");
}

void describe(CheckpointOptions& o, FieldVisitor& v) {
  v.field("interval", o.interval, Count{},
          "Steps between checkpoints; 0: only when the run ends or is stopped. Each is a copy in memory first.");
  v.field("keep", o.keep, Integer{1}, "Newest checkpoints that are kept.");
  v.field("milestone_interval", o.milestone_interval, or_null(Tokens{1}),
          "The first checkpoint of each so many tokens is kept for ever; null: none.");
  v.field("on_error", o.on_error, Choice(kOnSaveErrors),
          "A checkpoint that cannot be written: continue (until the third in a row), or stop with 74.");
  v.field("initial_load_path", o.initial_load_path, or_null(Text{"a path"}),
          "Weights to start from: a checkpoint or a Hugging Face directory; step and optimizer start fresh.");
}

void describe(ClusterOptions& o, FieldVisitor& v) {
  const auto number = or_auto(Integer{1, 1'000'000});
  v.field("device", o.device, Text{"auto, cpu, cuda or a profile of configs/clusters"}, "Where to compute.");
  v.field("nodes", o.nodes, number, "Machines; auto: what the launcher gives.");
  v.field("devices_per_node", o.devices_per_node, number, "Ranks of a machine; auto: what the launcher gives.");
  v.field("threads_per_rank", o.threads_per_rank, or_auto(Integer{1, 1024}),
          "auto: the machine's cores over its ranks.");
  v.field("hosts", o.hosts, number, "Hosts that the ranks are taken to be on; auto: as found.");
  v.field("cpu_isa", o.cpu_isa, WordKind{Choice(kIsas)}, "Instruction set; auto: the best that all ranks have.");
  v.field("price_per_device_hour", o.price_per_device_hour, or_null(MoneyKind{}), "For costs; null: no money.");
}

void describe(BudgetOptions& o, FieldVisitor& v) {
  v.exclusive(
      "gpu_hours", [&] { o.gpu_hours.reset(); }, "money", [&] { o.money.reset(); });
  v.field("gpu_hours", o.gpu_hours, or_null(Real{0, kNoLimit, true}), "Device-hours that the run may take.");
  v.field("money", o.money, or_null(MoneyKind{true}), "Money that the run may take; needs a price.");
  v.field("on_limit", o.on_limit, Choice(kOnLimits), "What happens before the budget is exceeded.");
}

void describe(MetricsOptions& o, FieldVisitor& v) {
  v.field("tensorboard", o.tensorboard, Boolean{}, "Write TensorBoard files beside metrics.jsonl.");
}

void describe(Config& c, FieldVisitor& v) {
  v.constant("schema", "1", "the only version of this language");
  v.section("run", c.run, "Where and with which seed.");
  v.section("model", c.model, "Hugging Face config.json keys.");
  v.section("router", c.router, "Balance of the experts.");
  v.section("mtp", c.mtp, "Multi-token prediction, with num_nextn_predict_layers above 0.");
  v.section("precision", c.precision, "Number formats.");
  v.section("data", c.data, "What is read.");
  v.section("training", c.training, "Sizes and length.");
  v.section("optimizer", c.optimizer, "The update.");
  v.section("lr_scheduler", c.lr_scheduler, "The learning rate over time.");
  v.section("parallelism", c.parallelism, "How ranks share the work.");
  v.section("activation_checkpoint", c.activation_checkpoint, "Recomputation.");
  v.section("checkpoint", c.checkpoint, "What is saved and where weights come from.");
  v.section("cluster", c.cluster, "The machines.");
  v.section("budget", c.budget, "What the run may cost.");
  v.section("metrics", c.metrics, "What is recorded.");
}

}  // namespace tael
