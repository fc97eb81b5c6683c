// Tests that run once per instruction set: TEST_P(SomethingTest, ...) with INSTANTIATE_FOR_EVERY_ISA(SomethingTest).
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <string>

#include "base/stream.hpp"
#include "base/thread_pool.hpp"

namespace tael {

// How GoogleTest prints a parameter.
inline void PrintTo(Isa isa, std::ostream* out) { *out << name_of(isa); }

namespace testing {

class IsaTest : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam())) GTEST_SKIP() << "no " << name_of(GetParam()) << " on this machine";
  }
  Isa isa() const { return GetParam(); }
  Stream stream() { return Stream(pool_, GetParam()); }
  // a * b + c with the roundings of this instruction set.
  float multiply_add(float a, float b, float c) const {
    if (isa() != Isa::portable) return std::fma(a, b, c);
    volatile float product = a * b;  // its own rounding, whatever the compiler's flags
    return product + c;
  }

 private:
  ThreadPool pool_{1};
};

#define INSTANTIATE_FOR_EVERY_ISA(suite)                                                      \
  INSTANTIATE_TEST_SUITE_P(, suite, ::testing::Values(Isa::portable, Isa::avx2, Isa::avx512), \
                           [](const auto& param) { return std::string(name_of(param.param)); })

}  // namespace testing
}  // namespace tael
