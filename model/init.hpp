// Initial weights: every matrix normal with ModelShape::initializer_range (DeepSeek-V3 report 4.2: 0.006, not scaled by
// depth), every norm gain 1, gate biases 0. A number depends on the seed, its tensor's name and its place only.
#pragma once

#include "base/stream.hpp"
#include "model/param_table.hpp"

namespace tael {

void init_params(const Stream& stream, const ParamTable& table, uint64_t seed, float* params, float* biases);

}  // namespace tael
