// What a rank owns of the parameter table. With data parallelism alone that is every tensor, whole; when tensors are
// spread over ranks, this is the one place that says which rows are whose, and gradients, norms, the optimizer, the
// memory plan and checkpoints read it from here.
#pragma once

#include <vector>

#include "model/param_table.hpp"
#include "optim/param_span.hpp"
#include "parallel/lanes.hpp"

namespace tael {

// In table order.
inline std::vector<ParamSpan> owned_spans(const ParamTable& table) {
  std::vector<ParamSpan> spans;
  for (const ParamSpec& spec : table.params)
    spans.push_back({.offset = spec.offset, .rows = spec.rows, .cols = spec.cols, .decay = spec.decays()});
  return spans;
}

inline LaneLayout lane_layout(const ParamTable& table, int lanes) {
  return {
      .elements = table.size(), .gradient_size = table.gradient_size(), .lanes = lanes, .extra_uses = table.extra_uses};
}

}  // namespace tael
