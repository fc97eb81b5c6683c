// Sums over the data ranks: gradients, token counts of experts, losses.
//
// canonical  The tree of parallel/lanes.hpp continued over ranks: the result has the same bits for every number of
// ranks
//            that divides the lanes. Reduce-scatter by recursive distance doubling (distance 1 first, so that
//            neighbours add first; halves, quarters, ...), then all-gather in reverse. Each rank sends and receives 2 n
//            (1 - 1/R) floats, as in the best known algorithms. R is a power of two.
// fast       The backend's own all-reduce, any number of ranks, any order.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/arena.hpp"
#include "base/stream.hpp"
#include "base/view.hpp"
#include "parallel/comm.hpp"

namespace tael {

enum class SumOrder : uint8_t { canonical, fast };

std::string_view name_of(SumOrder order);

// Scratch of reduce_gradients. A gradient goes in pieces of twice its size, so that it stays small: pieces of 8 MiB are
// long enough for any wire. Empty for one rank and under `fast`.
struct GradReduceScratch {
  Vec<float> received;
};
inline constexpr int64_t kGradReducePiece = int64_t{2} << 20;  // floats
GradReduceScratch plan_grad_reduce(Arena& arena, SumOrder order, int64_t elements, int ranks,
                                   int64_t piece = kGradReducePiece);

// Collective, in place: afterwards every rank holds the sum over ranks. Not a mean: the loss is divided by the global
// number of tokens before backward.
void reduce_gradients(const Stream& stream, Comm& comm, SumOrder order, const GradReduceScratch& scratch,
                      Vec<float> grads);

// Collective. lane_values_LV: one row per lane of this rank, in lane order, one column per quantity (loss, MTP loss,
// ...). sums_V[v] = the sum of column v over the lanes of all ranks, by the tree of lanes. Every rank brings equally
// many rows; without lanes a rank brings one. all_LV is scratch with size() * lanes rows and V columns, contiguous as
// the input is.
void sum_lane_values(Comm& comm, Mat<const double> lane_values_LV, Mat<double> all_LV, Vec<double> sums_V);

// Collective, in place, exact: the counts of the whole global batch.
void sum_counts(Comm& comm, Vec<int64_t> counts);

}  // namespace tael
