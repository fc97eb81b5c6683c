#include "cost/machine.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "base/check.hpp"
#include "kernels/fma_peak.hpp"

namespace tael {

std::optional<uint64_t> process_start_ticks(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  const std::string stat((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = stat.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string state, field;
  fields >> state;
  for (int i = 4; i <= 22; ++i) fields >> field;
  uint64_t ticks = 0;
  const auto [at, error] = std::from_chars(field.data(), field.data() + field.size(), ticks);
  if (error != std::errc() || state == "Z" || state == "X") return std::nullopt;
  return ticks;
}

size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  size_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

namespace {

// The line `wanted` of a file of the kernel that counts in KiB ("VmHWM:  1234 kB"), in bytes; 0: not there.
size_t kib_line(const char* path, std::string_view wanted) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(wanted)) continue;
    return std::strtoull(line.c_str() + wanted.size(), nullptr, 10) * 1024;
  }
  return 0;
}

}  // namespace

size_t peak_resident_bytes() {
  // What getrusage says is also of the program that this process was before its exec: of a launcher, of a shell.
  if (const size_t peak = kib_line("/proc/self/status", "VmHWM:"); peak > 0) return peak;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

size_t available_bytes() { return kib_line("/proc/meminfo", "MemAvailable:"); }

size_t total_bytes() { return kib_line("/proc/meminfo", "MemTotal:"); }

void require_memory(size_t bytes, int ranks, std::string_view what, std::string_view advice, size_t node_bytes) {
  constexpr double kMib = 1 << 20;
  const size_t available = node_bytes > 0 ? node_bytes : available_bytes(), needed = bytes * static_cast<size_t>(ranks);
  if (available == 0 || needed <= available) return;
  fail(Exit::bad_config, "{} does not fit: {} rank{} on {} host need{} {:.0f} MiB, {:.0f} MiB are {}; {}", what, ranks,
       ranks == 1 ? "" : "s", node_bytes > 0 ? "a" : "this", ranks == 1 ? "s" : "", static_cast<double>(needed) / kMib,
       static_cast<double>(available) / kMib, node_bytes > 0 ? "there" : "free", advice);
}

double multiply_add_peak(const Stream& stream) {
  double peak = 0;
  fma_peak(stream, {.flops_per_second = &peak, .seconds = 0.01, .repeats = 25});
  return peak;
}

}  // namespace tael
