#include "base/json_lines.hpp"

#include <fmt/core.h>

#include "base/file.hpp"

namespace tael {

namespace {

// Whether the braces outside of texts are in balance: a line that a kill tore may end with one inside a text.
bool closes_itself(std::string_view line) {
  int depth = 0;
  bool in_text = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (in_text) {
      if (c == '\\') ++i;
      in_text = c != '"';
    } else if (c == '"') {
      in_text = true;
    } else if (c == '{') {
      ++depth;
    } else if (c == '}') {
      --depth;
    }
  }
  return depth == 0 && !in_text;
}

}  // namespace

void read_json_lines(const std::string& path, std::string_view last_member,
                     const std::function<void(const Json&)>& take) {
  if (!path_exists(path)) return;
  const std::string text = read_file(path, uint64_t{4} << 30, Exit::bad_data);
  const std::string member = last_member.empty() ? std::string() : fmt::format("\"{}\"", last_member);
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    ++number;
    if (end == std::string::npos) break;  // torn
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (line.empty() || line.back() != '}' || line.find(member) == std::string_view::npos || !closes_itself(line))
      continue;
    take(JsonDocument::parse(line, path, {.first_line = number}).root());
  }
}

}  // namespace tael
