// Packing for the GEMM family: what the inner loop reads lies in the order in which it reads it.
#pragma once

#include "kernels/gemm_tile.hpp"

namespace tael::TAEL_ISA {

// panel[p, j] = src[p, j] for k rows of `cols` <= kTileCols numbers; the rest of a row of kTileCols is zero.
inline void pack_panel(float* panel, const float* src, int64_t pitch, int64_t k, int64_t cols) {
  if (cols == kTileCols) {
    for (int64_t p = 0; p < k; ++p)
      for (int v = 0; v < kTileVectors; ++v)
        store(panel + p * kTileCols + v * kLanes, load(src + p * pitch + v * kLanes));
    return;
  }
  for (int64_t p = 0; p < k; ++p)
    for (int v = 0; v < kTileVectors; ++v) {
      const int64_t n = cols - v * kLanes < 0 ? 0 : cols - v * kLanes > kLanes ? kLanes : cols - v * kLanes;
      store(panel + p * kTileCols + v * kLanes, load(src + p * pitch + v * kLanes, n));
    }
}

// panel[p, j] = src[j, p]: the same from the transposed matrix.
inline void pack_panel_transposed(float* panel, const float* src, int64_t pitch, int64_t k, int64_t cols) {
  int64_t j = 0;
  for (; j + 8 <= cols; j += 8) {
    const float* rows = src + j * pitch;
    int64_t p = 0;
    for (; p + 8 <= k; p += 8) transpose8(panel + p * kTileCols + j, kTileCols, rows + p, pitch);
    for (; p < k; ++p)
      for (int64_t i = 0; i < 8; ++i) panel[p * kTileCols + j + i] = rows[i * pitch + p];
  }
  for (int64_t p = 0; p < k; ++p) {
    for (int64_t i = j; i < cols; ++i) panel[p * kTileCols + i] = src[i * pitch + p];
    for (int64_t i = cols; i < kTileCols; ++i) panel[p * kTileCols + i] = 0.0f;
  }
}

// stripe[p, i] = src[p, i] for k rows of `rows` <= kTileRows numbers, kTileRows apart: rows of a transposed matrix.
inline void pack_stripe_transposed(float* stripe, const float* src, int64_t pitch, int64_t k, int64_t rows) {
  if (rows == kTileRows) {
    for (int64_t p = 0; p < k; ++p)
      for (int i = 0; i < kTileRows; ++i) stripe[p * kTileRows + i] = src[p * pitch + i];
    return;
  }
  for (int64_t p = 0; p < k; ++p)
    for (int64_t i = 0; i < rows; ++i) stripe[p * kTileRows + i] = src[p * pitch + i];
}

}  // namespace tael::TAEL_ISA
