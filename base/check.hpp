// Failure: the exit codes of the program, the one exception type that carries them, and checks.
//
// Error is for people: bad input, missing files, impossible plans. Its text is one clear line and its code is
// what the process returns. CHECK is for us: a broken invariant, always on, reported as an internal error (70)
// with file and line. DCHECK is CHECK in debug builds only. Exceptions are thrown while a run is assembled and at
// room borders, never from inside a kernel.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace tael {

enum class Exit : int {
  done = 0,
  run_failed = 1,         // ended by its numbers: non-finite loss
  usage = 2,              // the command line
  bad_data = 65,          // input data or a damaged checkpoint
  missing_resource = 69,  // GPU, NCCL, or a command that is not built yet
  internal = 70,
  peer_lost = 71,
  io = 74,
  requeue = 75,  // stopped on request, checkpoint complete
  budget = 76,
  locked = 77,
  bad_config = 78,
};

class Error : public std::runtime_error {
 public:
  Error(Exit code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Exit code() const { return code_; }

 private:
  Exit code_;
};

// Throws Error with a formatted message: fail(Exit::bad_data, "{}: empty file", path).
template <class... Args>
[[noreturn]] void fail(Exit code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

namespace detail {
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& detail);
inline std::string check_detail() { return {}; }
template <class... Args>
std::string check_detail(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace detail

// CHECK(rows > 0, "rows {}", rows): an invariant of the program itself. The values are optional.
#define CHECK(condition, ...)                                                                                  \
  do {                                                                                                         \
    if (!(condition)) [[unlikely]]                                                                             \
      ::tael::detail::check_failed(__FILE__, __LINE__, #condition, ::tael::detail::check_detail(__VA_ARGS__)); \
  } while (false)

#ifdef NDEBUG
#define DCHECK(condition, ...) \
  do {                         \
  } while (false)
#else
#define DCHECK(condition, ...) CHECK(condition __VA_OPT__(, ) __VA_ARGS__)
#endif

}  // namespace tael
