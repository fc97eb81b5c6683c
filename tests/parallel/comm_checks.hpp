// What every backend of the communicator must do, run on every rank of a world: threads, MPI, one rank.
#pragma once

#include "parallel/comm.hpp"

namespace tael::testing {

// All operations, with sizes from nothing to a megabyte. Collective. Failures are EXPECTs, so that no rank stops early.
void check_operations(Comm& comm);

// Sums across ranks against the serial tree, bit for bit, on odd sizes; the same digest for every number of ranks that
// divides 8. Collective.
uint64_t check_canonical_sums(Comm& comm);

}  // namespace tael::testing
