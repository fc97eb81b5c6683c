#include "trainer/start_facts.hpp"

#include <algorithm>

#include "cost/flops.hpp"
#include "model/param_table.hpp"
#include "trainer/run_directory.hpp"

namespace tael {

namespace {

double mib(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

std::string model_line(const ModelShape& s) {
  const ParamCounts counts = count_parameters(s);
  int64_t moe = 0;
  for (int64_t i = 0; i < s.num_hidden_layers; ++i) moe += s.is_moe_layer(i) ? 1 : 0;
  std::string text = fmt::format("{} shape, {} layers ({} dense), ",
                                 s.model_type == ModelType::deepseek_v3 ? "DeepSeek-V3" : "DeepSeek-V2",
                                 s.num_hidden_layers, s.num_hidden_layers - moe);
  if (moe > 0) {
    text += fmt::format("{} experts top-{}", s.n_routed_experts, s.num_experts_per_tok);
    if (s.n_group > 1 && s.topk_method != TopkMethod::greedy)
      text += fmt::format(" in {} of {} groups", s.topk_group, s.n_group);
    if (s.n_shared_experts > 0) text += fmt::format(" + {} shared", s.n_shared_experts);
    text += ", ";
  }
  text += fmt::format("MTP {}: {} parameters, {} at work for a token", s.num_nextn_predict_layers,
                      counted(static_cast<double>(counts.total), 8), counted(static_cast<double>(counts.active), 8));
  if (counts.mtp > 0) text += fmt::format(" (MTP {} more)", counted(static_cast<double>(counts.mtp), 8));
  return text;
}

std::string data_line(const Run& run) {
  int64_t train = 0, valid = 0;
  for (const TokenShard& shard : run.train_shards) train += shard.tokens();
  for (const TokenShard& shard : run.valid_shards) valid += shard.tokens();
  const std::string tokenizer = tokenizer_of(run.train_shards);
  std::string text = fmt::format("{} training tokens", grouped(train));
  if (valid > 0) text += fmt::format(", {} held out", grouped(valid));
  text += fmt::format(", tokenizer {}", tokenizer.empty() ? "unknown" : tokenizer);
  // With weights each file has epochs of its own.
  if (run.sampler->weighted())
    return text + fmt::format("; weighted, in {}", count_of(run.train_shards.size(), "file"));
  const int64_t epoch = run.sampler->samples_per_epoch();
  return text + fmt::format("; {} of {} an epoch", count_of(epoch, "sample"), run.config.training.seq_length);
}

std::string batch_line(const Run& run) {
  const TrainingOptions& t = run.config.training;
  const std::vector<int64_t> sizes = t.global_batch_size.all();
  const auto [least, most] = std::ranges::minmax(sizes);
  const bool down = least < most && sizes.front() == most && sizes.back() == least;
  const int64_t named = down ? least : most;  // behind a range: of the size named last
  std::string text = down            ? fmt::format("{} down to {} sequences", most, least)
                     : least == most ? fmt::format("{} sequences", most)
                                     : fmt::format("{} to {} sequences", least, most);
  text += fmt::format(" x {} = {} tokens a step", t.seq_length, grouped(named * t.seq_length));
  const int64_t lane = run.division.lane_sequences(named);
  const int64_t micro = std::min(run.division.micro_batch, lane);
  text += fmt::format("; a rank has {} in micro-batches of {}", named / run.division.ranks, micro);
  text += "; " + count_of(run.steps, "step");
  const int64_t warmup = run.config.lr_scheduler.warmup_steps;
  if (warmup >= run.steps) text += fmt::format(", all inside the {} of warm-up", grouped(warmup));
  return text;
}

// The numbers of ranks that divide a power of two of lanes: "1, 2 and 4 ranks".
std::string numbers_of_ranks(int64_t lanes) {
  std::string text = "1";
  for (int64_t ranks = 2; ranks <= lanes; ranks *= 2)
    text += fmt::format("{}{}", ranks == lanes ? " and " : ", ", ranks);
  return text + (lanes == 1 ? " rank" : " ranks");
}

// Whether dense layers stand among those of experts: which ones, only moe_layer_freq says.
bool dense_between_moe(const ModelShape& s) {
  bool moe = false, dense = false;
  for (int64_t i = s.first_k_dense_replace; i < s.num_hidden_layers; ++i) (s.is_moe_layer(i) ? moe : dense) = true;
  return moe && dense;
}

// transformers has one kind of gate for each type of model, whatever the configuration says.
bool has_gate_of_its_type(const ModelShape& s) {
  const bool v3 = s.scoring_func == ScoringFunc::sigmoid && s.topk_method == TopkMethod::noaux_tc;
  const bool v2 = s.scoring_func == ScoringFunc::softmax && s.topk_method != TopkMethod::noaux_tc;
  return s.model_type == ModelType::deepseek_v3 ? v3 : v2;
}

}  // namespace

void print_start(Console& console, const Run& run) {
  const Config& c = run.config;
  console.fact("run", fmt::format("{} (seed {})", c.run.dir, c.run.seed));
  console.fact("world", fmt::format("{} x {}, {} ({}), {}", count_of(run.comm.size(), "rank"),
                                    count_of(run.execution.threads, "thread"), cpu_model(), name_of(run.execution.isa),
                                    host_name()));
  console.fact("model", model_line(c.model.shape));
  if (dense_between_moe(c.model.shape)) {
    console.warn(
        fmt::format("model.moe_layer_freq {}: DeepSeek's own modelling code honours this key, transformers ignores it "
                    "and takes what this run leaves for another model",
                    c.model.shape.moe_layer_freq));
  }
  if (run.network.table().moe_layers > 0 && !has_gate_of_its_type(c.model.shape)) {
    console.warn(
        "model.scoring_func and topk_method are another model type's: transformers does not look at them and takes "
        "what this run leaves for another model");
  }
  for (const std::string& warning : run.initial_warnings) console.warn(warning);
  console.fact("data", data_line(run));
  console.fact("batch", batch_line(run));
  console.fact("numbers", c.canonical() ? fmt::format("fp32; canonical: the same bits for {}, {}",
                                                      numbers_of_ranks(c.parallelism.reduction_lanes),
                                                      count_of(c.parallelism.reduction_lanes, "lane"))
                                        : std::string("fp32; fast: bits depend on the number of ranks"));
  const MemoryPlan& m = run.memory_plan;
  console.fact(
      "memory",
      fmt::format("a rank: {:.0f} MiB expected, at most {:.0f}: weights {:.0f}, gradients {:.0f}{}, "
                  "optimizer {:.0f}, activations {:.0f}, scratch {:.0f}, communication {:.0f}, "
                  "batches {:.0f}, checkpoints {:.0f}, threads {:.0f}, program {:.0f}",
                  mib(run.expected_bytes()), mib(run.reserved_bytes()), mib(m.weights), mib(m.gradients),
                  run.division.lanes > 1 ? fmt::format(" ({} copies)", LaneAccumulator::buffers(run.division.lanes))
                                         : std::string(),
                  mib(m.optimizer), mib(m.activations), mib(m.scratch), mib(m.communication),
                  mib(run.batch_bytes + run.evaluation_bytes), mib(run.snapshot_bytes + run.list_bytes),
                  mib(run.thread_bytes()), mib(run.baseline_bytes + run.history_bytes)));
}

void print_peak(Console& console, const Run& run, double peak) {
  const double flops = training_flops_per_token(run.config.model.shape, run.config.training.seq_length);
  console.fact("peak", fmt::format("{:.1f} GFLOP/s a rank in float32 multiply-adds (measured now; MFU is against it); "
                                   "a token costs {:.2f} MFLOPs, attention causal",
                                   peak / 1e9, flops / 1e6));
}

WireBytes gradient_bytes(const Run& run) {
  WireBytes bytes;
  const int ranks = run.comm.size();
  const int64_t size = run.network.table().size() * static_cast<int64_t>(sizeof(float));
  const auto add = [&](int from, int to, int64_t n) {
    (run.comm.host_of(from) == run.comm.host_of(to) ? bytes.within_host : bytes.between_hosts) += n;
  };
  for (int r = 0; r < ranks && ranks > 1; ++r) {
    if (run.division.order == SumOrder::fast) {
      add(r, (r + 1) % ranks, 2 * size * (ranks - 1) / ranks);  // a ring
      continue;
    }
    int64_t part = size / 2;
    for (int distance = 1; distance < ranks; distance *= 2, part /= 2) add(r, r ^ distance, 2 * part);
  }
  return bytes;
}

}  // namespace tael
