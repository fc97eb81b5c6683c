// A program that fails in a chosen way on a chosen rank: what mpirun then returns and prints is tested by
// mpi_exit_test.cpp. Usage: mpi_exit_probe agreed|alone|escape RANK CODE (RANK -1: every rank).
#include <fmt/core.h>

#include <cstdlib>
#include <string_view>

#include "base/print.hpp"
#include "parallel/agree.hpp"
#include "parallel/comm.hpp"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const std::string_view way = argv[1];
  const int failing = std::atoi(argv[2]);
  const auto code = static_cast<tael::Exit>(std::atoi(argv[3]));
  const auto report = [](std::string_view line) { tael::print_to(stderr, "probe: {}\n", line); };
  auto comm = tael::make_comm(tael::CommKind::mpi);
  const auto break_here = [&] {
    if (failing == -1 || comm->rank() == failing) tael::fail(code, "broken on purpose");
  };
  if (way == "escape") {  // an error that nobody catches before the communicator goes: nobody may hang
    try {
      const std::unique_ptr<tael::Comm> local = std::move(comm);
      if (local->rank() == failing) tael::fail(code, "broken on purpose");
      local->barrier();
    } catch (const tael::Error&) {
      return static_cast<int>(code);
    }
    return 0;
  }
  return tael::run_rank(
      *comm,
      [&] {
        if (way == "agreed") tael::agreed(*comm, break_here);
        if (way == "alone") break_here();
        comm->barrier();
        return 0;
      },
      report);
}
