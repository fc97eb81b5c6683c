#include "trainer/resume.hpp"

#include <algorithm>
#include <array>

#include "base/key_path.hpp"
#include "checkpoint/hf_export.hpp"
#include "data/sampler.hpp"
#include "trainer/run_directory.hpp"

namespace tael {

namespace {

// Whether a key of the model is part of its shape. Where it is not every tensor goes on as it is, and takes part in
// other numbers at most, as in an extension of the context by YaRN.
bool is_of_the_shape(std::string_view model_key) {
  constexpr std::array<std::string_view, 4> kOtherNumbers = {"rope_theta", "rope_scaling", "rms_norm_eps",
                                                             "routed_scaling_factor"};
  return std::ranges::count(kCarriedModelKeys, model_key) == 0 && std::ranges::count(kOtherNumbers, model_key) == 0;
}

template <class... Args>
[[noreturn]] void refuse(const Checkpoint& checkpoint, std::string_view key, fmt::format_string<Args...> format,
                         Args&&... args) {
  fail(Exit::bad_config, "{}: {}: {}; a run cannot go on with another", checkpoint.path(), key,
       fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace

std::vector<std::string> data_digests(const std::vector<TokenShard>& shards) {
  std::vector<std::string> digests;
  for (const TokenShard& shard : shards) digests.push_back(to_hex(shard.info().digest));
  return digests;
}

RunState run_state(const Run& run, const Progress& progress, int64_t attempt, const CostSeconds& ledger) {
  RunState s;
  s.training = true;
  s.step = progress.step;
  s.samples = progress.samples;
  s.tokens = progress.tokens;
  s.attempt = attempt;
  s.seed = run.config.run.seed;
  s.reduction_lanes = run.config.canonical() ? run.config.parallelism.reduction_lanes : 0;
  s.reduction_segments = run.config.parallelism.segments();
  s.sample_order = kSampleOrder;
  s.tokenizer = tokenizer_of(run.train_shards);
  s.data = data_digests(run.train_shards);
  for (size_t k = 0; k < kCostKinds; ++k) {
    const auto kind = static_cast<CostKind>(k);
    if (ledger[kind] != 0) s.ledger.emplace(name_of(kind), ledger[kind]);
  }
  s.software = build_line();
  return s;
}

Progress progress_of(const RunState& state) {
  return {.step = state.step, .samples = state.samples, .tokens = state.tokens};
}

std::vector<std::pair<std::string, std::string>> checkpoint_texts(const LoadedConfig& loaded) {
  return {{kConfigText, resolved_yaml(loaded)}, {kModelText, hf_config_text(loaded.config.model.shape)}};
}

std::vector<FieldDifference> require_same_run(const Checkpoint& checkpoint, const Run& run) {
  const RunState& s = checkpoint.state();
  if (!s.training)
    fail(Exit::bad_config, "{}: holds weights alone; give it as checkpoint.initial_load_path", checkpoint.path());
  const LoadedConfig stored =
      load_config_text(checkpoint.read_text(kConfigText), checkpoint.path() + "/" + kConfigText, {}, {});
  std::vector<FieldDifference> changes = differences(write_fields(stored.config), write_fields(run.config));
  for (const FieldDifference& d : changes) {
    if (parent_key(d.path) == "model" && is_of_the_shape(last_key(d.path)))
      refuse(checkpoint, d.path, "{} then, {} now", d.first, d.second);
  }
  if (s.seed != run.config.run.seed) refuse(checkpoint, "run.seed", "{} then, {} now", s.seed, run.config.run.seed);
  const std::string tokenizer = tokenizer_of(run.train_shards);
  if (s.tokenizer != tokenizer) refuse(checkpoint, "data.tokenizer", "'{}' then, '{}' now", s.tokenizer, tokenizer);
  const std::vector<std::string> data = data_digests(run.train_shards);
  if (s.data.size() != data.size())
    refuse(checkpoint, "data.train", "{} shards then, {} now", s.data.size(), data.size());
  for (size_t i = 0; i < data.size(); ++i) {
    if (s.data[i] == data[i]) continue;
    refuse(checkpoint, "data.train", "{} is not the data that shard {} was (digest {} then, {} now)",
           run.train_shards[i].info().path, i + 1, s.data[i], data[i]);
  }
  if (s.sample_order != kSampleOrder)
    refuse(checkpoint, "data", "samples are in order {}, this program's is {}", s.sample_order, kSampleOrder);
  const int64_t lanes = run.config.canonical() ? run.config.parallelism.reduction_lanes : 0;
  // Between `canonical` and `fast` a run may change: its numbers then do, and it is said.
  if (s.reduction_lanes != 0 && lanes != 0 && s.reduction_lanes != lanes)
    refuse(checkpoint, "parallelism.reduction_lanes", "{} then, {} now", s.reduction_lanes, lanes);
  if (s.reduction_segments != run.config.parallelism.segments())
    refuse(checkpoint, "parallelism.reduction_segments", "{} then, {} now", s.reduction_segments,
           run.config.parallelism.segments());
  require_training_state(checkpoint, run.network.table(), true);
  return changes;
}

void require_resumable(const std::optional<Checkpoint>& newest, const Run& run) {
  if (!newest) return;
  try {
    require_same_run(*newest, run);
  } catch (const Error& error) {
    if (error.code() != Exit::bad_data) throw;
  }
}

Progress restore(const Checkpoint& checkpoint, Run& run) {
  read_training_state(checkpoint, run.network.table(), run.arrays(), true);
  return progress_of(checkpoint.state());
}

std::optional<Progress> begins_at(const std::optional<Checkpoint>& newest, LoadedConfig& loaded) {
  if (!newest) return std::nullopt;
  const RunState& state = newest->state();
  std::optional<int64_t>& segments = loaded.config.parallelism.reduction_segments;
  if (!segments && state.training && state.reduction_segments != loaded.config.parallelism.segments())
    segments = state.reduction_segments;
  return progress_of(state);
}

}  // namespace tael
