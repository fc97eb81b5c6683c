// One kernel over kernels/vector.hpp, compiled per instruction set like any other, that applies one function of the
// vector to whole arrays, tails included.
#pragma once

#include "kernels/isa.hpp"

namespace tael::testing {

enum class VectorOp {
  add,
  sub,
  mul,
  div,
  fma,
  max,
  min,
  sqrt,
  negate,
  absolute,
  exp,
  select_less,        // a < b ? a : c
  select_less_equal,  // a <= b ? a : c
  select_equal,       // a == b ? a : c
  select_first,       // lane < 5 ? a : b
  swap_pairs,
  load_twice,  // y[i] = a[i / 2]
  // One number of every block of sixteen, in its first place; the others are zero.
  reduce_add,
  reduce_max,
  reduce_double,  // of a + a * b, in double
  any_less,
};

}  // namespace tael::testing

namespace tael {

struct VectorProbe {
  Vec<float> y;
  Vec<const float> a, b, c;
  testing::VectorOp op;
};

void vector_probe(const Stream& stream, const VectorProbe& args);

}  // namespace tael
