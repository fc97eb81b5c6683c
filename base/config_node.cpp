#include "base/config_node.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/json.hpp"

namespace tael {

std::string Origin::str() const {
  if (!source) return "default";
  if (line == 0) return *source;
  return fmt::format("{}:{}:{}", *source, line, column);
}

std::string Origin::file_line() const {
  if (!source || line == 0) return str();
  std::error_code error;
  const std::string here = std::filesystem::current_path(error).string() + "/";
  const bool below = !error && source->starts_with(here);
  return fmt::format("{}:{}", below ? source->substr(here.size()) : *source, line);
}

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].scalar == key) return &items[i];
  }
  return nullptr;
}

ConfigNode* ConfigNode::find(std::string_view key) { return const_cast<ConfigNode*>(std::as_const(*this).find(key)); }

std::optional<ConfigNode> ConfigNode::take(std::string_view key) {
  const auto at = std::ranges::find(keys, key, &ConfigNode::scalar);
  if (at == keys.end()) return std::nullopt;
  const auto item = items.begin() + (at - keys.begin());
  std::optional<ConfigNode> value = std::move(*item);
  items.erase(item);
  keys.erase(at);
  return value;
}

void ConfigNode::set(std::string_view key, ConfigNode value) {
  CHECK(is_map() && find(key) == nullptr, "{}", key);
  keys.push_back(ConfigNode::text(std::string(key)));
  items.push_back(std::move(value));
}

ConfigNode ConfigNode::plain(std::string text) {
  ConfigNode node;
  node.kind = Kind::scalar;
  node.scalar = std::move(text);
  return node;
}

ConfigNode ConfigNode::text(std::string text) {
  ConfigNode node = plain(std::move(text));
  node.quoted = true;
  return node;
}

ConfigNode ConfigNode::list(std::vector<ConfigNode> items) {
  ConfigNode node;
  node.kind = Kind::list;
  node.items = std::move(items);
  return node;
}

ConfigNode ConfigNode::map() {
  ConfigNode node;
  node.kind = Kind::map;
  return node;
}

bool is_number(std::string_view text) {
  size_t i = 0;
  const auto digits = [&] {
    const size_t begin = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    return i - begin;
  };
  if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
  const size_t first = i;
  const size_t whole = digits();
  if (whole > 1 && text[first] == '0') return false;
  size_t fraction = 0;
  if (i < text.size() && text[i] == '.') {
    ++i;
    fraction = digits();
  }
  if (whole + fraction == 0) return false;
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    if (digits() == 0) return false;
  }
  return i == text.size();
}

std::string shortest(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  CHECK(error == std::errc());
  return std::string(buffer, end);
}

namespace {

// Whether YAML 1.1 and 1.2 readers alike take the bare text for a string, in flow style too.
bool is_plain_text(std::string_view text) {
  if (text.empty() || is_number(text)) return false;
  for (const std::string_view word : {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"}) {
    if (text.size() != word.size()) continue;
    bool same = true;
    for (size_t i = 0; i < text.size(); ++i) same = same && (text[i] | 0x20) == (word[i] | 0x20);
    if (same) return false;
  }
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!letter(text[0]) && text[0] != '/' && text[0] != '_') {
    // "1f1b", "10M" and "./x" are text; "1e5", "0x10", ".5", "1_000" and "12:30" are numbers to somebody.
    if (!digit(text[0]) && !text.starts_with("./") && !text.starts_with("../")) return false;
    if (digit(text[0]) && (text.find_first_of("xX_:.") != std::string_view::npos)) return false;
    if (digit(text[0]) && text.find_first_not_of("0123456789eE") == std::string_view::npos) return false;
  }
  for (const char c : text) {
    if (!letter(c) && !digit(c) && std::string_view("_-./+@=").find(c) == std::string_view::npos) return false;
  }
  return true;
}

}  // namespace

std::string to_flow(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::null: return "null";
    case ConfigNode::Kind::scalar: {
      if (!node.quoted || is_plain_text(node.scalar)) return node.scalar;
      std::string out;
      append_json_string(out, node.scalar);  // a JSON string is a double-quoted YAML scalar
      return out;
    }
    case ConfigNode::Kind::list: {
      std::string out = "[";
      for (size_t i = 0; i < node.items.size(); ++i) out += (i ? ", " : "") + to_flow(node.items[i]);
      return out + "]";
    }
    case ConfigNode::Kind::map: {
      std::string out = "{";
      for (size_t i = 0; i < node.items.size(); ++i) {
        out += (i ? ", " : "") + to_flow(node.keys[i]) + ": " + to_flow(node.items[i]);
      }
      return out + "}";
    }
  }
  return {};
}

void write_json(JsonWriter& out, const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::null: out.null(); return;
    case ConfigNode::Kind::scalar: {
      if (!node.quoted && (node.scalar == "true" || node.scalar == "false")) {
        out.value(node.scalar == "true");
      } else if (!node.quoted && is_number(node.scalar)) {
        int64_t whole = 0;
        const char* end = node.scalar.data() + node.scalar.size();
        const auto [stop, error] = std::from_chars(node.scalar.data(), end, whole);
        if (error == std::errc() && stop == end) {
          out.value(whole);
        } else {
          out.value(std::strtod(node.scalar.c_str(), nullptr));
        }
      } else {
        out.value(node.scalar);
      }
      return;
    }
    case ConfigNode::Kind::list:
      out.begin_array();
      for (const ConfigNode& item : node.items) write_json(out, item);
      out.end_array();
      return;
    case ConfigNode::Kind::map:
      out.begin_object();
      for (size_t i = 0; i < node.items.size(); ++i) {
        out.key(node.keys[i].scalar);
        write_json(out, node.items[i]);
      }
      out.end_object();
      return;
  }
}

std::string in_words(const ConfigNode& node) {
  constexpr size_t kLongest = 60;
  switch (node.kind) {
    case ConfigNode::Kind::null: return "null";
    case ConfigNode::Kind::list: return node.items.empty() ? "an empty list" : "a list";
    case ConfigNode::Kind::map: return node.items.empty() ? "an empty map" : "a map";
    case ConfigNode::Kind::scalar: break;
  }
  std::string text = node.scalar;
  if (text.size() > kLongest) {
    size_t cut = kLongest;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0u) == 0x80u) --cut;  // not inside a character
    text.resize(cut);
    text += "...";
  }
  const bool strange =
      std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  if (!node.quoted && !strange) return text;
  std::string out;
  append_json_string(out, text);
  return out;
}

std::string key_in_words(const ConfigNode& key) {
  ConfigNode bare = key;
  bare.quoted = false;
  return in_words(bare);
}

}  // namespace tael
