// JSON: a small value tree for reading, and a streaming writer.
//
// Reading is strict RFC 8259 in UTF-8 with caps, and a key that comes twice in one object is refused. Every value knows
// where it stood, so that what is wrong with it can be said as FILE:LINE:COLUMN. All failures are Error(options.code).
// Writing makes no tree: calls append to one string. Used for metrics lines, safetensors headers and reports.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/check.hpp"

namespace tael {

struct JsonOptions {
  size_t max_bytes = size_t{64} << 20;
  int max_depth = 64;                // of arrays and objects inside each other
  int64_t max_entries = 10'000'000;  // values in the whole text
  int64_t first_line = 1;            // number of the text's first line, for a line of a JSONL file
  Exit code = Exit::bad_data;        // of every error
};

class Json;
struct JsonMember;

// One value. References stay valid as long as the JsonDocument that it belongs to.
class Json {
 public:
  enum class Kind : uint8_t { null, boolean, integer, number, string, array, object };

  Kind kind() const { return static_cast<Kind>(value_.index()); }
  bool is_null() const { return kind() == Kind::null; }

  // Each fails with the place and "expected an integer, found a string" when the value is of another kind.
  bool as_bool() const;
  int64_t as_int() const;    // an integer literal that fits 64 bits with sign
  double as_double() const;  // any number
  const std::string& as_string() const;
  const std::vector<Json>& items() const;          // of an array
  const std::vector<JsonMember>& members() const;  // of an object, in the order of the text

  const Json* find(std::string_view key) const;  // nullptr: not there (or no object). Linear in the members.
  const Json& at(std::string_view key) const;    // fails when not there

  std::string where() const;  // "FILE:LINE:COLUMN"
  // Throws the document's error at this value's place.
  template <class... Args>
  [[noreturn]] void fail_here(fmt::format_string<Args...> format, Args&&... args) const {
    throw_here(fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  friend class JsonBuilder;
  struct Source {
    std::string name;
    Exit code;
  };
  [[noreturn]] void throw_here(const std::string& message) const;
  [[noreturn]] void wrong_kind(const char* expected) const;

  std::variant<std::monostate, bool, int64_t, double, std::string, std::vector<Json>, std::vector<JsonMember>> value_;
  const Source* source_ = nullptr;
  uint32_t line_ = 0, column_ = 0;

  friend class JsonDocument;
};

struct JsonMember {
  std::string key;
  Json value;
};

class JsonDocument {
 public:
  // `name` stands for the text in errors, usually its path.
  static JsonDocument parse(std::string_view text, std::string name, const JsonOptions& options = {});
  const Json& root() const { return *root_; }

 private:
  JsonDocument() = default;
  std::unique_ptr<Json::Source> source_;
  std::unique_ptr<Json> root_;
};

// begin_object().field("step", 3).key("loss").value(1.5).end_object() appends {"step":3,"loss":1.5}.
// Numbers are the shortest text that reads back as the same double or float, with ".0" where it would look like an
// integer; NaN and infinities become null; bytes that are not UTF-8 become U+FFFD.
class JsonWriter {
 public:
  enum class Style : uint8_t {
    compact,  // no white space: one line
    pretty,   // two spaces of indent, one member or item a line
  };
  explicit JsonWriter(Style style = Style::compact) : style_(style) {}

  JsonWriter& begin_object() { return begin('{', '}'); }
  JsonWriter& end_object() { return end('}'); }
  JsonWriter& begin_array() { return begin('[', ']'); }
  JsonWriter& end_array() { return end(']'); }
  JsonWriter& key(std::string_view key);

  JsonWriter& null() { return literal("null"); }
  template <std::same_as<bool> T>
  JsonWriter& value(T x) {
    return literal(x ? "true" : "false");
  }
  template <std::integral T>
  requires(!std::same_as<T, bool>) JsonWriter& value(T x) {
    if constexpr (std::is_signed_v<T>) return integer(static_cast<int64_t>(x));
    return natural(static_cast<uint64_t>(x));
  }
  JsonWriter& value(double x);
  JsonWriter& value(float x);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(const Json& tree);  // a tree that was read, unchanged in meaning

  template <class T>
  JsonWriter& field(std::string_view name, const T& x) {
    key(name);
    return value(x);
  }

  // What was written; whole once every begin has its end.
  const std::string& text() const { return text_; }
  bool complete() const { return open_.empty() && !text_.empty(); }

 private:
  struct Level {
    char close;
    bool empty;
  };
  JsonWriter& begin(char open, char close);
  JsonWriter& end(char close);
  JsonWriter& literal(std::string_view text);
  JsonWriter& integer(int64_t x);
  JsonWriter& natural(uint64_t x);
  template <class T>
  JsonWriter& real(T x);
  void separate();  // what must stand before the next value or key
  void new_line();

  Style style_;
  bool after_key_ = false;
  std::vector<Level> open_;
  std::string text_;
};

// `text` as a JSON string with its quotes.
void append_json_string(std::string& out, std::string_view text);

}  // namespace tael
