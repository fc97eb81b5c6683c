// The tables of the rotary embedding and the scale of attention, which YaRN changes together.
//
// Plain: angle j of position s is s * theta^(-2j / R). YaRN (arXiv 2309.00071 as the released modelling code has it):
// low dimensions keep their frequency, high ones are divided by `factor`, a linear ramp between the two correction
// dimensions; attention's scale is multiplied by mscale(factor, mscale_all_dim)^2 and the tables by
// mscale(factor, mscale) / mscale(factor, mscale_all_dim), with mscale(s, m) = 0.1 m ln s + 1.
#pragma once

#include <vector>

#include "base/arena.hpp"
#include "model/shape.hpp"

namespace tael {

struct RotaryTable {
  Mat<float> cos_SJ, sin_SJ;  // [positions, R / 2]
};

std::vector<double> rotary_frequencies(const ModelShape& shape);  // R / 2 values
double rotary_table_factor(const ModelShape& shape);
double attention_scale(const ModelShape& shape);

RotaryTable plan_rotary(Arena& arena, const ModelShape& shape, int64_t positions);
void fill_rotary(const RotaryTable& table, const ModelShape& shape);

}  // namespace tael
