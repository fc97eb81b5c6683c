// The batch script of a run under Slurm: what the command line asks of Slurm, and the text that sbatch reads.
//
// The script starts one launcher in the background, hands USR1 on to it, and waits for its real exit code. 75 (stopped
// with a complete checkpoint) puts the job back into the queue as the script's last act; any other code is the job's.
// It is read by people before it is run: one thought a paragraph, the command on lines of its own.
//
// In the run directory it uses RUN/submit.sh for itself and RUN/log/ for its output; whoever makes run directories
// takes one that holds nothing else for a new one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tael {

// One line "#SBATCH --key=value", or "#SBATCH --key" where there is no value.
struct SlurmOption {
  std::string key;
  std::optional<std::string> value;
  bool operator==(const SlurmOption&) const = default;
};

// The words of a command line that are for Slurm and not for the configuration.
struct SlurmRequest {
  std::optional<double> time_limit_seconds;
  std::vector<SlurmOption> options;                     // in the order given, later ones stronger
  const SlurmOption* find(std::string_view key) const;  // the last of that key; nullptr: not asked for
};

// Takes `time_limit=20h` and `slurm.KEY=value` out of `words` and leaves the others in their order. `true` asks for an
// option without a value, `false` for nothing. Error(bad_config): no duration; a key that is no name of an option, or
// that this script sets itself; a value that could end its line or its quotes.
SlurmRequest take_slurm_request(std::vector<std::string>& words);

// Bytes that the request gives the ranks of a node: slurm.mem, or slurm.mem-per-cpu for as many processors as are asked
// for. Nothing where it does not say (slurm.mem=0 means all there is, and without a number of processors nobody knows).
// Error(bad_config): no size as Slurm writes them (64G, 8000).
std::optional<size_t> requested_node_bytes(const SlurmRequest& request, std::optional<int64_t> processors);

enum class Launcher : uint8_t { mpirun, srun };

struct SlurmScript {
  std::string program, version;    // the executable, and what it says of itself
  std::vector<std::string> words;  // the configuration and its overrides, as they were typed
  std::string directory, run;      // absolute: the working directory, the run directory
  int64_t nodes = 1, ranks_per_node = 1;
  std::optional<int64_t> threads_per_rank;  // nothing: the whole node is asked for, and its ranks share it
  int64_t minutes = 1;                      // of the time limit
  int64_t signal_seconds = 60;              // USR1 comes so long before it
  Launcher launcher = Launcher::mpirun;
  std::vector<SlurmOption> options;
};

// Error(bad_config): a run directory whose path cannot stand in a line of sbatch.
std::string slurm_script(const SlurmScript& script);

// Slurm's way to write a time limit: 20:00:00, 1-04:00:00.
std::string slurm_time(int64_t minutes);
// A word of a shell command, in quotes where it needs them.
std::string shell_quoted(std::string_view word);

}  // namespace tael
