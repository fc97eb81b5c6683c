// Formatted text to a C stream. A failure is not thrown: the stream remembers it, and whoever ends a command asks it
// (std::ferror after std::fflush), so that output that did not arrive is one error with one exit code.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

namespace tael {

template <class... Args>
void print_to(std::FILE* out, fmt::format_string<Args...> format, Args&&... args) {
  const std::string text = fmt::format(format, std::forward<Args>(args)...);
  std::fwrite(text.data(), 1, text.size(), out);
}

}  // namespace tael
