// RUN/checkpoints: complete checkpoints under step-00000100, and the protocol by which they appear and go.
//
// A checkpoint is made under tmp-STEP-ATTEMPT and renamed when everything in it is on the disk, so that a kill or a
// power cut at any instant leaves either all of it or nothing; `latest` names the newest for people and scripts, but
// who loads looks for himself. What is deleted is renamed first, so that no half-deleted checkpoint looks like one.
// Only the owner of the run directory's lock calls what changes anything (trainer/run_lock.hpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/manifest.hpp"

namespace tael {

struct Retention {
  int64_t keep = 3;  // the newest that stay; at least 1
  std::optional<int64_t> milestone_interval =
      std::nullopt;          // tokens: the first checkpoint of each such interval stays for ever
  int64_t begin_tokens = 0;  // with which the run began: a branch has no part in the interval that it began in
};

class CheckpointStore {
 public:
  explicit CheckpointStore(std::string directory) : directory_(std::move(directory)) {}

  const std::string& directory() const { return directory_; }
  static std::string name(int64_t step);  // "step-00000100"
  static bool is_name(const std::string& name);
  std::string path(int64_t step) const { return directory_ + "/" + name(step); }
  // Steps of the complete checkpoints, ascending. A directory that is not there has none.
  std::vector<int64_t> steps() const;
  // The same, and those that have lost their manifest since: a rename published them whole, so they are damaged.
  std::vector<int64_t> published() const;
  // The newest checkpoint whose manifest can be read, and what it knows; damage is not said here. Nothing: there is
  // none.
  std::optional<Checkpoint> newest() const;
  std::optional<RunState> newest_state() const;

  // Where the checkpoint of a step is prepared. begin makes it, empty, after Error(io) unless the disk has room for
  // `bytes` more.
  std::string prepared_path(int64_t step, int64_t attempt) const;
  void begin(int64_t step, int64_t attempt, uint64_t bytes) const;
  // All shards are on the disk: writes the manifest and makes the checkpoint the newest.
  void commit(const Manifest& manifest) const;
  // What follows: `latest` names it, and what `retention` does not keep is deleted; never the newest, and never what
  // was saved as a milestone. What is no checkpoint of a training, or has a damaged manifest, or another step's name,
  // stays and takes no place of those that are kept. Returns what could not be done, for people, or nothing: the
  // checkpoint stands all the same, and a `latest` that could not be written is not there.
  std::string settle(const Retention& retention) const;
  void abandon(int64_t step, int64_t attempt) const noexcept;

  // Puts a damaged checkpoint aside, so that its step can be saved again. Returns where it is now.
  std::string set_aside(int64_t step) const;
  // Removes what dead attempts left half-done, a stale `latest` included.
  void sweep() const;
  // Whether a checkpoint of this state, once it is there, is the first of its interval.
  bool is_milestone(const RunState& state, const Retention& retention) const;

 private:
  void retain(const Retention& retention) const;
  void remove(int64_t step) const;
  void write_latest() const;
  std::optional<int64_t> newest_own() const;
  std::optional<int64_t> hint() const;
  // Of a training's checkpoint whose manifest can be read; nothing for anything else.
  std::optional<RunState> own_state(int64_t step) const;

  std::string directory_;
};

// Which of these checkpoints, in ascending order of steps, `retention` keeps.
struct Retained {
  int64_t tokens = 0;
  bool milestone = false;
};
std::vector<bool> kept(const std::vector<Retained>& checkpoints, const Retention& retention);

}  // namespace tael
