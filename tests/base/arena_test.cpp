#include "base/arena.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace tael {
namespace {

struct Piece {
  Mat<float> a;
  Vec<double> b;
};

Piece plan(Arena& arena) { return {arena.mat<float>(3, 5), arena.vec<double>(7)}; }

TEST(Arena, MeasuresWhatItAllocates) {
  Arena measuring = Arena::measuring();
  plan(measuring);
  EXPECT_TRUE(measuring.is_measuring());
  Arena real("piece", measuring.used());
  const Piece piece = plan(real);
  EXPECT_EQ(real.used(), real.capacity());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(piece.b.data) % Arena::kAlign, 0u);
  for (int64_t i = 0; i < piece.a.size(); ++i) EXPECT_EQ(piece.a.data[i], 0.0f);
  EXPECT_THROW(real.vec<float>(1), Error);
}

TEST(Arena, ScopesGiveBackAndPeakRemains) {
  Arena arena("scratch", 1024);
  {
    ArenaScope scope(arena);
    arena.vec<float>(100);
    EXPECT_EQ(arena.used(), 448u);
  }
  EXPECT_EQ(arena.used(), 0u);
  EXPECT_EQ(arena.peak(), 448u);
}

TEST(Arena, RefusesSizesBeyondAnyMemory) {
  Arena arena = Arena::measuring();
  try {
    arena.mat<float>(int64_t{1} << 40, int64_t{1} << 40);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_config);
  }
}

}  // namespace
}  // namespace tael
