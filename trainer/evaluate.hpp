// How well a model predicts token shards: every target scored once, with the main head (data/eval_windows.hpp).
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "data/shard_set.hpp"
#include "model/network.hpp"
#include "parallel/comm.hpp"

namespace tael {

struct Evaluation {
  Network& network;
  Stream stream;
  Arena& saved;
  Arena& scratch;
  int64_t segments = 1;
  Weights weights;
  std::span<const TokenShard> shards;
  int64_t seq_length = 0;
  int64_t batch = 1;       // windows that go through at once
  int32_t separator = -1;  // attention stays inside documents that this token ends; -1: it does not
  // Asked on every rank several times a second: where one says so, all give up. Empty: never.
  std::function<bool()> give_up = {};
  // Called on all ranks together as often; it may communicate.
  std::function<void()> between = {};
};

struct EvalResult {
  double nats = 0;  // of all targets
  int64_t targets = 0;
  int64_t text_bytes = 0;  // that the targets stand for
  bool has_text = false;   // the shards say what their tokens stand for

  double loss() const { return nats / static_cast<double>(targets); }
  double ppl() const;
  std::optional<double> bits_per_byte() const;
};

// Error(bad_data) where `shards` hold no token to predict.
void require_targets(std::span<const TokenShard> shards);

// What evaluate() takes of a rank's memory beside the network's arenas, at most.
size_t evaluation_buffer_bytes(int64_t batch, int64_t seq_length, int ranks);

// Collective: ranks share the windows. The sum has one order, whatever the number of ranks and `batch`. Nothing, on all
// ranks, where it was given up. REQUIRES a target in the shards (require_targets).
std::optional<EvalResult> evaluate(Comm& comm, const Evaluation& evaluation);

}  // namespace tael
