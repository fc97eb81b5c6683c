// Number formats at the edges: files and wires. Inside, the element type is in the C++ type.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/view.hpp"

namespace tael {

enum class DType : uint8_t { f32, bf16, f16, f64, i64, i32, u16, u8, f8_e4m3, f8_e5m2 };

size_t size_of(DType type);
std::string_view safetensors_name(DType type);                         // "F32", "BF16", ...
bool dtype_from_safetensors_name(std::string_view name, DType& type);  // false: no such format here

struct bf16 {
  uint16_t bits;
};

TAEL_INLINE float to_float(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
// Nearest, ties to even; every NaN becomes a quiet NaN of the same sign.
TAEL_INLINE bf16 to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x0040u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

// IEEE half precision: read from files, never computed in. Every half is a float.
struct f16 {
  uint16_t bits;
};

TAEL_INLINE float to_float(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, exponent = (x.bits >> 10) & 31u;
  const uint32_t fraction = x.bits & 0x3ffu;
  if (exponent == 0) {  // zero and subnormals: multiples of 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

}  // namespace tael
