// Numbers of DeepSeek-V3's rotary embedding and YaRN that implementations get wrong, computed by hand.
#include "model/rotary.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/harness/shapes.hpp"

namespace tael {
namespace {

using tael::testing::deepseek_v3;

RopeScaling released_yarn() {
  return {.factor = 40, .original_max_position_embeddings = 4096, .mscale = 1.0, .mscale_all_dim = 1.0};
}

TEST(Rotary, PlainFrequenciesAndScale) {
  const ModelShape shape = deepseek_v3();
  const std::vector<double> f = rotary_frequencies(shape);
  ASSERT_EQ(f.size(), 32u);
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_NEAR(f[11], 0.0421696503, 1e-10);
  EXPECT_NEAR(attention_scale(shape), 0.0721687836, 1e-10);
  EXPECT_DOUBLE_EQ(rotary_table_factor(shape), 1.0);
}

// Correction range 10 to 23: below 10 untouched, above 23 divided by 40, a linear ramp between.
TEST(Rotary, YarnFrequencies) {
  ModelShape shape = deepseek_v3();
  shape.rope_scaling = released_yarn();
  const std::vector<double> f = rotary_frequencies(shape);
  EXPECT_NEAR(f[10], 0.0562341325, 1e-10);
  EXPECT_NEAR(f[11], 0.0390069266, 1e-10);
  EXPECT_NEAR(f[16], 0.0055, 1e-10);
  EXPECT_NEAR(f[22], 1.7782794e-4, 1e-11);
  EXPECT_NEAR(f[23], 3.3338036e-5, 1e-12);
  EXPECT_NEAR(f[31], 3.3338036e-6, 1e-13);
}

// mscale enters the softmax scale squared, once; the tables only if mscale and mscale_all_dim differ.
TEST(Rotary, YarnScale) {
  ModelShape shape = deepseek_v3();
  shape.rope_scaling = released_yarn();
  EXPECT_NEAR(attention_scale(shape), 0.1352338, 1e-7);
  EXPECT_DOUBLE_EQ(rotary_table_factor(shape), 1.0);
  shape.rope_scaling->mscale = shape.rope_scaling->mscale_all_dim = 0.707;  // V2-Lite
  EXPECT_NEAR(attention_scale(shape), 0.0721687836 * 1.5896262, 1e-7);
  EXPECT_DOUBLE_EQ(rotary_table_factor(shape), 1.0);
}

// YaRN belongs to the model: a table made for short runs is the beginning of the one made for long ones.
TEST(Rotary, TablesDoNotDependOnTheRunsLength) {
  ModelShape shape = deepseek_v3();
  shape.rope_scaling = released_yarn();
  Arena arena("tables", 1 << 20);
  const RotaryTable small = plan_rotary(arena, shape, 16), large = plan_rotary(arena, shape, 512);
  fill_rotary(small, shape);
  fill_rotary(large, shape);
  for (int64_t i = 0; i < small.cos_SJ.size(); ++i) {
    EXPECT_EQ(small.cos_SJ.data[i], large.cos_SJ.data[i]);
    EXPECT_EQ(small.sin_SJ.data[i], large.sin_SJ.data[i]);
  }
  EXPECT_FLOAT_EQ(large.cos_SJ(500, 0), static_cast<float>(std::cos(500.0)));
}

}  // namespace
}  // namespace tael
