// What the machine says of itself: memory, and the arithmetic that it could do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/stream.hpp"

namespace tael {

// Ticks since boot at which a process began: with its number its identity, as numbers are used again. Nothing: there is
// none, or it only waits to be forgotten.
std::optional<uint64_t> process_start_ticks(int64_t pid);

// This program as the system counts it, in bytes: now, and at its largest so far.
size_t resident_bytes();
size_t peak_resident_bytes();
// Memory that the control groups of this process leave it, in bytes: a container, a Slurm job, a systemd service. The
// least, over its own group and all above it, of the limit less what is used beside file cache. Nothing: no limit.
// `membership` and `root` are files of the kernel: which groups, of version 1 and 2, and what they say.
std::optional<size_t> group_bytes_left(const std::string& membership = "/proc/self/cgroup",
                                       const std::string& root = "/sys/fs/cgroup");
// Memory that the system could still give to this process, in bytes: what is free, or what its control groups leave if
// that is less. 0 where it does not say.
size_t available_bytes();
// All memory of the machine in bytes; 0 where it does not say.
size_t total_bytes();
// Error(bad_config) where `ranks` ranks of a host cannot have `bytes` each: "WHAT does not fit: ...; ADVICE". The host
// has `node_bytes` for them; 0: it is this one, and has what is available.
void require_memory(size_t bytes, int ranks, std::string_view what, std::string_view advice, size_t node_bytes = 0);

// Multiply-adds that the stream's threads can do, in FLOP/s, by a loop that touches registers only
// (kernels/fma_peak.hpp). Takes a quarter of a second: the best of many short runs, as others may use the machine.
double multiply_add_peak(const Stream& stream);

}  // namespace tael
