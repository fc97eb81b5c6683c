// Paths of keys in a configuration: "training.seq_length".
#pragma once

#include <string>
#include <string_view>

namespace tael {

inline std::string join_keys(std::string_view path, std::string_view name) {
  return path.empty() ? std::string(name) : std::string(path) + "." + std::string(name);
}

// "training"; empty for a key of the top.
inline std::string_view parent_key(std::string_view path) {
  const size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : path.substr(0, dot);
}

// "seq_length".
inline std::string_view last_key(std::string_view path) {
  const size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

}  // namespace tael
