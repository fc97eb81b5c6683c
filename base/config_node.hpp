// ConfigNode: one value of a configuration as it was written, with the place where it was written.
//
// The YAML that is accepted is a plain tree: UTF-8, one document of at most 1 MiB, at most 32 levels deep and 10,000
// values, no anchors, aliases, merge keys or tags, every key a plain name that occurs once in its map. JSON is YAML.
// A scalar stays text: what it means is decided by the field that it is for (base/fields.hpp). Errors:
// Error(bad_config), one line that begins with FILE:LINE:COLUMN.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.hpp"

namespace tael {

class JsonWriter;

struct Origin {
  std::shared_ptr<const std::string> source;  // a file's name or "command line"; nullptr: nowhere, a default
  int line = 0, column = 0;                   // from 1; 0 where the source has no lines

  std::string str() const;        // "a.yaml:3:7", "command line", "default"
  std::string file_line() const;  // "a.yaml:3", with a path below the working directory written from there
};

struct ConfigNode {
  enum class Kind : uint8_t { null, scalar, list, map };
  Kind kind = Kind::null;
  bool quoted = false;            // the scalar stood in quotes: text, never a number
  bool partial = false;           // a list whose null elements were not given (base/key_names.hpp)
  std::string scalar;             // its text, for kind scalar
  std::vector<ConfigNode> keys;   // scalars, beside `items`, for kind map
  std::vector<ConfigNode> items;  // elements of a list, values of a map
  Origin origin;

  bool is_null() const { return kind == Kind::null; }
  bool is_scalar() const { return kind == Kind::scalar; }
  bool is_list() const { return kind == Kind::list; }
  bool is_map() const { return kind == Kind::map; }
  const ConfigNode* find(std::string_view key) const;  // nullptr: no such key
  ConfigNode* find(std::string_view key);
  void set(std::string_view key, ConfigNode value);  // appends to a map; REQUIRES that the key is not there
  // Takes the key out of a map and returns its value; nothing: no such key.
  std::optional<ConfigNode> take(std::string_view key);

  static ConfigNode plain(std::string text);  // a number or a word of the language: 3, true
  static ConfigNode text(std::string text);   // a string, quoted where YAML would read something else
  static ConfigNode list(std::vector<ConfigNode> items = {});
  static ConfigNode map();
};

// `source` names the text in errors and origins, usually its path. An empty text is an empty map.
ConfigNode parse_yaml(std::string_view text, const std::string& source);
// Reads the file (at most 1 MiB of it) and parses it.
ConfigNode load_yaml(const std::string& path);
// "key.sub=value" of a command line as the map {key: {sub: value}}; the value is YAML in flow style: a number, a word,
// [1, 2], {usd: 3}, null. Error(usage) when there is no "=" or an empty part in the key.
ConfigNode parse_override(std::string_view text);

// In flow style on one line, such that parse_yaml reads the same back: [[0, 32]], {usd: 2}, "1e5".
std::string to_flow(const ConfigNode& node);
void write_json(JsonWriter& out, const ConfigNode& node);
// What a person calls the value in "expected ..., got ...": 3, "abc" in quotes, a list, null. Cut to a line's length.
std::string in_words(const ConfigNode& node);
std::string key_in_words(const ConfigNode& key);  // without quotes where it can do without

// Whether all of the text is a decimal number as YAML 1.2 and JSON write it (no hexadecimal, no leading zeros).
bool is_number(std::string_view text);
// The shortest text that reads back as the same double.
std::string shortest(double value);

// Throws Error(bad_config) with the node's place in front.
template <class... Args>
[[noreturn]] void fail_at(const Origin& origin, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(Exit::bad_config, origin.str() + ": " + fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tael
