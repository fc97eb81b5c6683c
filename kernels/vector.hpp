// Sixteen floats at once, the same interface on every instruction set: F16 is one __m512, two __m256, or four plain
// vectors of four. Sixteen everywhere, so that a sum kept in sixteen chains has the same order on all of them.
//
// Bits: every function but fma gives the same bits on every instruction set; fma is one rounding on avx2 and avx512 and
// two (product, then sum) on portable. exp is built from them, so it agrees between avx2 and avx512. Rows are finished
// through load(p, n) and store(p, x, n): the same code on fewer elements, the rest zero.
//
// max(a, b) and min(a, b) return b if either is NaN (or both are zeros), as the instruction does; so does reduce_max.
#pragma once

#if defined(TAEL_ISA_AVX2) || defined(TAEL_ISA_AVX512)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "kernels/isa.hpp"

namespace tael::TAEL_ISA {

inline constexpr int64_t kLanes = 16;

#if defined(TAEL_ISA_AVX512)

struct F16 {
  __m512 v;
};
struct M16 {  // one truth per lane
  __mmask16 v;
};
struct D16 {
  __m512d lo, hi;  // lanes 0-7 and 8-15
};

TAEL_INLINE F16 set1(float x) { return {_mm512_set1_ps(x)}; }
TAEL_INLINE F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
TAEL_INLINE F16 load(const float* p, int64_t n) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p)};
}
TAEL_INLINE void store(float* p, F16 a) { _mm512_storeu_ps(p, a.v); }
TAEL_INLINE void store(float* p, F16 a, int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), a.v);
}
TAEL_INLINE F16 add(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
TAEL_INLINE F16 sub(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
TAEL_INLINE F16 mul(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
TAEL_INLINE F16 div(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
TAEL_INLINE F16 fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
TAEL_INLINE F16 max(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }
TAEL_INLINE F16 min(F16 a, F16 b) { return {_mm512_min_ps(a.v, b.v)}; }
TAEL_INLINE F16 sqrt(F16 a) { return {_mm512_sqrt_ps(a.v)}; }
TAEL_INLINE F16 negate(F16 a) { return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))}; }
TAEL_INLINE F16 absolute(F16 a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
TAEL_INLINE M16 less(F16 a, F16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
TAEL_INLINE M16 less_equal(F16 a, F16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
TAEL_INLINE M16 equal(F16 a, F16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
TAEL_INLINE F16 select(M16 m, F16 yes, F16 no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }
TAEL_INLINE bool any(M16 m) { return m.v != 0; }
TAEL_INLINE M16 first_lanes(int64_t n) { return {static_cast<__mmask16>((1u << n) - 1u)}; }
// (x0, x1, x2, x3, ...) to (x1, x0, x3, x2, ...).
TAEL_INLINE F16 swap_pairs(F16 a) { return {_mm512_permute_ps(a.v, 0xB1)}; }
// Eight floats, each twice: (p0, p0, p1, p1, ...).
TAEL_INLINE F16 load_twice(const float* p) {
  const __m512i lanes = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  return {_mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(_mm256_loadu_ps(p)))};
}
// The bits of a plus (the low bits of b) << 23: multiplies a by 2 to the integer in b's low bits.
TAEL_INLINE F16 add_exponent(F16 a, F16 b) {
  return {
      _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_slli_epi32(_mm512_castps_si512(b.v), 23)))};
}

TAEL_INLINE D16 zero_double() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
TAEL_INLINE D16 to_double(F16 a) {
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(a.v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1))};
}
TAEL_INLINE D16 add(D16 a, D16 b) { return {_mm512_add_pd(a.lo, b.lo), _mm512_add_pd(a.hi, b.hi)}; }
TAEL_INLINE D16 mul(D16 a, D16 b) { return {_mm512_mul_pd(a.lo, b.lo), _mm512_mul_pd(a.hi, b.hi)}; }
TAEL_INLINE void store(double* p, D16 a) {
  _mm512_storeu_pd(p, a.lo);
  _mm512_storeu_pd(p + 8, a.hi);
}

#elif defined(TAEL_ISA_AVX2)

struct F16 {
  __m256 lo, hi;  // lanes 0-7 and 8-15
};
struct M16 {
  __m256 lo, hi;  // all bits of a lane set, or none
};
struct D16 {
  __m256d v0, v1, v2, v3;
};

TAEL_INLINE __m256i lane_mask(int64_t n) {  // the first n of eight lanes; n may lie outside [0, 8]
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TAEL_INLINE F16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
TAEL_INLINE F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TAEL_INLINE F16 load(const float* p, int64_t n) {
  return {_mm256_maskload_ps(p, lane_mask(n)), _mm256_maskload_ps(p + 8, lane_mask(n - 8))};
}
TAEL_INLINE void store(float* p, F16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
TAEL_INLINE void store(float* p, F16 a, int64_t n) {
  _mm256_maskstore_ps(p, lane_mask(n), a.lo);
  _mm256_maskstore_ps(p + 8, lane_mask(n - 8), a.hi);
}
TAEL_INLINE F16 add(F16 a, F16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
TAEL_INLINE F16 sub(F16 a, F16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
TAEL_INLINE F16 mul(F16 a, F16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
TAEL_INLINE F16 div(F16 a, F16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
TAEL_INLINE F16 fma(F16 a, F16 b, F16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
TAEL_INLINE F16 max(F16 a, F16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
TAEL_INLINE F16 min(F16 a, F16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
TAEL_INLINE F16 sqrt(F16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
TAEL_INLINE F16 negate(F16 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign)};
}
TAEL_INLINE F16 absolute(F16 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
TAEL_INLINE M16 less(F16 a, F16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
TAEL_INLINE M16 less_equal(F16 a, F16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LE_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LE_OQ)};
}
TAEL_INLINE M16 equal(F16 a, F16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ)};
}
TAEL_INLINE F16 select(M16 m, F16 yes, F16 no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, m.lo), _mm256_blendv_ps(no.hi, yes.hi, m.hi)};
}
TAEL_INLINE bool any(M16 m) { return (_mm256_movemask_ps(m.lo) | _mm256_movemask_ps(m.hi)) != 0; }
TAEL_INLINE M16 first_lanes(int64_t n) {
  return {_mm256_castsi256_ps(lane_mask(n)), _mm256_castsi256_ps(lane_mask(n - 8))};
}
TAEL_INLINE F16 swap_pairs(F16 a) { return {_mm256_permute_ps(a.lo, 0xB1), _mm256_permute_ps(a.hi, 0xB1)}; }
TAEL_INLINE F16 load_twice(const float* p) {
  const __m256 a = _mm256_loadu_ps(p);
  return {_mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
          _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
}
TAEL_INLINE __m256 add_exponent(__m256 a, __m256 b) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(b), 23)));
}
TAEL_INLINE F16 add_exponent(F16 a, F16 b) { return {add_exponent(a.lo, b.lo), add_exponent(a.hi, b.hi)}; }

TAEL_INLINE D16 zero_double() {
  return {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
}
TAEL_INLINE D16 to_double(F16 a) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(a.lo)), _mm256_cvtps_pd(_mm256_extractf128_ps(a.lo, 1)),
          _mm256_cvtps_pd(_mm256_castps256_ps128(a.hi)), _mm256_cvtps_pd(_mm256_extractf128_ps(a.hi, 1))};
}
TAEL_INLINE D16 add(D16 a, D16 b) {
  return {_mm256_add_pd(a.v0, b.v0), _mm256_add_pd(a.v1, b.v1), _mm256_add_pd(a.v2, b.v2), _mm256_add_pd(a.v3, b.v3)};
}
TAEL_INLINE D16 mul(D16 a, D16 b) {
  return {_mm256_mul_pd(a.v0, b.v0), _mm256_mul_pd(a.v1, b.v1), _mm256_mul_pd(a.v2, b.v2), _mm256_mul_pd(a.v3, b.v3)};
}
TAEL_INLINE void store(double* p, D16 a) {
  _mm256_storeu_pd(p, a.v0);
  _mm256_storeu_pd(p + 4, a.v1);
  _mm256_storeu_pd(p + 8, a.v2);
  _mm256_storeu_pd(p + 12, a.v3);
}

#else  // portable

using V4 = float __attribute__((vector_size(16)));
using I4 = int32_t __attribute__((vector_size(16)));

struct F16 {
  V4 v[4];
};
struct M16 {
  I4 v[4];
};
struct D16 {
  double v[16];
};

template <class Op>
TAEL_INLINE F16 each(const Op& op) {
  return {{op(0), op(1), op(2), op(3)}};
}
TAEL_INLINE V4 blend(I4 m, V4 yes, V4 no) { return (V4)((m & (I4)yes) | (~m & (I4)no)); }

TAEL_INLINE F16 set1(float x) {
  return each([=](int) TAEL_INLINE_LAMBDA { return V4{x, x, x, x}; });
}
TAEL_INLINE F16 load(const float* p) {
  F16 a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
TAEL_INLINE F16 load(const float* p, int64_t n) {
  float a[16] = {};
  for (int64_t i = 0; i < n; ++i) a[i] = p[i];
  return load(a);
}
TAEL_INLINE void store(float* p, F16 a) { std::memcpy(p, &a, sizeof a); }
TAEL_INLINE void store(float* p, F16 a, int64_t n) {
  float all[16];
  store(all, a);
  for (int64_t i = 0; i < n; ++i) p[i] = all[i];
}
TAEL_INLINE F16 add(F16 a, F16 b) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return a.v[i] + b.v[i]; });
}
TAEL_INLINE F16 sub(F16 a, F16 b) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return a.v[i] - b.v[i]; });
}
TAEL_INLINE F16 mul(F16 a, F16 b) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return a.v[i] * b.v[i]; });
}
TAEL_INLINE F16 div(F16 a, F16 b) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return a.v[i] / b.v[i]; });
}
TAEL_INLINE F16 fma(F16 a, F16 b, F16 c) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return a.v[i] * b.v[i] + c.v[i]; });
}
TAEL_INLINE F16 max(F16 a, F16 b) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return blend(a.v[i] > b.v[i], a.v[i], b.v[i]); });
}
TAEL_INLINE F16 min(F16 a, F16 b) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return blend(a.v[i] < b.v[i], a.v[i], b.v[i]); });
}
TAEL_INLINE F16 sqrt(F16 a) {
  return each([&](int i) TAEL_INLINE_LAMBDA {
    const V4 x = a.v[i];
    return V4{__builtin_sqrtf(x[0]), __builtin_sqrtf(x[1]), __builtin_sqrtf(x[2]), __builtin_sqrtf(x[3])};
  });
}
TAEL_INLINE F16 negate(F16 a) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return -a.v[i]; });
}
TAEL_INLINE F16 absolute(F16 a) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return (V4)((I4)a.v[i] & 0x7fffffff); });
}
TAEL_INLINE M16 less(F16 a, F16 b) { return {{a.v[0] < b.v[0], a.v[1] < b.v[1], a.v[2] < b.v[2], a.v[3] < b.v[3]}}; }
TAEL_INLINE M16 less_equal(F16 a, F16 b) {
  return {{a.v[0] <= b.v[0], a.v[1] <= b.v[1], a.v[2] <= b.v[2], a.v[3] <= b.v[3]}};
}
TAEL_INLINE M16 equal(F16 a, F16 b) {
  return {{a.v[0] == b.v[0], a.v[1] == b.v[1], a.v[2] == b.v[2], a.v[3] == b.v[3]}};
}
TAEL_INLINE F16 select(M16 m, F16 yes, F16 no) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return blend(m.v[i], yes.v[i], no.v[i]); });
}
TAEL_INLINE bool any(M16 m) {
  const I4 all = m.v[0] | m.v[1] | m.v[2] | m.v[3];
  return (all[0] | all[1] | all[2] | all[3]) != 0;
}
TAEL_INLINE M16 first_lanes(int64_t n) {
  const int32_t k = static_cast<int32_t>(n);
  const I4 limit = {k, k, k, k};
  return {{I4{0, 1, 2, 3} < limit, I4{4, 5, 6, 7} < limit, I4{8, 9, 10, 11} < limit, I4{12, 13, 14, 15} < limit}};
}
TAEL_INLINE F16 swap_pairs(F16 a) {
  return each([&](int i) TAEL_INLINE_LAMBDA { return V4{a.v[i][1], a.v[i][0], a.v[i][3], a.v[i][2]}; });
}
TAEL_INLINE F16 load_twice(const float* p) {
  return each([=](int i) TAEL_INLINE_LAMBDA { return V4{p[2 * i], p[2 * i], p[2 * i + 1], p[2 * i + 1]}; });
}
TAEL_INLINE F16 add_exponent(F16 a, F16 b) {
  using U4 = uint32_t __attribute__((vector_size(16)));
  return each([&](int i) TAEL_INLINE_LAMBDA { return (V4)((U4)a.v[i] + ((U4)b.v[i] << 23)); });
}

TAEL_INLINE D16 zero_double() { return {}; }
TAEL_INLINE D16 to_double(F16 a) {
  D16 d;
  for (int i = 0; i < 16; ++i) d.v[i] = static_cast<double>(a.v[i / 4][i % 4]);
  return d;
}
TAEL_INLINE D16 add(D16 a, D16 b) {
  for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
  return a;
}
TAEL_INLINE D16 mul(D16 a, D16 b) {
  for (int i = 0; i < 16; ++i) a.v[i] *= b.v[i];
  return a;
}
TAEL_INLINE void store(double* p, D16 a) { std::memcpy(p, a.v, sizeof a.v); }

#endif

TAEL_INLINE F16 zero() { return set1(0.0f); }

// One number, with the roundings of the vector fma.
TAEL_INLINE float fma(float a, float b, float c) {
#ifdef TAEL_ISA_PORTABLE
  return a * b + c;
#else
  return __builtin_fmaf(a, b, c);
#endif
}

// Sums and maxima over the lanes by the fixed tree: lane i with lane i + 8, then i + 4, i + 2, i + 1.
template <class T, class Op>
TAEL_INLINE T reduce_lanes(T* a, const Op& op) {
  for (int half = 8; half >= 1; half /= 2)
    for (int i = 0; i < half; ++i) a[i] = op(a[i], a[i + half]);
  return a[0];
}
#if defined(TAEL_ISA_AVX2) || defined(TAEL_ISA_AVX512)
TAEL_INLINE __m256 low_half(F16 a) {
#ifdef TAEL_ISA_AVX512
  return _mm512_castps512_ps256(a.v);
#else
  return a.lo;
#endif
}
TAEL_INLINE __m256 high_half(F16 a) {
#ifdef TAEL_ISA_AVX512
  return _mm512_extractf32x8_ps(a.v, 1);
#else
  return a.hi;
#endif
}
TAEL_INLINE float reduce_add(F16 a) {
  const __m256 s8 = _mm256_add_ps(low_half(a), high_half(a));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
TAEL_INLINE float reduce_max(F16 a) {
  const __m256 s8 = _mm256_max_ps(low_half(a), high_half(a));
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}
#else
TAEL_INLINE float reduce_add(F16 a) {
  float lane[16];
  store(lane, a);
  return reduce_lanes(lane, [](float x, float y) TAEL_INLINE_LAMBDA { return x + y; });
}
TAEL_INLINE float reduce_max(F16 a) {
  float lane[16];
  store(lane, a);
  return reduce_lanes(lane, [](float x, float y) TAEL_INLINE_LAMBDA { return x > y ? x : y; });
}
#endif
TAEL_INLINE double reduce_add(D16 a) {
  alignas(64) double lane[16];
  store(lane, a);
  return reduce_lanes(lane, [](double x, double y) TAEL_INLINE_LAMBDA { return x + y; });
}

// dst[i, j] = src[j, i] for eight by eight numbers.
#if defined(TAEL_ISA_AVX2) || defined(TAEL_ISA_AVX512)
TAEL_INLINE void transpose8(float* dst, int64_t dst_pitch, const float* src, int64_t src_pitch) {
  __m256 pair[8], quad[8];
  for (int i = 0; i < 8; i += 2) {
    const __m256 a = _mm256_loadu_ps(src + i * src_pitch), b = _mm256_loadu_ps(src + (i + 1) * src_pitch);
    pair[i] = _mm256_unpacklo_ps(a, b);
    pair[i + 1] = _mm256_unpackhi_ps(a, b);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(dst + i * dst_pitch, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20));
    _mm256_storeu_ps(dst + (i + 4) * dst_pitch, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31));
  }
}
#else
TAEL_INLINE void transpose8(float* dst, int64_t dst_pitch, const float* src, int64_t src_pitch) {
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j) dst[i * dst_pitch + j] = src[j * src_pitch + i];
}
#endif

// e^x within about one ulp. Above 88.72283 it is infinite, below -87.33654 (where the result would leave the normal
// numbers) it is zero; NaN stays NaN. x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial in r, and n into the exponent.
TAEL_INLINE F16 exp(F16 x) {
  const F16 magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, which then lies in the low bits
  const F16 t = fma(x, set1(1.44269504f), magic);
  const F16 n = sub(t, magic);
  F16 r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  F16 p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = add(fma(p, mul(r, r), r), set1(1.0f));
  F16 y = add_exponent(p, t);
  y = select(less(x, set1(-87.3365402f)), zero(), y);
  // Too large: x + infinity is infinite, and NaN if x is.
  return select(less_equal(x, set1(88.7228317f)), y, add(x, set1(__builtin_inff())));
}

}  // namespace tael::TAEL_ISA
