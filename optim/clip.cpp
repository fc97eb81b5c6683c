#include "optim/clip.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/squared_norm.hpp"

namespace tael {

Vec<double> plan_global_norm(Arena& arena, const std::vector<ParamSpan>& spans) {
  int64_t rows = 0;
  for (const ParamSpan& span : spans) rows = std::max(rows, span.rows);
  return arena.vec<double>(rows);
}

double global_norm(const Stream& stream, const std::vector<ParamSpan>& spans, Vec<const float> grads,
                   Vec<double> row_sums) {
  double sum = 0.0;
  for (const ParamSpan& span : spans) {
    CHECK(span.offset >= 0 && span.end() <= grads.size() && span.rows <= row_sums.size(),
          "{} x {} at {} of {} gradients, {} row sums", span.rows, span.cols, span.offset, grads.size(),
          row_sums.size());
    squared_norm(stream,
                 {.sum_M = vec(row_sums.data, span.rows), .x_MN = mat(grads.data + span.offset, span.rows, span.cols)});
    stream.synchronize();
    for (int64_t r = 0; r < span.rows; ++r) sum += row_sums(r);
  }
  return std::sqrt(sum);
}

double clip_factor(double norm, double max_norm) {
  if (max_norm <= 0.0) return 1.0;
  return std::min(1.0, max_norm / (norm + 1e-6));
}

}  // namespace tael
