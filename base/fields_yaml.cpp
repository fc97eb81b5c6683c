#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <unordered_map>

#include "base/config_node.hpp"
#include "base/key_path.hpp"

namespace tael {

namespace {

constexpr size_t kLargestText = size_t{1} << 20;
constexpr size_t kDeepest = 32;
constexpr size_t kMostNodes = 10'000;

// Position in the text of byte `at`, columns counted in characters as yaml-cpp does.
Origin place_of(std::string_view text, size_t at, const std::shared_ptr<const std::string>& source) {
  Origin origin{source, 1, 1};
  for (size_t i = 0; i < at; ++i) {
    if (text[i] == '\n') {
      ++origin.line;
      origin.column = 1;
    } else if ((static_cast<unsigned char>(text[i]) & 0xc0u) != 0x80u) {
      ++origin.column;
    }
  }
  return origin;
}

// Length of the UTF-8 character at `at`; 0: none (overlong forms, surrogates and values beyond U+10FFFF included).
size_t character_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> unsigned { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned lead = byte(at);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead < 0xe0) return follows(at + 1) ? 2 : 0;
  if (lead >= 0xe0 && lead < 0xf0) {
    const unsigned next = byte(at + 1);
    if ((lead == 0xe0 && next < 0xa0) || (lead == 0xed && next >= 0xa0)) return 0;
    return follows(at + 1) && follows(at + 2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead < 0xf5) {
    const unsigned next = byte(at + 1);
    if ((lead == 0xf0 && next < 0x90) || (lead == 0xf4 && next >= 0x90)) return 0;
    return follows(at + 1) && follows(at + 2) && follows(at + 3) ? 4 : 0;
  }
  return 0;
}

// What must hold before the parser sees the text. The count of brackets ignores quotes and comments: it only keeps a
// megabyte of "[" from being queued up inside the parser, whose own depth is limited where the tree is built.
void check_text(std::string_view text, const std::shared_ptr<const std::string>& source) {
  if (text.size() > kLargestText) {
    fail(Exit::bad_config, "{}: {} bytes; a configuration has at most {}", *source, text.size(), kLargestText);
  }
  constexpr int kMostBrackets = 256;
  int brackets = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t length = character_length(text, i);
    if (length == 0) {
      fail_at(place_of(text, i, source), "byte 0x{:02x} is not UTF-8", static_cast<unsigned char>(text[i]));
    }
    const char c = text[i];
    const auto code = static_cast<unsigned char>(c);
    if ((code < 0x20 && c != '\n' && c != '\t' && c != '\r') || code == 0x7f) {
      fail_at(place_of(text, i, source), "control character 0x{:02x}", code);
    }
    if (c == '[' || c == '{') ++brackets;
    if ((c == ']' || c == '}') && brackets > 0) --brackets;
    if (brackets > kMostBrackets) fail_at(place_of(text, i, source), "nested deeper than {} levels", kDeepest);
    i += length;
  }
}

// JSON writes a character beyond U+FFFF as a pair of escapes, \ud83d\ude00, which yaml-cpp refuses. Only in a
// double-quoted scalar do they mean that, and only the parser knows where those are. So it gets each pair with its
// backslashes marked by a byte that no text holds (check_text) and that it takes for a letter: lines and columns stay,
// and the scalars that come out say what each marked pair means.
constexpr char kMarkedBackslash = '\x01';
constexpr size_t kPairBytes = 12;

// The code point of the pair of escapes at `at`, whose backslashes are written as `backslash`; 0: there is none.
uint32_t surrogate_pair(std::string_view text, size_t at, char backslash) {
  if (at + kPairBytes > text.size()) return 0;
  uint32_t halves[2] = {};
  for (int h = 0; h < 2; ++h) {
    const char* escape = text.data() + at + 6 * static_cast<size_t>(h);
    if (escape[0] != backslash || escape[1] != 'u') return 0;
    const auto [end, error] = std::from_chars(escape + 2, escape + 6, halves[h], 16);
    if (error != std::errc() || end != escape + 6) return 0;
  }
  if (halves[0] < 0xd800 || halves[0] > 0xdbff || halves[1] < 0xdc00 || halves[1] > 0xdfff) return 0;
  return 0x10000 + ((halves[0] - 0xd800) << 10) + (halves[1] - 0xdc00);
}

std::string mark_surrogate_pairs(std::string text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') continue;
    if (surrogate_pair(text, i, '\\') != 0) {
      text[i] = text[i + 6] = kMarkedBackslash;
      i += kPairBytes - 1;
    } else {
      ++i;  // what it escapes, perhaps a backslash
    }
  }
  return text;
}

// The marked pairs of a scalar as the characters that they mean, or, not `escaped`, as they stand in the file.
std::string unmark_surrogate_pairs(std::string_view text, bool escaped) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const uint32_t c = escaped ? surrogate_pair(text, i, kMarkedBackslash) : 0;
    if (c == 0) {
      out += text[i] == kMarkedBackslash ? '\\' : text[i];
      continue;
    }
    const auto tail = [&](int shift) { return static_cast<char>(0x80u | ((c >> shift) & 0x3fu)); };
    out += {static_cast<char>(0xf0u | c >> 18), tail(12), tail(6), tail(0)};
    i += kPairBytes - 1;
  }
  return out;
}

// Builds the tree from the parser's events, so that nothing is lost that a finished yaml-cpp node no longer tells:
// duplicate keys, quotes, anchors. An alias is refused when it is met, so the walk is as long as the text.
class TreeBuilder : public YAML::EventHandler {
 public:
  // `text` is what the parser reads.
  TreeBuilder(std::shared_ptr<const std::string> source, std::string_view text)
      : source_(std::move(source)), text_(text) {}

  ConfigNode take() { return std::move(root_); }
  const ConfigNode* inside() const { return open_.empty() ? nullptr : &open_.back(); }
  Origin origin(const YAML::Mark& mark) const { return {source_, mark.line + 1, mark.column + 1}; }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_anchor(mark); }
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { refuse_anchor(mark); }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(start(mark, "", ConfigNode::Kind::null)); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    ConfigNode node = start(mark, tag, ConfigNode::Kind::scalar);
    node.scalar = value;
    node.quoted = tag == "!";
    if (value.find(kMarkedBackslash) != std::string::npos)
      node.scalar = unmark_surrogate_pairs(value, first_of(mark) == '"');
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(start(mark, tag, ConfigNode::Kind::list));
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(start(mark, tag, ConfigNode::Kind::map));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  [[noreturn]] void refuse_anchor(const YAML::Mark& mark) const {
    fail_at(origin(mark), "anchors and aliases are not accepted; write the value out, or share files by \"defaults:\"");
  }

  ConfigNode start(const YAML::Mark& mark, const std::string& tag, ConfigNode::Kind kind) {
    ConfigNode node;
    node.kind = kind;
    node.origin = origin(mark);
    if (!tag.empty() && tag != "?" && tag != "!") fail_at(node.origin, "the tag {} is not accepted", tag);
    if (++nodes_ > kMostNodes) fail_at(node.origin, "more than {} values", kMostNodes);
    return node;
  }

  bool wants_key() const {
    return !open_.empty() && open_.back().is_map() && open_.back().keys.size() == open_.back().items.size();
  }

  void open(ConfigNode node) {
    if (wants_key()) fail_at(node.origin, "a key must be a name");
    if (open_.size() >= kDeepest) fail_at(node.origin, "nested deeper than {} levels", kDeepest);
    open_.push_back(std::move(node));
    key_places_.emplace_back();
  }

  void close() {
    ConfigNode node = std::move(open_.back());
    open_.pop_back();
    key_places_.pop_back();
    add(std::move(node));
  }

  void add(ConfigNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
    } else if (wants_key()) {
      add_key(std::move(node));
    } else {
      open_.back().items.push_back(std::move(node));
    }
  }

  void add_key(ConfigNode key) {
    ConfigNode& map = open_.back();
    if (!key.is_scalar()) fail_at(key.origin, "a key must be a name");
    if (key.scalar == "<<") {
      fail_at(key.origin, "merge keys (<<) are not accepted; name what to inherit in \"defaults:\"");
    }
    const auto [first, is_new] = key_places_.back().emplace(key.scalar, map.keys.size());
    if (!is_new) {
      const Origin& place = map.keys[first->second].origin;
      fail_at(key.origin, "duplicate key {}; it is first given at {}:{}", path_of(key), place.line, place.column);
    }
    map.keys.push_back(std::move(key));
  }

  // Of a key in the innermost map: "optimizer.lr", "data.train[0].path".
  std::string path_of(const ConfigNode& key) const {
    std::string path;
    for (size_t i = 0; i + 1 < open_.size(); ++i)
      path = open_[i].is_map() ? join_keys(path, key_in_words(open_[i].keys.back()))
                               : fmt::format("{}[{}]", path, open_[i].items.size());
    return join_keys(path, key_in_words(key));
  }

  // The first character of the scalar that begins at the mark, behind a tag "!" and comments.
  char first_of(const YAML::Mark& mark) const {
    const size_t order_mark = text_.starts_with("\xef\xbb\xbf") ? 3 : 0;  // which the parser does not count
    size_t at = static_cast<size_t>(mark.pos) + order_mark;
    if (at < text_.size() && text_[at] == '!') at = text_.find_first_not_of(" \t\r\n", at + 1);
    while (at < text_.size() && text_[at] == '#') at = text_.find_first_not_of(" \t\r\n", text_.find('\n', at));
    return at < text_.size() ? text_[at] : '\0';
  }

  std::shared_ptr<const std::string> source_;
  std::string_view text_;
  std::vector<ConfigNode> open_;
  std::vector<std::unordered_map<std::string, size_t>> key_places_;  // of each open map: where a key stands in it
  ConfigNode root_;
  size_t nodes_ = 0;
};

}  // namespace

ConfigNode parse_yaml(std::string_view text, const std::string& source_name) {
  const auto source = std::make_shared<const std::string>(source_name);
  check_text(text, source);
  const std::string marked = mark_surrogate_pairs(std::string(text));
  std::istringstream in{marked};
  TreeBuilder builder(source, marked);
  try {
    YAML::Parser parser(in);
    if (!parser.HandleNextDocument(builder)) {
      ConfigNode empty = ConfigNode::map();
      empty.origin = {source, 1, 1};
      return empty;
    }
    ConfigNode root = builder.take();
    TreeBuilder second(source, marked);
    if (parser.HandleNextDocument(second)) {
      fail_at(second.take().origin, "a second document; a configuration is one");
    }
    return root;
  } catch (const YAML::Exception& error) {
    // yaml-cpp knows aliases without their anchor before we do.
    if (error.msg.find("anchor") != std::string::npos) {
      fail_at(builder.origin(error.mark), "anchors and aliases are not accepted");
    }
    // What is not closed is reported where it was opened; the parser would point at the end, or at nothing.
    if (error.msg.find("end of") != std::string::npos && builder.inside() != nullptr) {
      fail_at(builder.inside()->origin, "not YAML: what begins here has no end");
    }
    fail_at(builder.origin(error.mark), "not YAML: {}", error.msg);
  }
}

ConfigNode load_yaml(const std::string& path) {
  errno = 0;
  std::ifstream in;
  std::error_code ignored;
  // A pipe that nobody writes to would be waited for.
  if (!std::filesystem::is_fifo(path, ignored)) in.open(path, std::ios::binary);
  std::string text(kLargestText + 1, '\0');
  if (in.is_open()) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad() || (in.fail() && !in.eof())) {
    fail(Exit::bad_config, "{}: cannot be read: {}", path, errno != 0 ? std::strerror(errno) : "not a file");
  }
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kLargestText) {
    fail(Exit::bad_config, "{}: more than {} bytes; a configuration has at most that", path, kLargestText);
  }
  return parse_yaml(text, path);
}

ConfigNode parse_override(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    fail(Exit::usage, "\"{}\" is not an override; write key.sub=value", text);
  }
  const std::string_view key = text.substr(0, equals);
  const std::string source = "command line";
  // Inside brackets the value is read in flow style, and a comment sign cannot cut it off unseen.
  ConfigNode list;
  try {
    list = parse_yaml(fmt::format("[{}]\n", text.substr(equals + 1)), source);
  } catch (const Error& error) {
    // What is no YAML, said of brackets that nobody wrote, helps nobody; what is YAML and not accepted does.
    const std::string_view what = error.what();
    std::string reason(what.substr(std::min(what.find(": ") + 2, what.size())));
    for (const std::string_view known : {"duplicate key", "anchors", "merge keys", "the tag", "nested deeper"}) {
      if (!reason.starts_with(known)) continue;
      reason = reason.substr(0, reason.find("; it is first given"));
      if (const size_t at = reason.find("[0]"); at != std::string::npos) reason.replace(at, 3, key);
      fail(Exit::bad_config, "command line: {}: {}", key, reason);
    }
    fail(Exit::bad_config,
         "command line: {}: \"{}\" is not a value in YAML's flow style; quote text that holds []{{}},:#", key,
         text.substr(equals + 1, 60));
  }
  if (list.items.empty())
    fail(Exit::bad_config, "command line: {}: no value; null unsets a key that may be unset", key);
  if (!list.is_list() || list.items.size() != 1) {
    fail(Exit::bad_config, "command line: {}: {} values; write a list as [a, b]", key, list.items.size());
  }
  ConfigNode value = std::move(list.items[0]);
  const auto command_line = std::make_shared<const std::string>(source);
  // The place of a value is the command line as a whole: its lines and columns are nobody's.
  const auto strip = [&](const auto& self, ConfigNode& node) -> void {
    node.origin = {command_line, 0, 0};
    for (ConfigNode& k : node.keys) k.origin = {command_line, 0, 0};
    for (ConfigNode& item : node.items) self(self, item);
  };
  strip(strip, value);
  size_t end = key.size();
  while (true) {
    const size_t dot = key.substr(0, end).rfind('.');
    const size_t begin = dot == std::string_view::npos ? 0 : dot + 1;
    if (begin == end) fail(Exit::usage, "\"{}\" is not an override; write key.sub=value", text);
    ConfigNode map = ConfigNode::map();
    map.set(key.substr(begin, end - begin), std::move(value));
    strip(strip, map);
    value = std::move(map);
    if (dot == std::string_view::npos) return value;
    end = dot;
  }
}

}  // namespace tael
