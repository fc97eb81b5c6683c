// Packing for the GEMM family: what the inner loop reads lies in the order in which it reads it.
#pragma once

#include <cstring>

#include "kernels/gemm_tile.hpp"

namespace tael::TAEL_ISA {

// A row of src is read through before the next chunk of rows begins: columns a power of two apart would otherwise fall
// out of the caches, line by line, before their neighbours are used.
inline constexpr int64_t kPackChunk = 16;

// Panels of kTileCols columns one after the other, panel[p, j] = src[p, j] for k rows; a last panel is filled with
// zeros.
inline void pack_panels(float* panels, const float* src, int64_t pitch, int64_t k, int64_t cols) {
  for (int64_t chunk = 0; chunk < k; chunk += kPackChunk) {
    const int64_t end = chunk + kPackChunk < k ? chunk + kPackChunk : k;
    for (int64_t j = 0; j < cols; j += kTileCols) {
      float* panel = panels + j * k;
      const int64_t width = cols - j;
      for (int64_t p = chunk; p < end; ++p)
        for (int v = 0; v < kTileVectors; ++v) {
          const int64_t n = width - v * kLanes;
          const float* from = src + p * pitch + j + v * kLanes;
          store(panel + p * kTileCols + v * kLanes, n >= kLanes ? load(from) : n > 0 ? load(from, n) : zero());
        }
    }
  }
}

// Stripes of kTileRows rows of the transposed src, one after the other, stripe[p, i] = src[p, i]; what a last stripe
// lacks is left as it is.
inline void pack_stripes_transposed(float* stripes, const float* src, int64_t pitch, int64_t k, int64_t rows) {
  for (int64_t chunk = 0; chunk < k; chunk += kPackChunk) {
    const int64_t end = chunk + kPackChunk < k ? chunk + kPackChunk : k;
    int64_t i = 0;
    for (; i + kTileRows <= rows; i += kTileRows)
      for (int64_t p = chunk; p < end; ++p)
        std::memcpy(stripes + i * k + p * kTileRows, src + p * pitch + i, sizeof(float) * kTileRows);
    if (i < rows)
      for (int64_t p = chunk; p < end; ++p)
        std::memcpy(stripes + i * k + p * kTileRows, src + p * pitch + i,
                    sizeof(float) * static_cast<size_t>(rows - i));
  }
}

// One panel from the transposed matrix: panel[p, j] = src[j, p] for j < cols <= kTileCols, zeros behind.
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

}  // namespace tael::TAEL_ISA
