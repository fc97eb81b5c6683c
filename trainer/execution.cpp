#include "trainer/execution.hpp"

#include <sched.h>

#include <algorithm>
#include <string>
#include <vector>

#include "parallel/agree.hpp"

namespace tael {

namespace {

// The processors this process may run on, as text that is equal for equal sets.
std::string processors(int& count) {
  cpu_set_t set;
  CPU_ZERO(&set);
  count = 1;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return "unknown";
  count = CPU_COUNT(&set);
  std::string text;
  for (int i = 0; i < CPU_SETSIZE; ++i) text += CPU_ISSET(i, &set) ? '1' : '0';
  return text;
}

}  // namespace

Execution choose_execution(Comm& comm, std::optional<int64_t> threads, std::string_view isa) {
  Execution execution;
  int count = 1;
  const std::vector<std::string> all = comm.all_gather_text(processors(count));
  int sharing = 0;
  for (int r = 0; r < comm.size(); ++r) {
    const bool same_host = comm.host_of(r) == comm.host_of(comm.rank());
    sharing += same_host && all[static_cast<size_t>(r)] == all[static_cast<size_t>(comm.rank())] ? 1 : 0;
  }
  execution.threads = threads ? static_cast<int>(*threads) : std::max(1, count / std::max(1, sharing));

  int64_t least = static_cast<int64_t>(best_isa());
  comm.all_reduce({&least, 1}, ReduceOp::min);
  execution.isa = static_cast<Isa>(least);
  agreed(comm, [&] {
    if (isa == "auto") return;
    CHECK(isa_from_name(isa, execution.isa), "instruction set {}", isa);
    if (!machine_has(execution.isa))
      fail(Exit::missing_resource, "cluster.cpu_isa: this machine has no {}; its best is {}", isa, name_of(best_isa()));
  });
  return execution;
}

}  // namespace tael
