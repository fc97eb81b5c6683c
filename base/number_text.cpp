#include "base/number_text.hpp"

#include <fmt/core.h>

#include <cmath>

namespace tael {

std::string grouped(int64_t n) {
  std::string digits = std::to_string(n);
  for (int64_t i = static_cast<int64_t>(digits.size()) - 3; i > (n < 0 ? 1 : 0); i -= 3)
    digits.insert(static_cast<size_t>(i), 1, ',');
  return digits;
}

std::string count_of(int64_t n, std::string_view noun) {
  return fmt::format("{} {}{}", grouped(n), noun, n == 1 ? "" : "s");
}

std::string counted(double n, int width) {
  if (!std::isfinite(n)) return fmt::format("{}", n);
  if (std::fabs(n) < 1e15) {
    const std::string text = grouped(std::llround(n));
    if (static_cast<int>(text.size()) <= width) return text;
  }
  constexpr struct {
    double size;
    const char* unit;
  } kUnits[] = {{1e3, "k"}, {1e6, "M"}, {1e9, "B"}, {1e12, "T"}};
  for (const auto& [size, unit] : kUnits) {
    const double scaled = std::fabs(n) / size;
    if (scaled < 999.95) {
      const int decimals = scaled < 9.9995 ? 3 : scaled < 99.995 ? 2 : 1;
      return fmt::format("{:.{}f}{}", n / size, decimals, unit);
    }
  }
  return fmt::format("{:.2e}", n);
}

std::string size_text(uint64_t bytes) {
  const bool large = bytes >= 1'000'000'000;
  return fmt::format("{:.3f} {}", static_cast<double>(bytes) * (large ? 1e-9 : 1e-6), large ? "GB" : "MB");
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e11) return "-";
  const int64_t s = std::llround(seconds);
  if (s < 3600) return fmt::format("{:02}:{:02}", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

}  // namespace tael
