#include "base/fields.hpp"

#include <algorithm>
#include <charconv>

#include "base/json.hpp"
#include "base/key_path.hpp"

namespace tael {

namespace {

struct ConstantKind {
  std::string_view value, why;
  std::string expected() const { return fmt::format("{} ({})", value, why); }
  void read(const ConfigNode& node, std::string_view&) const {
    if (node.is_scalar() && node.quoted && is_number(value)) refuse(node, expected());
    if (node.is_scalar() && node.scalar == value) return;
    // 0 and 0.0 are one number.
    double given = 0, wanted = 0;
    if (node.is_scalar() && number(node.scalar, given) && number(value, wanted) && given == wanted) return;
    refuse(node, expected());
  }
  // False: no number, or one that double does not hold.
  static bool number(std::string_view text, double& x) {
    if (!is_number(text)) return false;
    return std::from_chars(text.data(), text.data() + text.size(), x).ec == std::errc();
  }
  ConfigNode write(std::string_view) const { return ConfigNode::text(std::string(value)); }
};

struct IgnoredKind {
  std::string expected() const { return "anything; it has no effect here"; }
  void read(const ConfigNode&, int&) const {}
  ConfigNode write(int) const { return {}; }
};

}  // namespace

void FieldVisitor::constant(std::string_view name, std::string_view value, std::string_view why) {
  std::string_view target;
  field(name, target, ConstantKind{value, why}, why, FieldUse::input_only);
}

void FieldVisitor::ignored(std::string_view name) {
  int target = 0;
  field(name, target, IgnoredKind{}, "Accepted, without effect here.", FieldUse::ignored);
}

void FieldVisitor::exclusive(std::string_view a, const std::function<void()>& clear_a, std::string_view b,
                             const std::function<void()>& clear_b) {
  switch (given_of(a, b)) {
    case Given::neither: return;
    case Given::first: clear_b(); return;
    case Given::second: clear_a(); return;
  }
}

Origin Reading::origin(std::string_view path) const {
  // A key that was given as part of a whole section has its own entry; a section has that of its first key.
  const auto it = origins.find(path);
  return it == origins.end() ? Origin{} : it->second;
}

void Reading::refuse_clash(const std::vector<std::string>& paths, const std::string& source,
                           const std::string& message) const {
  Origin latest;
  std::ptrdiff_t latest_layer = -1;
  for (const std::string& path : paths) {
    const Origin found = origin(path);
    const std::ptrdiff_t layer = std::ranges::find(layers, found.source) - layers.begin();
    if (!found.source || layer <= latest_layer) continue;
    latest = found;
    latest_layer = layer;
  }
  const std::string& key = paths.front();
  if (!latest.source) fail(Exit::bad_config, "{}: {}: {}", source, key, message);
  fail_at(latest, "{}: {}", in_words(key), message);
}

std::string Reading::in_words(std::string_view path) const {
  const auto other = written.find(path);
  return other == written.end() ? std::string(path) : fmt::format("{} (written {})", path, other->second);
}

namespace {

class SchemaMaker final : public FieldVisitor {
 public:
  Schema schema;

 protected:
  void leaf(std::string_view name, const FieldAccess& access, std::string_view help, FieldUse use) override {
    SchemaEntry entry;
    entry.path = join_keys(path_, name);
    entry.use = use;
    entry.expected = access.expected();
    entry.choices = access.choices();
    entry.help = help;
    entry.default_value = access.write();
    schema.entries.push_back(std::move(entry));
  }
  bool enter(std::string_view name, std::string_view help) override {
    path_ = join_keys(path_, name);
    SchemaEntry entry;
    entry.path = path_;
    entry.section = true;
    entry.help = help;
    schema.entries.push_back(std::move(entry));
    return true;
  }
  void leave() override { path_ = parent_key(path_); }

 private:
  std::string path_;
};

class FieldWriter final : public FieldVisitor {
 public:
  std::vector<WrittenField> fields;

 protected:
  void leaf(std::string_view name, const FieldAccess& access, std::string_view, FieldUse use) override {
    if (use == FieldUse::value) fields.push_back({join_keys(path_, name), false, access.write()});
  }
  bool enter(std::string_view name, std::string_view) override {
    path_ = join_keys(path_, name);
    fields.push_back({path_, true, {}});
    return true;
  }
  void leave() override { path_ = parent_key(path_); }

 private:
  std::string path_;
};

[[noreturn]] void fail_unknown(const ConfigNode& key, const std::string& here, const Schema& schema) {
  const std::string path = join_keys(here, key_in_words(key));
  // A path of the command line where a file has sections.
  if (schema.find(join_keys(here, key.scalar)) != nullptr) {
    const size_t dot = key.scalar.find('.');
    fail_at(key.origin, "{}: unknown key; in a file write {}: {{{}: ...}}", path, key.scalar.substr(0, dot),
            key.scalar.substr(dot + 1));
  }
  fail_at(key.origin, "{}: unknown key; {}", path, about_unknown_key(schema, here, key.scalar));
}

// Every key of the map is known, in the order of the file, before anything is read.
void check_known(const ConfigNode& map, const std::string& path, const Schema& schema) {
  for (size_t i = 0; i < map.keys.size(); ++i) {
    const std::string key_path = join_keys(path, map.keys[i].scalar);
    const SchemaEntry* entry = map.keys[i].scalar.find('.') == std::string::npos ? schema.find(key_path) : nullptr;
    if (entry == nullptr) fail_unknown(map.keys[i], path, schema);
    if (!entry->section) continue;
    if (map.items[i].is_map()) {
      check_known(map.items[i], key_path, schema);
    } else if (!map.items[i].is_null() || !path.empty()) {  // an empty section is at the top; inside, null says: none
      fail_at(map.items[i].origin, "{}: expected a map of keys, got {}", key_path, in_words(map.items[i]));
    }
  }
}

class FieldReaderImpl final : public FieldVisitor {
 public:
  FieldReaderImpl(const RenamedKeys& renamed, std::string path, Reading& reading)
      : written_(renamed.written), reading_(reading), path_(std::move(path)), maps_{&renamed.root} {}

 protected:
  void leaf(std::string_view name, const FieldAccess& access, std::string_view, FieldUse use) override {
    const std::string path = join_keys(path_, name);
    const ConfigNode* node = maps_.back()->find(name);
    if (node == nullptr) return;
    try {
      access.read(*node);
    } catch (const BadValue& bad) {
      const Origin& place = bad.origin.source ? bad.origin : node->origin;
      fail_at(place, "{}: expected {}, got {}", written(path), bad.expected, bad.got);
    }
    if (use == FieldUse::ignored) {
      if (std::find(reading_.ignored.begin(), reading_.ignored.end(), path) == reading_.ignored.end()) {
        reading_.ignored.push_back(path);
      }
      return;
    }
    if (const auto other = written_.find(path); other != written_.end()) {
      reading_.written[path] = other->second;
    } else {
      reading_.written.erase(path);
    }
    reading_.origins[path] = node->origin;
  }

  bool enter(std::string_view name, std::string_view) override {
    const ConfigNode* node = maps_.back()->find(name);
    if (node == nullptr || !node->is_map()) return false;
    maps_.push_back(node);
    path_ = join_keys(path_, name);
    return true;
  }
  void leave() override {
    maps_.pop_back();
    path_ = parent_key(path_);
  }

  Given given_of(std::string_view a, std::string_view b) override {
    const ConfigNode* first = maps_.back()->find(a);
    const ConfigNode* second = maps_.back()->find(b);
    const bool has_first = first != nullptr && !first->is_null();
    const bool has_second = second != nullptr && !second->is_null();
    if (has_first && has_second) {
      const ConfigNode& later =
          first->origin.line > second->origin.line ||
                  (first->origin.line == second->origin.line && first->origin.column > second->origin.column)
              ? *first
              : *second;
      fail_at(later.origin, "{} and {} exclude each other; give one of them", written(join_keys(path_, a)),
              written(join_keys(path_, b)));
    }
    if (has_first) {
      forget(join_keys(path_, b));
      return Given::first;
    }
    if (has_second) {
      forget(join_keys(path_, a));
      return Given::second;
    }
    return Given::neither;
  }

 private:
  void forget(const std::string& path) {
    reading_.origins.erase(path);
    reading_.written.erase(path);
  }
  std::string written(const std::string& path) const {
    const auto other = written_.find(path);
    return other == written_.end() ? path : other->second;
  }

  const std::map<std::string, std::string, std::less<>>& written_;
  Reading& reading_;
  std::string path_;
  std::vector<const ConfigNode*> maps_;
};

}  // namespace

namespace detail {

Schema make_schema(const Describe& describe) {
  SchemaMaker maker;
  describe(maker);
  return std::move(maker.schema);
}

std::vector<WrittenField> write(const Describe& describe) {
  FieldWriter writer;
  describe(writer);
  return std::move(writer.fields);
}

void read(const Describe& describe, const ConfigNode& map, const Schema& schema, const std::string& path,
          Reading& reading) {
  if (map.is_null()) return;
  if (!map.is_map()) {
    fail_at(map.origin, "{}expected a map of keys, got {}", path.empty() ? "" : path + ": ", in_words(map));
  }
  const RenamedKeys renamed = rename_keys(map, schema, reading);
  check_known(renamed.root, path, schema);
  FieldReaderImpl reader(renamed, path, reading);
  describe(reader);
}

}  // namespace detail

const SchemaEntry* Schema::find(std::string_view path) const {
  for (const SchemaEntry& entry : entries) {
    if (entry.path == path) return &entry;
  }
  return nullptr;
}

namespace {

void append_help(std::string& out, const SchemaEntry& entry) {
  if (entry.section) {
    out += fmt::format("\n{}: {}\n", entry.path, entry.help);
  } else {
    out += fmt::format("  {} = {}: {} ({})\n", entry.path, to_flow(entry.default_value), entry.help, entry.expected);
  }
}

}  // namespace

std::string Schema::help() const {
  std::string out;
  for (const SchemaEntry& entry : entries) {
    if (entry.section || entry.use == FieldUse::value) append_help(out, entry);
  }
  return out;
}

std::string Schema::help_of(std::string_view path) const {
  const SchemaEntry* found = find(path);
  if (found == nullptr) {
    std::vector<std::string_view> paths;
    for (const SchemaEntry& entry : entries) paths.push_back(entry.path);
    fail(Exit::usage, "there is no key {}; the nearest known one is {}", path, nearest_of(path, paths));
  }
  std::string out;
  for (const SchemaEntry& entry : entries) {
    if (&entry == found || (found->section && entry.path.starts_with(std::string(path) + "."))) append_help(out, entry);
  }
  return out;
}

std::string to_yaml(const std::vector<WrittenField>& fields, const FieldComment& comment) {
  constexpr size_t kWidest = 48;  // a longer line pushes its own comment only
  std::vector<std::string> lines;
  size_t column = 0;
  for (const WrittenField& field : fields) {
    const auto depth = static_cast<size_t>(std::count(field.path.begin(), field.path.end(), '.'));
    std::string& line = lines.emplace_back(2 * depth, ' ');
    line += last_key(field.path);
    line += ':';
    if (field.section) continue;
    line += ' ' + to_flow(field.value);
    if (line.size() <= kWidest) column = std::max(column, line.size());
  }
  std::string out;
  for (size_t i = 0; i < fields.size(); ++i) {
    out += lines[i];
    if (comment && !fields[i].section) {
      out.append(column > lines[i].size() ? column - lines[i].size() : 0, ' ');
      out += "  # " + comment(fields[i].path);
    }
    out += '\n';
  }
  return out;
}

void write_json(JsonWriter& out, const std::vector<WrittenField>& fields) {
  std::vector<std::string> open;
  for (const WrittenField& field : fields) {
    while (!open.empty() && parent_key(field.path) != open.back()) {
      out.end_object();
      open.pop_back();
    }
    out.key(last_key(field.path));
    if (field.section) {
      out.begin_object();
      open.push_back(field.path);
    } else {
      write_json(out, field.value);
    }
  }
  for (size_t i = 0; i < open.size(); ++i) out.end_object();
}

std::vector<FieldDifference> differences(const std::vector<WrittenField>& first,
                                         const std::vector<WrittenField>& second) {
  CHECK(first.size() == second.size(), "two different structs");
  std::vector<FieldDifference> found;
  for (size_t i = 0; i < first.size(); ++i) {
    CHECK(first[i].path == second[i].path, "two different structs");
    if (first[i].section) continue;
    std::string a = to_flow(first[i].value), b = to_flow(second[i].value);
    if (a != b) found.push_back({first[i].path, std::move(a), std::move(b)});
  }
  return found;
}

}  // namespace tael
