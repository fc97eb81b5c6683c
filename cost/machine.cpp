#include "cost/machine.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
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

namespace {

std::optional<uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // no such file, or "max"
}

// What the files of one version of control groups are called.
struct GroupFiles {
  const char *limit, *used, *inactive_cache, *active_cache;
};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                                  "total_active_file"};
constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file", "active_file"};

std::optional<size_t> bytes_left_in(const std::string& group, const GroupFiles& files) {
  const std::optional<uint64_t> limit = number_in(group + "/" + files.limit),
                                used = number_in(group + "/" + files.used);
  constexpr uint64_t kNoLimit = uint64_t{1} << 60;  // version 1 writes the largest number of whole pages
  if (!limit || !used || *limit >= kNoLimit) return std::nullopt;
  uint64_t cache = 0, value = 0;
  std::ifstream stat(group + "/memory.stat");
  for (std::string name; stat >> name >> value;)
    if (name == files.inactive_cache || name == files.active_cache) cache += value;
  const uint64_t held = *used - std::min(*used, cache);
  return *limit - std::min(*limit, held);
}

}  // namespace

std::optional<size_t> group_bytes_left(const std::string& membership, const std::string& root) {
  std::optional<size_t> left;
  // Inside a container the path may be the host's: then only its end, the container's own root, is there to be read.
  const auto look_from = [&](const std::string& top, std::string group, const GroupFiles& files) {
    while (true) {
      const std::optional<size_t> here = bytes_left_in(top + group, files);
      if (here && (!left || *here < *left)) left = here;
      if (group.empty() || group == "/") return;
      group.resize(group.rfind('/'));
    }
  };
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {  // "4:cpu,memory:/a/b"; version 2: "0::/a/b"
    const size_t names = line.find(':'), path = line.find(':', names + 1);
    if (names == std::string::npos || path == std::string::npos || !line.substr(path + 1).starts_with('/')) continue;
    const std::string controllers = fmt::format(",{},", line.substr(names + 1, path - names - 1)),
                      group = line.substr(path + 1);
    if (controllers == ",,") {
      look_from(root, group, kVersion2);
      look_from(root + "/unified", group, kVersion2);
    } else if (controllers.find(",memory,") != std::string::npos) {
      look_from(root + "/memory", group, kVersion1);
    }
  }
  return left;
}

size_t available_bytes() {
  const size_t free = kib_line("/proc/meminfo", "MemAvailable:");
  const std::optional<size_t> left = group_bytes_left();
  if (!left) return free;
  // 0 would say that nothing is known.
  return std::max<size_t>(1, free == 0 ? *left : std::min(free, *left));
}

size_t total_bytes() { return kib_line("/proc/meminfo", "MemTotal:"); }

void require_memory(size_t bytes, int ranks, std::string_view what, std::string_view advice, size_t node_bytes) {
  constexpr double kMib = 1 << 20;
  const size_t available = node_bytes > 0 ? node_bytes : available_bytes(), needed = bytes * static_cast<size_t>(ranks);
  if (available == 0 || needed <= available) return;
  const bool by_group = node_bytes == 0 && group_bytes_left().value_or(needed) <= available;
  fail(Exit::bad_config, "{} does not fit: {} rank{} on {} host need{} {:.0f} MiB, {:.0f} MiB are {}; {}", what, ranks,
       ranks == 1 ? "" : "s", node_bytes > 0 ? "a" : "this", ranks == 1 ? "s" : "", static_cast<double>(needed) / kMib,
       static_cast<double>(available) / kMib,
       node_bytes > 0 ? "there"
       : by_group     ? "left by the limit of its control group (a container, a Slurm job)"
                      : "free",
       advice);
}

double multiply_add_peak(const Stream& stream) {
  double peak = 0;
  fma_peak(stream, {.flops_per_second = &peak, .seconds = 0.01, .repeats = 25});
  return peak;
}

}  // namespace tael
