#include "base/stream.hpp"

namespace tael {

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::portable: return "portable";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
  }
  return "?";
}

bool isa_from_name(std::string_view name, Isa& isa) {
  for (Isa candidate : {Isa::portable, Isa::avx2, Isa::avx512}) {
    if (name_of(candidate) != name) continue;
    isa = candidate;
    return true;
  }
  return false;
}

bool machine_has(Isa isa) {
  switch (isa) {
    case Isa::portable: return true;
    case Isa::avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::avx512:
      return machine_has(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  }
  return false;
}

Isa best_isa() {
  if (machine_has(Isa::avx512)) return Isa::avx512;
  return machine_has(Isa::avx2) ? Isa::avx2 : Isa::portable;
}

}  // namespace tael
