// Saving while training goes on: the state is copied between two steps, and a thread of each rank writes its shard
// while the next steps run. One save at a time.
//
// All functions but the constructor's planning are collective, called between steps. A rank's thread only writes files;
// that all shards are there is agreed between steps, then rank 0's thread publishes. A save that fails (no space, a
// limit, a disk that refuses) leaves the checkpoints that were there and is reported by the call that learns of it;
// training may go on.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/arena.hpp"
#include "base/check.hpp"
#include "base/stream.hpp"
#include "checkpoint/shard_file.hpp"
#include "checkpoint/store.hpp"
#include "parallel/comm.hpp"

namespace tael {

// Memory for the copy of what this rank writes; empty boxes for what is not copied.
std::vector<std::byte*> plan_snapshot(Arena& arena, const std::vector<BoxData>& boxes);

// What lists of boxes (names, shapes, sums) take of a rank's memory while a checkpoint is written or read, beside the
// numbers: `own` boxes that this rank writes, `all` of the checkpoint, of which rank 0 has a list. For names of Hugging
// Face's length, measured with 20,000 to 450,000 boxes on 1, 2 and 4 ranks (tests/run/memory_test.py).
size_t checkpoint_list_bytes(size_t own, size_t all);

struct SaveResult {
  int64_t step = 0, tokens = 0;
  uint64_t bytes = 0;          // on rank 0 of all shards, elsewhere of the rank's own
  double stall_seconds = 0;    // that the steps waited: the copy, for publishing; all of it when nothing was copied
  double seconds = 0;          // from the copy to the rename
  double busy_seconds = 0;     // of it, that the slowest rank wrote and rank 0 published: what nothing else hides
  std::string warning;         // on rank 0: saved, but this could not be done beside it
  std::optional<Error> error;  // nothing was saved, for this reason; the same on all ranks
};

class CheckpointSaver {
 public:
  struct Options {
    Retention retention = {};
    std::vector<BoxData> boxes;              // of this rank, in live memory
    std::vector<std::byte*> snapshot;        // plan_snapshot of them; empty: only save_now is used
    std::function<double()> now = {};        // seconds, for any thread; nothing: the steady clock
    std::function<void()> may_publish = {};  // asked right before the rename, on rank 0's thread; throws Error if not
  };
  CheckpointSaver(CheckpointStore store, Comm& comm, const Stream& stream, Options options);
  // Waits for this rank's thread; what was not published is left to be swept.
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;

  bool busy() const;
  // Seconds of work, of the slowest rank, on the save that goes on, until now; 0: none does.
  double busy_so_far() const;
  // Copies the state and begins to write it. `texts` are files that travel along, as {name, content}. REQUIRES !busy().
  // A failure before anything is written (no space) is the result; otherwise nothing, and poll will tell.
  std::optional<SaveResult> start(const RunState& state, std::vector<std::pair<std::string, std::string>> texts);
  // Between two steps: moves the save on, and returns its result when it is over. Where the next one is due, one that
  // is written and only has to be published is waited for: that is little, and the next one is not passed over for it.
  std::optional<SaveResult> poll(bool next_is_due = false);
  // Waits until the save that goes on is over; nothing when none does.
  std::optional<SaveResult> finish();
  // Writes from live memory and returns when it is published.
  SaveResult save_now(const RunState& state, std::vector<std::pair<std::string, std::string>> texts);

 private:
  struct Job;
  std::optional<SaveResult> begin(const RunState& state, std::vector<std::pair<std::string, std::string>> texts,
                                  bool copied);
  std::optional<SaveResult> move_on(bool wait);
  SaveResult over(std::optional<Error> error);

  const CheckpointStore store_;
  Comm& comm_;
  const Stream& stream_;
  const Options options_;
  const std::function<double()> now_;
  std::unique_ptr<Job> job_;
};

}  // namespace tael
