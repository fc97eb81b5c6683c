// What a run says about itself before the first step: where it works, what it trains on what, and the memory it will
// take.
#pragma once

#include "trainer/assemble.hpp"
#include "trainer/console.hpp"

namespace tael {

void print_start(Console& console, const Run& run);
void print_peak(Console& console, const Run& run, double flops_per_second_per_rank);

// Bytes that all ranks together send for the gradients of one step (parallel/grad_reduce.hpp; under `fast` what a ring
// sends), divided by whether the partner is on the same host.
struct WireBytes {
  int64_t between_hosts = 0, within_host = 0;
};
WireBytes gradient_bytes(const Run& run);

}  // namespace tael
