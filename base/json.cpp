#include "base/json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

namespace tael {

namespace {

constexpr const char* kKindNames[] = {"null",     "true or false", "an integer", "a number",
                                      "a string", "an array",      "an object"};
constexpr size_t kMessageLimit = 200;  // of a syntax error's text, which quotes the input

// Length of the well-formed UTF-8 sequence at the start of `s`, 0 if there is none (RFC 3629, table of section 4).
size_t utf8_length(std::string_view s) {
  const auto byte = [&](size_t i) { return i < s.size() ? static_cast<uint8_t>(s[i]) : 0u; };
  const auto tail = [&](size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned a = byte(0), b = byte(1);
  if (a < 0x80) return s.empty() ? 0 : 1;
  if (a >= 0xc2 && a <= 0xdf) return tail(1) ? 2 : 0;
  if (a >= 0xe0 && a <= 0xef) {
    const bool second = a == 0xe0 ? b >= 0xa0 && b <= 0xbf : a == 0xed ? b >= 0x80 && b <= 0x9f : tail(1);
    return second && tail(2) ? 3 : 0;
  }
  if (a >= 0xf0 && a <= 0xf4) {
    const bool second = a == 0xf0 ? b >= 0x90 && b <= 0xbf : a == 0xf4 ? b >= 0x80 && b <= 0x8f : tail(1);
    return second && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

// Walks the text token by token beside the parser, which says what a token is but not where.
class Position {
 public:
  Position(std::string_view text, int64_t first_line) : text_(text), line_(first_line) {
    if (text_.substr(0, 3) == "\xef\xbb\xbf") at_ = start_of_line_ = 3;
  }

  // Moves to the next token (over white space, ',' and ':') and past it; line() and column() are those of its start.
  void next_token() {
    while (at_ < text_.size() && is_between(text_[at_])) {
      if (text_[at_] == '\n') {
        ++line_;
        start_of_line_ = at_ + 1;
      }
      ++at_;
    }
    start_ = at_;
    if (at_ >= text_.size()) return;
    if (text_[at_] == '"') {
      ++at_;
      while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
      ++at_;
    } else if (std::string_view("{}[]").find(text_[at_]) != std::string_view::npos) {
      ++at_;
    } else {
      while (at_ < text_.size() && !is_between(text_[at_]) && text_[at_] != '}' && text_[at_] != ']') ++at_;
    }
  }
  int64_t line() const { return line_; }
  int64_t column() const { return static_cast<int64_t>(start_ - start_of_line_) + 1; }

 private:
  static bool is_between(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == ':'; }

  std::string_view text_;
  size_t at_ = 0, start_ = 0, start_of_line_ = 0;
  int64_t line_;
};

std::string place(const std::string& name, int64_t line, int64_t column) {
  return fmt::format("{}:{}:{}", name, line, column);
}

}  // namespace

// The parser's events become a tree.
class JsonBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonBuilder(std::string_view text, const Json::Source& source, const JsonOptions& options)
      : text_(text), source_(source), options_(options), position_(text, options.first_line) {}

  bool null() override { return add(std::monostate()); }
  bool boolean(bool x) override { return add(x); }
  bool number_integer(number_integer_t x) override { return add(static_cast<int64_t>(x)); }
  bool number_unsigned(number_unsigned_t x) override {
    // Beyond int64 it is a number, not an integer that some size could be read from.
    return std::in_range<int64_t>(x) ? add(static_cast<int64_t>(x)) : add(static_cast<double>(x));
  }
  bool number_float(number_float_t x, const string_t&) override { return add(static_cast<double>(x)); }
  bool string(string_t& x) override { return add(std::move(x)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(std::vector<JsonMember>()); }
  bool start_array(size_t) override { return open(std::vector<Json>()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    position_.next_token();
    if (!levels_.back().keys.insert(name).second)
      refuse(fmt::format("the key \"{}\" stands twice in one object", name));
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    // The library's text: "[json.exception...] parse error at line L, column C: what; last read: ...; expected ...".
    std::string what = error.what();
    if (const size_t colon = what.find(": "); what.find("] parse error") != std::string::npos && colon < what.size())
      what.erase(0, colon + 2);
    if (what.size() > kMessageLimit) {
      const size_t expected = what.rfind("; expected ");
      const std::string end = expected == std::string::npos || what.size() - expected > 80 ? "" : what.substr(expected);
      what = what.substr(0, kMessageLimit) + "..." + end;
    }
    const std::string_view before = text_.substr(0, position == 0 ? 0 : position - 1);
    const int64_t line = options_.first_line + std::count(before.begin(), before.end(), '\n');
    const size_t start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
    fail(options_.code, "{}: not JSON: {}", place(source_.name, line, static_cast<int64_t>(before.size() - start) + 1),
         what);
  }

  std::unique_ptr<Json> take() { return std::move(root_); }

 private:
  struct Level {
    Json* value;
    std::unordered_set<std::string> keys;
  };

  [[noreturn]] void refuse(const std::string& message) const {
    fail(options_.code, "{}: {}", place(source_.name, position_.line(), position_.column()), message);
  }

  // Puts the value where it belongs and returns it. Its address is stable until its parent gets the next value.
  template <class T>
  Json& put(T&& x) {
    position_.next_token();
    if (++entries_ > options_.max_entries) refuse(fmt::format("more than {} values", options_.max_entries));
    Json value;
    value.value_ = std::forward<T>(x);
    value.source_ = &source_;
    value.line_ = static_cast<uint32_t>(position_.line());
    value.column_ = static_cast<uint32_t>(position_.column());
    if (levels_.empty()) {
      root_ = std::make_unique<Json>(std::move(value));
      return *root_;
    }
    auto& parent = levels_.back().value->value_;
    if (auto* items = std::get_if<std::vector<Json>>(&parent)) return items->emplace_back(std::move(value));
    auto& members = std::get<std::vector<JsonMember>>(parent);
    return members.emplace_back(JsonMember{std::move(key_), std::move(value)}).value;
  }
  template <class T>
  bool add(T&& x) {
    put(std::forward<T>(x));
    return true;
  }
  template <class T>
  bool open(T&& x) {
    Json& value = put(std::forward<T>(x));
    if (static_cast<int>(levels_.size()) >= options_.max_depth)
      refuse(fmt::format("nested deeper than {} levels", options_.max_depth));
    levels_.push_back({&value, {}});
    return true;
  }
  bool close() {
    position_.next_token();
    levels_.pop_back();
    return true;
  }

  std::string_view text_;
  const Json::Source& source_;
  const JsonOptions& options_;
  Position position_;
  std::unique_ptr<Json> root_;
  std::vector<Level> levels_;
  std::string key_;
  int64_t entries_ = 0;
};

JsonDocument JsonDocument::parse(std::string_view text, std::string name, const JsonOptions& options) {
  JsonDocument document;
  document.source_ = std::make_unique<Json::Source>(Json::Source{std::move(name), options.code});
  if (text.size() > options.max_bytes)
    fail(options.code, "{}: {} bytes of JSON, at most {} are read", document.source_->name, text.size(),
         options.max_bytes);
  JsonBuilder builder(text, *document.source_, options);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  document.root_ = builder.take();
  CHECK(document.root_ != nullptr);
  return document;
}

void Json::throw_here(const std::string& message) const { throw Error(source_->code, where() + ": " + message); }

void Json::wrong_kind(const char* expected) const {
  fail_here("expected {}, found {}", expected, kKindNames[value_.index()]);
}

std::string Json::where() const { return place(source_->name, line_, column_); }

bool Json::as_bool() const {
  if (const auto* x = std::get_if<bool>(&value_)) return *x;
  wrong_kind("true or false");
}

int64_t Json::as_int() const {
  if (const auto* x = std::get_if<int64_t>(&value_)) return *x;
  wrong_kind("an integer");
}

double Json::as_double() const {
  if (const auto* x = std::get_if<double>(&value_)) return *x;
  if (const auto* x = std::get_if<int64_t>(&value_)) return static_cast<double>(*x);
  wrong_kind("a number");
}

const std::string& Json::as_string() const {
  if (const auto* x = std::get_if<std::string>(&value_)) return *x;
  wrong_kind("a string");
}

const std::vector<Json>& Json::items() const {
  if (const auto* x = std::get_if<std::vector<Json>>(&value_)) return *x;
  wrong_kind("an array");
}

const std::vector<JsonMember>& Json::members() const {
  if (const auto* x = std::get_if<std::vector<JsonMember>>(&value_)) return *x;
  wrong_kind("an object");
}

const Json* Json::find(std::string_view key) const {
  if (const auto* all = std::get_if<std::vector<JsonMember>>(&value_))
    for (const JsonMember& member : *all)
      if (member.key == key) return &member.value;
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  members();  // or "expected an object"
  if (const Json* value = find(key)) return *value;
  fail_here("the key \"{}\" is missing", key);
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const char c = text.front();
    if (length == 0) {
      out += "\xef\xbf\xbd";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<uint8_t>(c) < 0x20) {
      switch (c) {
        case '\n': out += "\\n"; break;
        case '\t': out += "\\t"; break;
        case '\r': out += "\\r"; break;
        default: fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
      }
    } else {
      out.append(text.substr(0, length));
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  out += '"';
}

void JsonWriter::new_line() {
  if (style_ != Style::pretty) return;
  text_ += '\n';
  text_.append(2 * open_.size(), ' ');
}

void JsonWriter::separate() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  if (open_.empty()) {
    CHECK(text_.empty(), "two values at the top of one JSON text");
    return;
  }
  if (!open_.back().empty) text_ += ',';
  open_.back().empty = false;
  new_line();
}

JsonWriter& JsonWriter::key(std::string_view key) {
  CHECK(!open_.empty() && open_.back().close == '}' && !after_key_, "a key outside an object: {}", key);
  separate();
  append_json_string(text_, key);
  text_ += style_ == Style::pretty ? ": " : ":";
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::begin(char open, char close) {
  CHECK(after_key_ || open_.empty() || open_.back().close == ']', "a value without a key");
  separate();
  text_ += open;
  open_.push_back({close, true});
  return *this;
}

JsonWriter& JsonWriter::end(char close) {
  CHECK(!open_.empty() && open_.back().close == close && !after_key_, "unbalanced '{}'", close);
  const bool empty = open_.back().empty;
  open_.pop_back();
  if (!empty) new_line();
  text_ += close;
  return *this;
}

JsonWriter& JsonWriter::literal(std::string_view text) {
  CHECK(after_key_ || open_.empty() || open_.back().close == ']', "a value without a key");
  separate();
  text_ += text;
  return *this;
}

JsonWriter& JsonWriter::integer(int64_t x) { return literal(fmt::format_int(x).c_str()); }
JsonWriter& JsonWriter::natural(uint64_t x) { return literal(fmt::format_int(x).c_str()); }

template <class T>
JsonWriter& JsonWriter::real(T x) {
  if (!std::isfinite(x)) return null();
  char buffer[40];
  char* end = std::to_chars(buffer, buffer + sizeof buffer - 2, x).ptr;
  if (std::string_view(buffer, end).find_first_of(".e") == std::string_view::npos) {
    *end++ = '.';
    *end++ = '0';
  }
  return literal({buffer, end});
}
JsonWriter& JsonWriter::value(double x) { return real(x); }
JsonWriter& JsonWriter::value(float x) { return real(x); }

JsonWriter& JsonWriter::value(std::string_view text) {
  literal("");
  append_json_string(text_, text);
  return *this;
}

JsonWriter& JsonWriter::value(const Json& tree) {
  switch (tree.kind()) {
    case Json::Kind::null: return null();
    case Json::Kind::boolean: return value(tree.as_bool());
    case Json::Kind::integer: return value(tree.as_int());
    case Json::Kind::number: return value(tree.as_double());
    case Json::Kind::string: return value(tree.as_string());
    case Json::Kind::array:
      begin_array();
      for (const Json& item : tree.items()) value(item);
      return end_array();
    case Json::Kind::object:
      begin_object();
      for (const JsonMember& member : tree.members()) key(member.key).value(member.value);
      return end_object();
  }
  CHECK(false, "a JSON kind without a name");
}

}  // namespace tael
