// Going on where a checkpoint ends: whether it can be, what was changed meanwhile, and what a checkpoint must know.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "trainer/assemble.hpp"
#include "trainer/step.hpp"

namespace tael {

// The files that travel in a checkpoint.
inline constexpr const char* kConfigText = "config.yaml";  // resolved; beside it kModelText

// The identity of the data: the digests of shards, in order.
std::vector<std::string> data_digests(const std::vector<TokenShard>& shards);
// What is saved beside the tensors. `ledger` by kind: what the run has cost until now.
RunState run_state(const Run& run, const Progress& progress, int64_t attempt, const CostSeconds& ledger);
Progress progress_of(const RunState& state);
std::vector<std::pair<std::string, std::string>> checkpoint_texts(const LoadedConfig& loaded);

// Error(bad_config) naming the key where the run cannot go on from this state: another model, tokenizer, seed, data,
// number of lanes or segments. Returns the keys whose values differ and may: the checkpoint's value, then ours.
std::vector<FieldDifference> require_same_run(const Checkpoint& checkpoint, const Run& run);
// The same, before anything begins, of the checkpoint from which the run probably will go on. Its damage is found when
// it is read.
void require_resumable(const std::optional<Checkpoint>& newest, const Run& run);
// Where a run will probably begin that has this checkpoint, or none. `reduction_segments: auto` becomes what the
// checkpoint has.
std::optional<Progress> begins_at(const std::optional<Checkpoint>& newest, LoadedConfig& loaded);

// Fills the run's arrays. Error(bad_data) when the checkpoint is damaged or holds another model.
Progress restore(const Checkpoint& checkpoint, Run& run);

}  // namespace tael
