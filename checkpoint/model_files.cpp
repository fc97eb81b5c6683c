#include "checkpoint/model_files.hpp"

#include <algorithm>
#include <cctype>

namespace tael {

namespace {

// Digits of the run that starts at `at`, without leading zeros.
std::string_view number_at(std::string_view text, size_t at, size_t& end) {
  end = at;
  while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end]))) ++end;
  while (at + 1 < end && text[at] == '0') ++at;
  return text.substr(at, end - at);
}

template <class Narrow>
void widen(const ModelFiles& files, const TensorSpec& weight, int64_t first, int64_t count, float* out) {
  constexpr int64_t kPiece = 8192;
  Narrow piece[kPiece];
  for (int64_t done = 0; done < count;) {
    const int64_t n = std::min(kPiece, count - done);
    files.read(weight, static_cast<uint64_t>(first + done) * sizeof(Narrow), piece,
               static_cast<size_t>(n) * sizeof(Narrow));
    for (int64_t i = 0; i < n; ++i) out[done + i] = to_float(piece[i]);
    done += n;
  }
}

}  // namespace

void read_floats(const ModelFiles& files, const TensorSpec& weight, int64_t first, int64_t count, float* out) {
  CHECK(first >= 0 && count >= 0 && first <= weight.elements() && count <= weight.elements() - first, "{}",
        weight.name);
  switch (weight.dtype) {
    case DType::f32:
      files.read(weight, static_cast<uint64_t>(first) * sizeof(float), out, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::bf16: return widen<bf16>(files, weight, first, count, out);
    case DType::f16: return widen<f16>(files, weight, first, count, out);
    case DType::f8_e4m3:
    case DType::f8_e5m2:
      fail(Exit::bad_config, "{}: tensor {}: FP8 checkpoints are not built yet", files.file_of(weight),
           quoted_name(weight.name));
    default:
      fail(Exit::bad_data, "{}: tensor {}: {} numbers are no weights", files.file_of(weight), quoted_name(weight.name),
           safetensors_name(weight.dtype));
  }
}

bool natural_less(std::string_view a, std::string_view b) {
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    const auto x = static_cast<unsigned char>(a[i]), y = static_cast<unsigned char>(b[j]);
    if (std::isdigit(x) && std::isdigit(y)) {
      size_t i_end = 0, j_end = 0;
      const std::string_view m = number_at(a, i, i_end), n = number_at(b, j, j_end);
      if (m.size() != n.size()) return m.size() < n.size();
      if (m != n) return m < n;
      i = i_end;
      j = j_end;
    } else {
      if (x != y) return x < y;
      ++i;
      ++j;
    }
  }
  const size_t a_left = a.size() - i, b_left = b.size() - j;
  if (a_left != b_left) return a_left < b_left;
  return a < b;  // equal but for leading zeros
}

}  // namespace tael
