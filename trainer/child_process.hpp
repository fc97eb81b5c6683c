// Another program, run to its end with its output read: Slurm's commands.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tael {

struct ProgramAnswer {
  bool found = true;  // false: there is no such program on PATH; the rest means nothing
  int code = 0;       // exit code, or 128 + the signal that ended it
  std::string out, err;
};

// words[0] is looked for on PATH. The program has this environment, no input, default signals, and, not 0, this soft
// limit of open files. REQUIRES that no other thread waits for children. Error(io): the system cannot start anything.
ProgramAnswer run_program(const std::vector<std::string>& words, uint64_t open_files = 0);

}  // namespace tael
