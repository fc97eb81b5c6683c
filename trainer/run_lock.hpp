// A run directory belongs to one job at a time. RUN/attempts/00000003.json is the third start of the run: who it is,
// and how it ended. The highest number owns the directory while its process lives.
//
// - A number is taken by linking a complete file to its name, which only one of many can do, on network file systems
//   too. So of any number of jobs that start at once exactly one wins.
// - The owner of the last number lives: on the same machine (same boot, same space of process numbers) if its process
//   does; from elsewhere if the count in NNNNNNNN.alive, which it raises every kBeatSeconds, moves within
//   kLeaseSeconds. No two clocks are compared.
// - An owner that was frozen while somebody took over finds a higher number and must leave without publishing anything:
//   owned() says so, and is asked before every step, every rename and whatever else changes a file of the run.
// Rank 0 alone holds a lock.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.hpp"

namespace tael {

// Where a process lives. Two processes with equal machine can look at each other's process numbers.
struct ProcessIdentity {
  std::string host;     // for people
  std::string machine;  // boot id and name space of process numbers
  int64_t pid = 0;
  uint64_t started = 0;  // in ticks since boot: a number that is used again is another process
  std::string job;       // the scheduler's, or empty
};
ProcessIdentity this_process(std::string job);

struct AttemptRecord {
  int64_t attempt = 0;
  ProcessIdentity owner;
  int64_t ranks = 0;
  std::vector<std::string> hosts;
  std::string branched_from;  // the checkpoint of another run that this run began from; empty: none
  std::string began;          // ISO 8601
  std::string ended;          // empty: not, as far as it could say
  int exit_code = 0;
  std::string reason;  // why it ended: done, stopped, budget, failed: ...
};
// All attempts of a run, ascending. A directory without any has none. Error(bad_data) for a damaged record.
std::vector<AttemptRecord> read_attempts(const std::string& run_directory);
bool has_attempts(const std::string& run_directory);
// The checkpoint of another run that this one began from; empty: none. What the first attempt did counts: a later one
// may have been refused.
std::string branch_origin(const std::string& run_directory);

// What an owner says that finds itself replaced.
Error was_taken_over(const std::string& run_directory);

struct LockTiming {
  double lease_seconds = 30;
  double look_seconds = 0.25;  // between two looks at a foreign owner's count
};

class RunLock {
 public:
  static constexpr double kBeatSeconds = 5;

  // Takes the next number of a run directory that exists. Error(locked) naming the holder if its owner lives. Waits up
  // to the lease when the last owner was on another machine and did not say that it ended. `record` without number and
  // begin.
  static RunLock acquire(const std::string& run_directory, AttemptRecord record, const LockTiming& timing = {});
  RunLock(RunLock&&) = default;

  int64_t attempt() const { return record_.attempt; }
  const AttemptRecord& record() const { return record_; }
  // What was said of the owner before: empty, or "attempt 2 (host, process 123) is gone without a word".
  const std::string& note() const { return note_; }

  bool owned() const;
  void require_owned() const;  // Error(locked): was_taken_over
  void beat();                 // raises the count, while owned
  // The attempt is over; the directory is free.
  void release(int exit_code, std::string_view reason);

 private:
  RunLock() = default;

  std::string directory_;  // RUN/attempts
  AttemptRecord record_;
  std::string note_;
  uint64_t count_ = 0;
};

}  // namespace tael
