#include "trainer/assemble.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/hash.hpp"
#include "checkpoint/hf_import.hpp"
#include "checkpoint/model_source.hpp"
#include "cost/machine.hpp"
#include "data/tokenizer.hpp"
#include "model/init.hpp"
#include "model/workspace.hpp"
#include "parallel/agree.hpp"
#include "parallel/ownership.hpp"
#include "trainer/config_rules.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/metrics.hpp"

namespace tael {

namespace {

// All of it is checked once per host; the other ranks of the host then only look whether they have the same file.
std::vector<TokenShard> open_on_hosts(Comm& comm, const std::vector<std::string>& paths, Verify verify) {
  const ShardVerify wanted = verify == Verify::all ? ShardVerify::all : ShardVerify::blocks;
  std::vector<TokenShard> shards;
  const bool first_of_host = comm.local_rank() == 0;
  agreed_by(comm, first_of_host, [&] { shards = open_shards(paths, wanted); });
  agreed_by(comm, !first_of_host,
            [&] { shards = open_shards(paths, wanted == ShardVerify::all ? ShardVerify::trusted : wanted); });
  uint64_t digest = 0;
  for (const TokenShard& shard : shards) digest = digest * 31 + shard.info().digest.low;
  agree_equal(comm, "data", digest, Exit::bad_data);
  return shards;
}

// What the lines of a ledger take while a start looks at them, some nine tenths of their text, and the end of the
// metrics, in which it looks for an evaluation.
size_t history_bytes_of(const std::string& directory, bool evaluates) {
  const auto bytes = [&](const char* name) -> uint64_t {
    std::error_code none;
    const uintmax_t size = std::filesystem::file_size(directory + "/" + name, none);
    return none ? 0 : size;
  };
  return static_cast<size_t>(bytes("ledger.jsonl") +
                             (evaluates ? std::min(bytes("metrics.jsonl"), kSearchedBytes) : 0));
}

void check_shards(const LoadedConfig& loaded, const std::vector<TokenShard>& train,
                  const std::vector<TokenShard>& valid) {
  std::string tokenizer = loaded.config.data.tokenizer == "auto" ? "" : loaded.config.data.tokenizer;
  std::string told_by = "data.tokenizer";
  if (tokenizer == "bytes") check_vocabulary(loaded, tokenizer, ByteTokenizer::kVocabSize);
  for (const std::vector<TokenShard>* shards : {&train, &valid}) {
    for (const TokenShard& shard : *shards) {
      const ShardInfo& info = shard.info();
      if (!info.has_text()) {
        require_vocab(info, loaded.config.model.shape.vocab_size);
        continue;
      }
      if (!tokenizer.empty() && info.tokenizer != tokenizer)
        fail(Exit::bad_data, "{}: its tokenizer is {}, but {} says {}", info.path, info.tokenizer, told_by, tokenizer);
      if (tokenizer.empty()) told_by = info.path;
      tokenizer = info.tokenizer;
      check_vocabulary(loaded, info.tokenizer, info.vocab_size);
    }
  }
}

std::unique_ptr<Sampler> make_sampler(const Config& config, const std::vector<TokenShard>& shards) {
  std::vector<SampledFile> files;
  for (size_t i = 0; i < shards.size(); ++i) {
    files.push_back({.path = shards[i].info().path,
                     .tokens = shards[i].tokens(),
                     .weight = config.data.train[i].weight.value_or(0.0)});
  }
  return std::make_unique<Sampler>(std::move(files),
                                   SamplerOptions{.seq_length = config.training.seq_length,
                                                  .mtp_depth = config.model.shape.num_nextn_predict_layers,
                                                  .seed = static_cast<uint64_t>(config.run.seed),
                                                  .shuffle = config.data.shuffle});
}

LrSchedule make_lr(const Config& config, int64_t steps) {
  return {.lr = config.optimizer.lr,
          .warmup_steps = config.lr_scheduler.warmup_steps,
          .shape = config.lr_scheduler.decay.shape,
          .min_lr = config.lr_scheduler.min_lr,
          .train_steps = steps,
          .phases = config.lr_scheduler.decay.phases};
}

BatchDivision make_division(const Config& config, const Comm& comm) {
  BatchDivision d;
  d.ranks = comm.size();
  d.rank = comm.rank();
  d.order = config.canonical() ? SumOrder::canonical : SumOrder::fast;
  d.lanes = config.canonical() ? static_cast<int>(config.parallelism.reduction_lanes) / d.ranks : 1;
  d.micro_batch = config.training.micro_batch_size;
  return d;
}

// Every size of a micro-batch that a step can meet.
std::vector<Sequences> micro_batches(const Config& config, const BatchDivision& division) {
  std::set<int64_t> counts;
  for (const int64_t global : config.training.global_batch_size.all()) {
    const int64_t lane = division.lane_sequences(global);
    counts.insert(std::min(division.micro_batch, lane));
    if (lane % division.micro_batch != 0) counts.insert(lane % division.micro_batch);
  }
  std::vector<Sequences> out;
  for (const int64_t count : counts) out.push_back({count, config.training.seq_length});
  return out;
}

// What would need less memory: the keys behind the largest parts of the plan that can still be smaller.
std::string less_memory(const Run& run, int64_t micro_batch) {
  const MemoryPlan& m = run.memory_plan;
  const size_t copies = static_cast<size_t>(LaneAccumulator::buffers(run.division.lanes)),
               one_copy = m.gradients / copies;
  std::map<std::string, size_t> parts;
  parts["a smaller model"] = m.weights + one_copy + m.optimizer + m.communication + run.snapshot_bytes + run.list_bytes;
  if (copies > 1) parts["fewer parallelism.reduction_lanes"] = m.gradients - one_copy;
  const std::string shorter = "a shorter training.seq_length";
  parts[micro_batch > 1 ? "a smaller training.micro_batch_size" : shorter] +=
      m.activations + m.scratch + run.evaluation_bytes;
  const std::vector<int64_t> sizes = run.config.training.global_batch_size.all();
  parts[*std::max_element(sizes.begin(), sizes.end()) > run.division.ranks ? "a smaller training.global_batch_size"
                                                                           : shorter] += run.batch_bytes;
  if (run.execution.threads > 1)
    parts["fewer cluster.threads_per_rank"] = static_cast<size_t>(run.execution.threads) * ThreadPool::kWorkspaceBytes;
  std::vector<std::pair<size_t, std::string>> largest;
  size_t sum = 0;
  for (const auto& [words, bytes] : parts) {
    largest.emplace_back(bytes, words);
    sum += bytes;
  }
  std::sort(largest.rbegin(), largest.rend());
  std::string text;
  for (size_t i = 0; i < largest.size() && (i == 0 || largest[i].first >= sum / 10); ++i) {
    const bool last = i + 1 == largest.size() || largest[i + 1].first < sum / 10;
    text += (i == 0 ? "" : last ? " or " : ", ") + largest[i].second;
  }
  return text + " needs less";
}

}  // namespace

Run::Run(const LoadedConfig& loaded_config, Comm& communicator, TimeSource time, double began, size_t node_bytes,
         const std::optional<Progress>& begins)
    : loaded(loaded_config),
      config(loaded_config.config),
      comm(communicator),
      clock(std::move(time), began, CostKind::startup),
      execution(choose_execution(comm, config.cluster.threads_per_rank, config.cluster.cpu_isa)),
      pool(execution.threads),
      stream(pool, execution.isa),
      network(config.model.shape, config.mtp.hidden, exchange, config.training.seq_length),
      division(make_division(config, comm)) {
  begin_at(begins.value_or(Progress{}));
  std::vector<std::string> train_paths;
  for (const DataSource& source : config.data.train) train_paths.push_back(source.path);
  train_shards = open_on_hosts(comm, train_paths, config.data.verify);
  valid_shards = open_on_hosts(comm, config.data.valid, config.data.verify);
  agreed(comm, [&] {
    check_shards(loaded, train_shards, valid_shards);
    if (!valid_shards.empty()) require_targets(valid_shards);
    sampler = make_sampler(config, train_shards);
    if (config.data.document_mask) {
      separator = document_separator(train_shards);
      if (!valid_shards.empty()) document_separator(valid_shards);
    }
    if (config.checkpoint.initial_load_path && !begins) {
      open_initial();
      check_hf_tensors(*initial->files, network.table());
    }
    spans = owned_spans(network.table());
    MemoryShape shape;
    shape.micro_batches = micro_batches(config, division);
    if (!valid_shards.empty()) shape.evaluations = {{division.micro_batch, config.training.seq_length}};
    shape.segments = config.parallelism.segments();
    shape.lanes = lane_layout(network.table(), division.lanes);
    shape.order = division.order;
    shape.ranks = division.ranks;
    memory_plan = plan_memory(network, pool, shape);
    Arena measuring = Arena::measuring();
    plan_batches(measuring);
    batch_bytes = measuring.used();
    const std::vector<BoxData> own = boxes();
    if (config.checkpoint.interval > 0 && config.checkpoint.interval < steps) {
      Arena copies = Arena::measuring();
      plan_snapshot(copies, own);
      snapshot_bytes = copies.used();
    }
    const ParamTable& table = network.table();
    list_bytes = checkpoint_list_bytes(own.size(), 3 * table.params.size() + table.gate_biases.size());
    if (!valid_shards.empty())
      evaluation_bytes = evaluation_buffer_bytes(division.micro_batch, config.training.seq_length, comm.size());
    baseline_bytes = resident_bytes();
    if (comm.rank() == 0) history_bytes = history_bytes_of(config.run.dir, !valid_shards.empty());
    const auto widest = std::max_element(shape.micro_batches.begin(), shape.micro_batches.end(),
                                         [](const Sequences& a, const Sequences& b) { return a.count < b.count; });
    require_memory(reserved_bytes(), comm.local_size(), "the run", less_memory(*this, widest->count), node_bytes);
  });
}

LoaderBuffers Run::plan_batches(Arena& arena) {
  const std::vector<int64_t> sizes = config.training.global_batch_size.all();
  const int64_t depth = config.model.shape.num_nextn_predict_layers, values = 2 + depth;
  const LoaderBuffers loader_buffers = plan_loader(arena, loader_shape());
  const int64_t micro =
      std::min(division.micro_batch, division.lane_sequences(*std::max_element(sizes.begin(), sizes.end())));
  if (config.data.document_mask) buffers.document_start_BT = arena.mat<int32_t>(micro, config.training.seq_length);
  buffers.main_B = arena.vec<double>(micro);
  buffers.balance_B = arena.vec<double>(micro);
  buffers.mtp_DB = arena.mat<double>(depth, micro);
  buffers.lane_values_LV = arena.mat<double>(division.lanes, values);
  buffers.all_values_LV = arena.mat<double>(division.lanes * division.ranks, values);
  buffers.sums_V = arena.vec<double>(values);
  buffers.counts_LE =
      arena.mat<int64_t>(network.table().moe_layers, std::max<int64_t>(config.model.shape.n_routed_experts, 1));
  return loader_buffers;
}

LoaderShape Run::loader_shape() const {
  const std::vector<int64_t> sizes = config.training.global_batch_size.all();
  return {.seq_length = config.training.seq_length,
          .mtp_depth = config.model.shape.num_nextn_predict_layers,
          .max_sequences = *std::max_element(sizes.begin(), sizes.end()) / division.ranks};
}

size_t Run::thread_bytes() const {
  constexpr size_t kPage = size_t{2} << 20;  // in which the system gives memory
  const size_t used = static_cast<size_t>(thread_workspace_bytes(config.model.shape));
  return static_cast<size_t>(execution.threads) *
         std::min((used + kPage - 1) / kPage * kPage, ThreadPool::kWorkspaceBytes);
}

size_t Run::expected_bytes() const {
  return baseline_bytes + history_bytes + memory_plan.total() + batch_bytes + evaluation_bytes + snapshot_bytes +
         list_bytes + thread_bytes();
}

std::vector<std::pair<std::string, size_t>> Run::memory_by_kind() const {
  const MemoryPlan& m = memory_plan;
  return {{"weights", m.weights},
          {"gradients", m.gradients},
          {"optimizer", m.optimizer},
          {"activations", m.activations},
          {"scratch", m.scratch},
          {"communication", m.communication},
          {"batches", batch_bytes + evaluation_bytes},
          {"checkpoints", snapshot_bytes + list_bytes},
          {"threads", thread_bytes()},
          {"program", baseline_bytes + history_bytes},
          {"expected", expected_bytes()},
          {"at_most", reserved_bytes()}};
}

int64_t Run::held_out_tokens() const {
  int64_t tokens = 0;
  for (const TokenShard& shard : valid_shards) tokens += shard.tokens();
  return tokens;
}

size_t Run::reserved_bytes() const {
  // Beside the arenas: the final weights stream out in pieces, the files of the run and MPI have buffers, and the
  // system gives memory in pages of up to 2 MiB, of which each arena may have one more than it uses.
  constexpr size_t kBeside = size_t{48} << 20;
  const size_t workspaces = static_cast<size_t>(execution.threads) * ThreadPool::kWorkspaceBytes;
  return expected_bytes() - thread_bytes() + workspaces + kBeside;
}

void Run::allocate() {
  weights_arena = std::make_unique<Arena>("weights", memory_plan.weights);
  gradients_arena = std::make_unique<Arena>("gradients", memory_plan.gradients);
  optimizer_arena = std::make_unique<Arena>("optimizer", memory_plan.optimizer);
  saved_arena = std::make_unique<Arena>("activations", memory_plan.activations);
  scratch_arena = std::make_unique<Arena>("scratch", memory_plan.scratch);
  wire_arena = std::make_unique<Arena>("communication", memory_plan.communication);
  batch_arena = std::make_unique<Arena>("batches", batch_bytes);
  const ParamTable& table = network.table();
  params = weights_arena->vec<float>(table.size());
  biases = weights_arena->vec<float>(table.bias_size());
  lanes = std::make_unique<LaneAccumulator>(*gradients_arena, lane_layout(table, division.lanes));
  adamw = plan_adamw(*optimizer_arena, table.size());
  norm_rows = plan_global_norm(*optimizer_arena, spans);
  wire = plan_grad_reduce(*wire_arena, division.order, table.size(), division.ranks);
  if (snapshot_bytes > 0) {
    snapshot_arena = std::make_unique<Arena>("snapshot", snapshot_bytes);
    snapshot_arena->touch();  // so that the first copy is as quick as the others
  }
  loader = std::make_unique<Loader>(train_shards, *sampler, loader_shape(), plan_batches(*batch_arena));
}

void Run::begin_at(const Progress& progress) {
  from = progress;
  steps = config.training.steps(from.step, from.tokens);
  all_tokens = config.training.all_tokens(from.step, from.tokens);
  lr = make_lr(config, steps);
}

void Run::open_initial() {
  initial = open_model(*config.checkpoint.initial_load_path);
  initial_warnings = initial->warnings;
  // Tensors of the same shapes that take part in other numbers.
  ModelFields theirs;
  theirs.shape = read_hf_shape(*initial->files);
  for (const FieldDifference& d : differences(write_fields(theirs), write_fields(config.model))) {
    if (std::ranges::count(kCarriedModelKeys, d.path) == 0)
      initial_warnings.push_back(fmt::format("model.{} is {} here, and {} where the weights are from, {}", d.path,
                                             d.second, d.first, initial->files->path()));
  }
}

void Run::initialize() {
  agreed(comm, [&] {
    if (!config.checkpoint.initial_load_path) {
      init_params(stream, network.table(), static_cast<uint64_t>(config.run.seed), params.data, biases.data);
      return;
    }
    if (!initial) open_initial();
    import_parameters(*initial->files, network.table(), params, biases);
    initial.reset();
  });
  const uint64_t digest = xxh3_64(params.data, static_cast<size_t>(params.size()) * sizeof(float));
  // Hosts may see other files under one name.
  const auto& path = config.checkpoint.initial_load_path;
  agree_equal(comm, path ? *path : "initial weights", digest, path ? Exit::bad_data : Exit::internal);
}

std::vector<BoxData> Run::boxes() const {
  return training_boxes(network.table(), arrays(), division.rank, division.ranks);
}

Mat<float> Run::bias_LE() const {
  if (biases.size() == 0) return {};
  return mat(biases.data, network.table().moe_layers, config.model.shape.n_routed_experts);
}

}  // namespace tael
