#include "base/dtype.hpp"

namespace tael {

size_t size_of(DType type) {
  switch (type) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::f16:
    case DType::u16: return 2;
    case DType::u8:
    case DType::f8_e4m3:
    case DType::f8_e5m2: return 1;
  }
  CHECK(false, "a type without a size");
}

std::string_view safetensors_name(DType type) {
  switch (type) {
    case DType::f32: return "F32";
    case DType::bf16: return "BF16";
    case DType::f16: return "F16";
    case DType::f64: return "F64";
    case DType::i64: return "I64";
    case DType::i32: return "I32";
    case DType::u16: return "U16";
    case DType::u8: return "U8";
    case DType::f8_e4m3: return "F8_E4M3";
    case DType::f8_e5m2: return "F8_E5M2";
  }
  CHECK(false, "a type without a name");
}

bool dtype_from_safetensors_name(std::string_view name, DType& type) {
  for (const DType candidate : {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i64, DType::i32, DType::u16,
                                DType::u8, DType::f8_e4m3, DType::f8_e5m2}) {
    if (safetensors_name(candidate) != name) continue;
    type = candidate;
    return true;
  }
  return false;
}

}  // namespace tael
