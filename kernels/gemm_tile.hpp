// The inner loop of the GEMM family: a tile of kTileRows x kTileCols sums held in registers while one summed index
// runs.
//
// Registers: AVX2 6 x 16 (12 accumulators, 2 of B, 1 of A, of 16), AVX-512 12 x 32 (24, 2, 1 of 32). Every element is
// its own chain, so neither the tile's shape nor where the summed index is interrupted (the tile is then stored and
// loaded again, exactly) shows in the bits.
#pragma once

#include "kernels/vector.hpp"

namespace tael::TAEL_ISA {

#if defined(TAEL_ISA_AVX512)
inline constexpr int kTileRows = 12, kTileVectors = 2;
#elif defined(TAEL_ISA_AVX2)
inline constexpr int kTileRows = 6, kTileVectors = 1;
#else
inline constexpr int kTileRows = 3, kTileVectors = 1;
#endif
inline constexpr int64_t kTileCols = kTileVectors * kLanes;

// c[i, j] (+)= sum over p < k of a(i, p) b[p, j], i < kRows, j < cols.
// a(i, p) = a[i * a_row + p * a_step]; b[p, j] = b[p * b_step + j], kTileCols of them readable whatever `cols` is.
struct TileArgs {
  float* c;
  int64_t c_pitch;
  const float* a;
  int64_t a_row, a_step;
  const float* b;
  int64_t b_step;
  int64_t k;
  int64_t cols;
  bool from_zero;  // else from what c holds
};

template <int kRows, bool kAllCols>
[[gnu::noinline]] void tile(const TileArgs& t) {
  F16 sum[kRows][kTileVectors];
  const auto cols_of = [&](int v) TAEL_INLINE_LAMBDA {  // of vector v, if not all
    const int64_t n = t.cols - v * kLanes;
    return n < 0 ? int64_t{0} : n > kLanes ? kLanes : n;
  };
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      const float* c = t.c + i * t.c_pitch + v * kLanes;
      if (t.from_zero)
        sum[i][v] = zero();
      else if constexpr (kAllCols)
        sum[i][v] = load(c);
      else
        sum[i][v] = load(c, cols_of(v));
    }
  const float* a = t.a;
  const float* b = t.b;
  const int64_t a_row = t.a_row, a_step = t.a_step, b_step = t.b_step;
  for (int64_t p = 0; p < t.k; ++p) {
    F16 bv[kTileVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) bv[v] = load(b + v * kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      const F16 av = set1(a[i * a_row]);
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) sum[i][v] = fma(av, bv[v], sum[i][v]);
    }
    a += a_step;
    b += b_step;
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      float* c = t.c + i * t.c_pitch + v * kLanes;
      if constexpr (kAllCols)
        store(c, sum[i][v]);
      else
        store(c, sum[i][v], cols_of(v));
    }
}

// The tile for rows <= kTileRows known at run time.
template <int kRows = kTileRows>
TAEL_INLINE void tile_of_rows(int64_t rows, const TileArgs& t) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      t.cols == kTileCols ? tile<kRows, true>(t) : tile<kRows, false>(t);
      return;
    }
    tile_of_rows<kRows - 1>(rows, t);
  }
}

}  // namespace tael::TAEL_ISA
