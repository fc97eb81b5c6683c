// A world of ranks of which only the first exists: for planning what a rank of many will take, before any is started.
//
// The other ranks are taken to hold what rank 0 holds: gathers repeat it, reductions of integers act on equal values,
// a partner sends back what it is sent. Nothing waits. What such a world agrees on is what every rank would find alone;
// results of training in it mean nothing.
#pragma once

#include <memory>

#include "parallel/comm.hpp"

namespace tael {

// Ranks 0 to nodes x ranks_per_node - 1, neighbours on one host. REQUIRES both positive and their product an int.
std::unique_ptr<Comm> make_comm_planned(int nodes, int ranks_per_node);

}  // namespace tael
