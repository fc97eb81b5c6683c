// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tael {

// 1234567 as "1,234,567" where it has at most `width` characters, else as "1.235M", "14.80T".
std::string grouped(int64_t n);
std::string counted(double n, int width);
std::string count_of(int64_t n, std::string_view noun);  // "1 step", "1,200 steps"
std::string size_text(uint64_t bytes);  // "8.123 MB": three digits behind the point, as sizes are compared by eye
std::string duration(double seconds);  // "00:49", "1:02:03", "44d17h"; "-" for what is not known (negative, not finite)

}  // namespace tael
