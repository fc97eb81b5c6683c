#include "model/init.hpp"

#include <algorithm>

#include "base/rng.hpp"

namespace tael {

void init_params(const Stream& stream, const ParamTable& table, uint64_t seed, float* params, float* biases) {
  constexpr int64_t kChunk = 1 << 16;
  for (const ParamSpec& spec : table.params) {
    float* out = params + spec.offset;
    if (spec.init == Init::ones) {
      std::fill_n(out, spec.size(), 1.0f);
      continue;
    }
    const Rng rng(seed, "init " + spec.name);
    const int64_t size = spec.size();
    stream.enqueue([&] {
      stream.pool().parallel_for((size + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
        const int64_t end = std::min(size, (chunk + 1) * kChunk);
        for (int64_t i = chunk * kChunk; i < end; ++i)
          out[i] = static_cast<float>(table.shape.initializer_range * rng.normal(static_cast<uint64_t>(i)));
      });
    });
  }
  std::fill_n(biases, table.bias_size(), 0.0f);
}

}  // namespace tael
