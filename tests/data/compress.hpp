// Compressed bytes for the tests of what reads them.
#pragma once

#include <string>
#include <string_view>

namespace tael {

std::string gzip(std::string_view text);  // one member
std::string zstd(std::string_view text);  // one frame

}  // namespace tael
