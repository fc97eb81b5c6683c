#include "model/rotary.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tael {

namespace {

double mscale(double factor, double m) { return factor <= 1.0 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; }

// The dimension whose wave turns `rotations` times within the original length.
double correction_dim(double rotations, double dim, double base, double length) {
  return dim * std::log(length / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(base));
}

}  // namespace

std::vector<double> rotary_frequencies(const ModelShape& shape) {
  const int64_t dim = shape.qk_rope_head_dim;
  std::vector<double> frequency(static_cast<size_t>(dim / 2));
  for (int64_t j = 0; j < dim / 2; ++j) {
    frequency[static_cast<size_t>(j)] =
        std::pow(shape.rope_theta, -2.0 * static_cast<double>(j) / static_cast<double>(dim));
  }
  if (!shape.rope_scaling) return frequency;
  const RopeScaling& yarn = *shape.rope_scaling;
  const double length = static_cast<double>(yarn.original_max_position_embeddings);
  const double d = static_cast<double>(dim);
  const double low = std::max(std::floor(correction_dim(yarn.beta_fast, d, shape.rope_theta, length)), 0.0);
  double high = std::min(std::ceil(correction_dim(yarn.beta_slow, d, shape.rope_theta, length)), d - 1.0);
  if (low == high) high += 0.001;
  for (int64_t j = 0; j < dim / 2; ++j) {
    double& f = frequency[static_cast<size_t>(j)];
    const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    f = f / yarn.factor * ramp + f * (1.0 - ramp);
  }
  return frequency;
}

double rotary_table_factor(const ModelShape& shape) {
  if (!shape.rope_scaling) return 1.0;
  const RopeScaling& yarn = *shape.rope_scaling;
  return mscale(yarn.factor, yarn.mscale) / mscale(yarn.factor, yarn.mscale_all_dim);
}

double attention_scale(const ModelShape& shape) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(shape.qk_head_dim()));
  if (!shape.rope_scaling) return scale;
  const double m = mscale(shape.rope_scaling->factor, shape.rope_scaling->mscale_all_dim);
  return scale * m * m;
}

RotaryTable plan_rotary(Arena& arena, const ModelShape& shape, int64_t positions) {
  RotaryTable table;
  table.cos_SJ = arena.mat<float>(positions, shape.qk_rope_head_dim / 2);
  table.sin_SJ = arena.mat<float>(positions, shape.qk_rope_head_dim / 2);
  return table;
}

void fill_rotary(const RotaryTable& table, const ModelShape& shape) {
  const std::vector<double> frequency = rotary_frequencies(shape);
  const double factor = rotary_table_factor(shape);
  for (int64_t s = 0; s < table.cos_SJ.dim[0]; ++s) {
    for (int64_t j = 0; j < table.cos_SJ.dim[1]; ++j) {
      const double angle = static_cast<double>(s) * frequency[static_cast<size_t>(j)];
      table.cos_SJ(s, j) = static_cast<float>(std::cos(angle) * factor);
      table.sin_SJ(s, j) = static_cast<float>(std::sin(angle) * factor);
    }
  }
}

}  // namespace tael
