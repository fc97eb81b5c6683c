#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "base/check.hpp"
#include "trainer/command_line.hpp"

namespace {

// The one thing a signal handler can do safely; written by the handler, read between steps.
volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int signal) {
  static volatile std::sig_atomic_t asked = 0;
  if (asked != 0) _exit(128 + signal);  // asked twice: leave at once
  asked = 1;
  interrupted = 1;
}

// The scheduler's notice, which may come again and again while the step ends and the checkpoint is written, and be
// followed by a TERM that is no second wish.
void on_notice(int) { interrupted = 1; }

void catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  std::signal(SIGUSR1, on_notice);
}

// A file that took the number of a closed stream would be written over by what is said there. Writing to these fails,
// as it does to one that is closed.
void occupy_closed_streams() {
  for (int opened = 0; opened <= STDERR_FILENO;) {
    opened = open("/dev/null", O_RDONLY);
    if (opened > STDERR_FILENO) close(opened);
    if (opened < 0) return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  occupy_closed_streams();
  // A limit on file sizes and a reader that went away are errors of the write, with a message, not a silent death.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  // Every shard of the data stays open, and the usual 1,024 are few.
  rlimit files{};
  uint64_t given = 0;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    given = files.rlim_cur;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  std::error_code ignored;
  return tael::run_command_line(argc, argv,
                                {.environment = [](const char* name) -> const char* { return std::getenv(name); },
                                 .interrupted = &interrupted,
                                 .catch_interrupts = catch_interrupts,
                                 .program = std::filesystem::read_symlink("/proc/self/exe", ignored).string(),
                                 .open_files = given});
}
