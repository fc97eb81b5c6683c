// RUN/: what a run leaves behind. Made by rank 0 when everything else is ready; from then on it is the record.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cost/ledger.hpp"
#include "trainer/config.hpp"
#include "trainer/execution.hpp"

namespace tael {

// What env.json holds: the program as it was built, the machine, the command.
struct Environment {
  std::vector<std::string> command;
  std::vector<std::string> hosts;  // one per rank
  Execution execution;
  int ranks = 1;
  std::vector<std::string> data;                       // digests of the training shards, in the order of data.train
  std::vector<std::string> valid_data;                 // and of the held-out ones
  std::vector<std::pair<std::string, size_t>> memory;  // planned bytes of rank 0 by kind, sums at the end
  std::string job = {};                                // the scheduler's number of the job; empty: none
  std::string tokenizer = {};                          // that the shards say; empty: they are numbers
  AttemptConditions conditions = {};                   // for the ledger
  std::string branched_from = {};                      // the checkpoint of another run that this run began from
};

std::string host_name();
std::string cpu_model();
std::string build_line();  // "tael 0.1.0, Release, gcc 12.2.0, commit ..."

// The digests that a run's env.json has; nothing: there is no such file, or it says nothing of data.
std::optional<std::vector<std::string>> read_data_digests(const std::string& run_directory);

class RunDirectory {
 public:
  // What is at the path before a run begins: nothing (or an empty directory, or what `tael submit` put there, or STOP),
  // or a run.
  enum class Found : uint8_t { nothing, run };
  // Error(bad_config) for anything else that is there; Error(io) where a directory could not be made.
  static Found look(const std::string& path);

  // Makes the directory, or takes the one that is there.
  explicit RunDirectory(const std::string& path);
  // config.yaml and env.json of the attempt that begins. Only the owner of the lock writes.
  void describe(const LoadedConfig& loaded, const Environment& environment, int64_t attempt) const;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  // Removes what a killed owner left half-written. Only the owner of the lock does.
  void sweep() const;
  // Removes a run directory in which nothing is: of a start that failed before it had its lock.
  static void forget(const std::string& path);
  bool stop_requested() const;  // RUN/STOP is there
  void remove_stop() const;

 private:
  std::string path_;
};

}  // namespace tael
