#include "trainer/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>

#include "base/check.hpp"

namespace tael {

namespace {

[[noreturn]] void refused(const std::string& program, const char* what) {
  fail(Exit::io, "{}: {}: {}", program, what, std::generic_category().message(errno));
}

// Both ends close themselves in the program that is started.
struct Pipe {
  int read = -1, write = -1;
  explicit Pipe(const std::string& program) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) refused(program, "cannot make a pipe");
    read = ends[0];
    write = ends[1];
  }
  ~Pipe() {
    close_write();
    ::close(read);
  }
  Pipe(const Pipe&) = delete;
  void close_write() {
    if (write >= 0) ::close(write);
    write = -1;
  }
};

// After fork: only calls that are safe there.
[[noreturn]] void become(char* const* words, int out, int err, int failure, uint64_t open_files) {
  rlimit files{};
  if (open_files != 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = open_files;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  for (const int number : {SIGPIPE, SIGXFSZ, SIGINT}) std::signal(number, SIG_DFL);
  const int nothing = open("/dev/null", O_RDONLY);
  if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
      dup2(err, STDERR_FILENO) >= 0)
    execvp(words[0], words);
  const int why = errno;
  const ssize_t told = write(failure, &why, sizeof why);
  _exit(told == sizeof why ? 127 : 126);
}

void read_both(const Pipe& out, const Pipe& err, ProgramAnswer& answer) {
  std::array<pollfd, 2> ends = {{{out.read, POLLIN, 0}, {err.read, POLLIN, 0}}};
  std::array<std::string*, 2> texts = {&answer.out, &answer.err};
  while (ends[0].fd >= 0 || ends[1].fd >= 0) {
    if (poll(ends.data(), ends.size(), -1) < 0 && errno != EINTR) break;
    for (size_t i = 0; i < ends.size(); ++i) {
      if (ends[i].fd < 0 || ends[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t got = read(ends[i].fd, buffer, sizeof buffer);
      if (got > 0) texts[i]->append(buffer, static_cast<size_t>(got));
      if (got == 0 || (got < 0 && errno != EINTR)) ends[i].fd = -1;
    }
  }
}

}  // namespace

ProgramAnswer run_program(const std::vector<std::string>& words, uint64_t open_files) {
  CHECK(!words.empty());
  std::vector<char*> raw;
  for (const std::string& word : words) raw.push_back(const_cast<char*>(word.c_str()));
  raw.push_back(nullptr);
  Pipe out(words[0]), err(words[0]), failure(words[0]);
  const pid_t child = fork();
  if (child < 0) refused(words[0], "cannot start a process");
  if (child == 0) become(raw.data(), out.write, err.write, failure.write, open_files);
  out.close_write();
  err.close_write();
  failure.close_write();
  ProgramAnswer answer;
  int why = 0;
  const bool started = read(failure.read, &why, sizeof why) != sizeof why;
  if (started) read_both(out, err, answer);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!started) {
    errno = why;
    if (why != ENOENT && why != EACCES && why != ENOTDIR) refused(words[0], "cannot be started");
    answer.found = false;
    return answer;
  }
  answer.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return answer;
}

}  // namespace tael
