// How many multiply-adds this machine can do: a loop that touches registers only, on every thread of the pool at once.
// The model's FLOPs utilisation (MFU) is measured against it.
//
// The rate is the sum over threads of each one's own, by the wall clock, so threads that share a core or a core that is
// shared with somebody else count for what they get; the best of `repeats` short runs is taken. A multiply-add is 2
// FLOPs. Takes about repeats * seconds.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

struct FmaPeak {
  double* flops_per_second;
  double seconds = 0.01;  // of one run
  int repeats = 5;
};

void fma_peak(const Stream& stream, const FmaPeak& args);

}  // namespace tael
