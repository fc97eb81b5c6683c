// What attention's two directions share: panels of sixteen queries, blocks of keys, and the register tiles between
// them.
//
// The lanes of a vector are queries. A panel holds sixteen of them transposed, [n][16], so that one key's number is
// broadcast against a vector of queries, a softmax works lane by lane, and nothing is ever summed across lanes. Keys
// and values of a block are copied as they are, only side by side: neighbouring rows of a wide matrix lie a power of
// two apart and would fight for the same lines of the cache.
#pragma once

#include <cstdint>

#include "kernels/attention.hpp"
#include "kernels/vector.hpp"

namespace tael {
// CHECKs that what a thread needs for these heads fits its workspace. Compiled once, unlike everything else here.
void check_attention_workspace(int64_t bytes);
}  // namespace tael

namespace tael::TAEL_ISA {

// Queries and keys of a block: what a thread works on stays in its second-level cache, and a block of keys is copied,
// and its gradient touched, once for many queries. A row's bits depend on kBlockKeys and not on kBlockQueries.
inline constexpr int64_t kBlockQueries = 128;
inline constexpr int64_t kBlockPanels = kBlockQueries / kLanes;
inline constexpr int64_t kBlockKeys = 64;

// Rows of a register tile: as many sums as the registers hold beside the operands.
#if defined(TAEL_ISA_AVX512)
inline constexpr int kTileRows = 12;
#elif defined(TAEL_ISA_AVX2)
inline constexpr int kTileRows = 6;
#else
inline constexpr int kTileRows = 3;
#endif

template <int kCount>
struct TileRows {
  static constexpr int kRows = kCount;
};

template <int kRows, class Body>
TAEL_INLINE void last_tile(int64_t rest, int64_t begin, const Body& body) {
  if constexpr (kRows > 0) {
    if (rest == kRows)
      body(TileRows<kRows>{}, begin);
    else
      last_tile<kRows - 1>(rest, begin, body);
  }
}

// body(TileRows<n>, first row) for tiles that cover `rows`.
template <class Body>
TAEL_INLINE void for_tiles(int64_t rows, const Body& body) {
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) body(TileRows<kTileRows>{}, r);
  last_tile<kTileRows - 1>(rows - r, r, body);
}

// c[r] += sum over k < n, ascending, of a[r * a_row + k * a_step] * b[k * b_row + lane].
template <int kRows>
TAEL_INLINE void multiply(F16 (&c)[kRows], const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_row,
                          int64_t n) {
  for (int64_t k = 0; k < n; ++k) {
    const F16 x = load(b);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) c[r] = fma(set1(a[r * a_row]), x, c[r]);
    a += a_step;
    b += b_row;
  }
}

using Quad = float __attribute__((vector_size(16)));
TAEL_INLINE Quad load_quad(const float* p) {
  Quad x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
TAEL_INLINE void store_quad(float* p, Quad x) { __builtin_memcpy(p, &x, sizeof x); }
TAEL_INLINE void transpose(Quad (&x)[4]) {
  const Quad a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5), b = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7);
  const Quad c = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5), d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
  x[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  x[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  x[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  x[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

// panel[d][lane] = scale * rows[lane][d] for d < n; lanes without a row are zero.
TAEL_INLINE void rows_to_panel(float* panel, const float* rows, int64_t pitch, int64_t lanes, int64_t n, float scale) {
  for (int64_t lane = 0; lane < kLanes; lane += 4) {
    int64_t d = 0;
    if (lane + 4 <= lanes) {
      const Quad factor = {scale, scale, scale, scale};
      for (; d + 4 <= n; d += 4) {
        Quad x[4];
        for (int64_t i = 0; i < 4; ++i) x[i] = factor * load_quad(rows + (lane + i) * pitch + d);
        transpose(x);
        for (int64_t i = 0; i < 4; ++i) store_quad(panel + (d + i) * kLanes + lane, x[i]);
      }
    }
    for (; d < n; ++d)
      for (int64_t i = lane; i < lane + 4; ++i) panel[d * kLanes + i] = i < lanes ? scale * rows[i * pitch + d] : 0.0f;
  }
}

// rows[lane][d] = panel[d][lane] * factor[lane] for d < n and the first `lanes` lanes.
TAEL_INLINE void panel_to_rows(float* rows, int64_t pitch, int64_t lanes, const float* panel, const float* factor,
                               int64_t n) {
  for (int64_t lane = 0; lane < lanes; lane += 4) {
    int64_t d = 0;
    if (lane + 4 <= lanes) {
      const Quad f = load_quad(factor + lane);
      for (; d + 4 <= n; d += 4) {
        Quad x[4];
        for (int64_t i = 0; i < 4; ++i) x[i] = load_quad(panel + (d + i) * kLanes + lane) * f;
        transpose(x);
        for (int64_t i = 0; i < 4; ++i) store_quad(rows + (lane + i) * pitch + d, x[i]);
      }
    }
    for (; d < n; ++d)
      for (int64_t i = lane; i < lane + 4 && i < lanes; ++i) rows[i * pitch + d] = panel[d * kLanes + i] * factor[i];
  }
}

TAEL_INLINE void copy_row(float* to, const float* from, int64_t n) {
  __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

// Keys [begin, begin + count) of one head of a sequence: k [count][nope + rope], v [count][value].
TAEL_INLINE void copy_keys(float* k, float* v, Mat<const float> kv_TX, Mat<const float> k_rope_TR,
                           const AttentionShape& shape, int64_t row, int64_t head, int64_t count) {
  for (int64_t j = 0; j < count; ++j) {
    const float* from = kv_TX.row(row + j) + head * (shape.nope + shape.value);
    float* to = k + j * (shape.nope + shape.rope);
    copy_row(to, from, shape.nope);
    if (shape.rope > 0) copy_row(to + shape.nope, k_rope_TR.row(row + j), shape.rope);
    copy_row(v + j * shape.value, from + shape.nope, shape.value);
  }
}

// Sixteen queries of a sequence, at positions [first, first + lanes), and which keys they see.
struct Panel {
  int64_t first, lanes;
  const int32_t* start;  // document starts of its positions; null: 0
  int64_t lowest_start = 0, highest_start = 0;

  TAEL_INLINE Panel(int64_t first_position, int64_t end, const int32_t* starts)
      : first(first_position), lanes(end - first_position < kLanes ? end - first_position : kLanes), start(starts) {
    if (start == nullptr) return;
    lowest_start = highest_start = start[0];
    for (int64_t i = 1; i < lanes; ++i) {
      lowest_start = start[i] < lowest_start ? start[i] : lowest_start;
      highest_start = start[i] > highest_start ? start[i] : highest_start;
    }
  }

  // How many of the keys [begin, begin + count) must be looked at: zero, or up to the last visible one and on to a
  // whole tile.
  TAEL_INLINE int64_t visible(int64_t begin, int64_t count) const {
    const int64_t seen = first + lanes - begin;
    if (seen <= 0 || lowest_start >= begin + count) return 0;
    const int64_t whole = (seen + kTileRows - 1) / kTileRows * kTileRows;
    return whole < count ? whole : count;
  }

  // Minus infinity into the scores [n][16] of keys from `begin` that a query does not see.
  TAEL_INLINE void hide(float* score, int64_t begin, int64_t n) const {
    if (begin + n > first + 1) {
      for (int64_t i = 0; i < lanes; ++i)
        for (int64_t j = first + i + 1 > begin ? first + i + 1 - begin : 0; j < n; ++j)
          score[j * kLanes + i] = -__builtin_inff();
    }
    if (highest_start > begin) {
      for (int64_t i = 0; i < lanes; ++i)
        for (int64_t j = 0; j < n && begin + j < start[i]; ++j) score[j * kLanes + i] = -__builtin_inff();
    }
  }
};

// score[j][lane] = sum over d of k[j][d] * q[d][lane]: the product of a block's rows with a panel.
TAEL_INLINE void rows_times_panel(float* score, const float* k, const float* q, int64_t keys, int64_t depth) {
  for_tiles(keys, [&]<class Tile>(Tile, int64_t r) TAEL_INLINE_LAMBDA {
    F16 c[Tile::kRows];
    for (F16& x : c) x = zero();
    multiply(c, k + r * depth, depth, 1, q, kLanes, depth);
    for (int i = 0; i < Tile::kRows; ++i) store(score + (r + i) * kLanes, c[i]);
  });
}

// out[d][lane] = out[d][lane] * factor[lane] + sum over keys of k[j][d] * weight[j][lane], d < width; rows of k are
// `pitch` numbers apart.
TAEL_INLINE void add_weighted_rows(float* out, F16 factor, const float* k, const float* weight, int64_t keys,
                                   int64_t width, int64_t pitch) {
  for_tiles(width, [&]<class Tile>(Tile, int64_t r) TAEL_INLINE_LAMBDA {
    F16 c[Tile::kRows];
    for (int i = 0; i < Tile::kRows; ++i) c[i] = mul(load(out + (r + i) * kLanes), factor);
    multiply(c, k + r, 1, pitch, weight, kLanes, keys);
    for (int i = 0; i < Tile::kRows; ++i) store(out + (r + i) * kLanes, c[i]);
  });
}

// Takes the panel's scores of n keys into the running softmax: score becomes the weights exp(score - largest), the
// result is the factor by which what was summed before shrinks. A key that is not seen has weight exp(-inf) = 0; the
// maximum starts at a finite number so that a row which has seen nothing yet does not subtract infinities.
TAEL_INLINE F16 softmax_step(float* score, int64_t n, float* largest, float* total) {
  const F16 before = load(largest);
  F16 m = before;
  for (int64_t j = 0; j < n; ++j) m = max(m, load(score + j * kLanes));
  const F16 shrink = exp(sub(before, m));
  F16 sum = mul(load(total), shrink);
  for (int64_t j = 0; j < n; ++j) {
    const F16 p = exp(sub(load(score + j * kLanes), m));
    store(score + j * kLanes, p);
    sum = add(sum, p);
  }
  store(largest, m);
  store(total, sum);
  return shrink;
}

// Cuts a thread's workspace into arrays of floats that begin on 64-byte borders; without a base it only counts.
class WorkspaceCut {
 public:
  TAEL_INLINE explicit WorkspaceCut(std::byte* base) : base_(reinterpret_cast<float*>(base)) {}
  TAEL_INLINE float* take(int64_t n) {
    float* p = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (n + kLanes - 1) / kLanes * kLanes;
    return p;
  }
  TAEL_INLINE int64_t bytes() const { return used_ * static_cast<int64_t>(sizeof(float)); }

 private:
  float* base_;
  int64_t used_ = 0;
};

TAEL_INLINE int64_t round_up_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

}  // namespace tael::TAEL_ISA
