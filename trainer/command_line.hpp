// The command line: verbs, their flags and their help. Turns words into option structs and calls the commands.
//
// Exit codes are those of base/check.hpp. A verb of the contract that is not built yet says so and returns 69.
#pragma once

#include <csignal>
#include <functional>
#include <string>

namespace tael {

// What only main may look at: the environment and signals.
struct Process {
  std::function<const char*(const char* name)> environment;  // getenv
  const volatile std::sig_atomic_t* interrupted = nullptr;   // Ctrl-C, TERM or USR1 came
  void (*catch_interrupts)() = nullptr;  // from now on they only set `interrupted` (a second Ctrl-C or TERM ends)
  std::string program;                   // path of the executable
  uint64_t open_files = 0;               // that it was given as its soft limit, before main raised it
};

int run_command_line(int argc, char** argv, const Process& process);

}  // namespace tael
