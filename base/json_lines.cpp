#include "base/json_lines.hpp"

#include <fmt/core.h>

#include <algorithm>

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
  const std::string member = last_member.empty() ? std::string() : fmt::format("\"{}\"", last_member);
  const File file = File::open(path, Exit::bad_data);
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  std::string held;  // from the beginning of a line
  int64_t number = 0;
  for (uint64_t at = 0, size = file.size(); at < size;) {
    const size_t before = held.size(), piece = static_cast<size_t>(std::min(kPiece, size - at));
    held.resize(before + piece);
    file.read_at(at, held.data() + before, piece);
    at += piece;
    size_t begin = 0;
    for (size_t end = held.find('\n', before); end != std::string::npos; end = held.find('\n', begin)) {
      ++number;
      const std::string_view line = std::string_view(held).substr(begin, end - begin);
      begin = end + 1;
      if (line.empty() || line.back() != '}' || line.find(member) == std::string_view::npos || !closes_itself(line))
        continue;
      take(JsonDocument::parse(line, path, {.first_line = number}).root());
    }
    held.erase(0, begin);
  }  // what is held is torn
}

}  // namespace tael
