// How a rank uses its machine: with how many threads and which instructions.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/stream.hpp"
#include "parallel/comm.hpp"

namespace tael {

struct Execution {
  int threads = 1;
  Isa isa = Isa::portable;
};

// threads: as given, else the processors that the launcher bound this rank to, shared evenly with the ranks of this
// host that are bound to the same ones. isa: as given, else the least that all ranks have. Collective.
// Error(missing_resource): an instruction set that this machine lacks.
Execution choose_execution(Comm& comm, std::optional<int64_t> threads, std::string_view isa);

}  // namespace tael
