// The door through which a layer that tensor parallelism would split makes its sums whole.
//
// A split sum is computed in `segments` pieces (kernels/gemm.hpp) and joined by the tree. Here every piece is computed
// by this rank; when heads and widths are spread over ranks, a rank computes its own pieces and this is where the
// others' arrive. Layers only ever say: pieces of this result, now join them.
#pragma once

#include "kernels/pieces.hpp"
#include "model/context.hpp"

namespace tael {

// The pieces of a result `y` that is still to be summed. Lives in scratch until the caller's ArenaScope ends; with one
// segment and nothing to add to it is y itself.
class SplitSum {
 public:
  // y = base + sum; base may be y, or empty for nothing.
  SplitSum(Context& context, Mat<float> y, Mat<const float> base = {})
      : context_(context),
        y_(y),
        base_(base),
        in_place_(context.segments == 1 && !base),
        pieces_(in_place_ ? one_piece(y) : context.scratch.cube<float>(context.segments, y.dim[0], y.dim[1])) {}
  Cube<float> pieces() const { return pieces_; }
  void join() const {
    if (in_place_) return;
    join_pieces(context_.stream, {.y_MN = y_, .base_MN = base_, .x_PMN = pieces_});
  }

 private:
  Context& context_;
  Mat<float> y_;
  Mat<const float> base_;
  bool in_place_;
  Cube<float> pieces_;
};

}  // namespace tael
