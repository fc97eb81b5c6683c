// Fields: how a struct of options describes itself, and everything that follows from the description.
//
// A struct S of options has, beside it, one function
//
//   void describe(TrainingOptions& o, FieldVisitor& v) {
//     v.field("seq_length", o.seq_length, Count{1}, "Tokens of one sequence.");
//     ...
//   }
//
// that names every field once: name, kind (type, unit, range: base/field_kinds.hpp), one sentence of help. The default
// is what a fresh S holds. Reading a configuration with its errors, the resolved file, help, and the comparison with
// the defaults or with another configuration all come from this one description.
//
// Reading is layered: read_fields may be called again with another map, whose keys replace those read before; what is
// written where is kept as an Origin for each key path. Errors are Error(bad_config):
//   a.yaml:3:3: training.seq_lenght: unknown key; the nearest known one is training.seq_length
//   a.yaml:3:15: training.seq_length: expected a whole number such as 4096, 4k or 20M, at least 1, got abc
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/config_node.hpp"
#include "base/field_kinds.hpp"
#include "base/key_names.hpp"

namespace tael {

enum class FieldUse : uint8_t {
  value,       // read, written, compared
  input_only,  // read, or checked, but no part of the resolved configuration
  ignored,     // accepted whatever it holds, listed, without effect
};

// One field of one object, without its type.
class FieldAccess {
 public:
  virtual ~FieldAccess() = default;
  virtual std::string expected() const = 0;
  virtual std::vector<std::string> choices() const = 0;  // words that it may hold; of a number only those beside it
  virtual void read(const ConfigNode& node) const = 0;   // throws BadValue
  virtual ConfigNode write() const = 0;
};

class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;

  template <class T, class K>
  void field(std::string_view name, T& value, const K& kind, std::string_view help, FieldUse use = FieldUse::value) {
    struct Access final : FieldAccess {
      Access(T& v, const K& k) : value(v), kind(k) {}
      std::string expected() const override { return kind.expected(); }
      std::vector<std::string> choices() const override {
        if constexpr (requires { kind.choices(); }) return kind.choices();
        return {};
      }
      void read(const ConfigNode& node) const override { kind.read(node, value); }
      ConfigNode write() const override { return kind.write(value); }
      T& value;
      const K& kind;
    };
    leaf(name, Access(value, kind), help, use);
  }

  template <class S>
  void section(std::string_view name, S& options, std::string_view help) {
    if (!enter(name, help)) return;
    describe(options, *this);
    leave();
  }

  // A key of other programs with one value that means what is done here anyway; `why` follows the refusal of others.
  void constant(std::string_view name, std::string_view value, std::string_view why);
  // A key of other programs that means nothing here.
  void ignored(std::string_view name);
  // Of two keys that exclude each other the later given replaces the earlier; both in one map is an error. Stands
  // before the fields. `clear_...` sets a field back to its unset state when the other one is given.
  void exclusive(std::string_view a, const std::function<void()>& clear_a, std::string_view b,
                 const std::function<void()>& clear_b);

 protected:
  virtual void leaf(std::string_view name, const FieldAccess& access, std::string_view help, FieldUse use) = 0;
  virtual bool enter(std::string_view name, std::string_view help) = 0;  // false: nothing to do in it
  virtual void leave() = 0;
  enum class Given : uint8_t { neither, first, second };
  virtual Given given_of(std::string_view /*a*/, std::string_view /*b*/) { return Given::neither; }
};

// One key of a described struct, in the order of the description, a section before its fields.
struct SchemaEntry {
  std::string path;  // "training.seq_length"
  bool section = false;
  FieldUse use = FieldUse::value;
  std::string expected, help;
  std::vector<std::string> choices;  // words that it may hold: true, false, auto
  ConfigNode default_value;

  std::string_view name() const { return std::string_view(path).substr(path.rfind('.') + 1); }
};

class Schema {
 public:
  std::vector<SchemaEntry> entries;
  KeyNames other_names;                                  // accepted where this schema is read
  const SchemaEntry* find(std::string_view path) const;  // nullptr: no such key
  std::string help() const;                              // one line a key: path, default, what it holds, help
  std::string help_of(std::string_view path) const;      // Error(usage) with the nearest name
};

// One key of an object's present state; sections as in Schema.
struct WrittenField {
  std::string path;
  bool section = false;
  ConfigNode value;
};

struct FieldDifference {
  std::string path;
  std::string first, second;  // as to_flow writes them
};

// What is known about a configuration besides its values.
struct Reading {
  std::map<std::string, Origin, std::less<>> origins;       // of every key path that was given
  std::vector<std::string> ignored;                         // key paths given that have no effect here
  std::vector<std::string> aliases;                         // "training.seq_len is read as training.seq_length"
  std::map<std::string, std::string, std::less<>> written;  // of key paths in force: the other name that was used
  std::vector<std::shared_ptr<const std::string>> layers;   // sources of keys, a later one's in place of earlier ones'
  bool given(std::string_view path) const { return origins.find(path) != origins.end(); }
  Origin origin(std::string_view path) const;
  // Error(bad_config) about the first of these keys, which do not go together; its place is that of the first of them
  // in the latest layer that gave any. Where none was given `source` stands in front.
  [[noreturn]] void refuse_clash(const std::vector<std::string>& paths, const std::string& source,
                                 const std::string& message) const;
  // The path, and what it was written as where that is another name.
  std::string in_words(std::string_view path) const;
};

namespace detail {
class FieldReader;
using Describe = std::function<void(FieldVisitor&)>;
Schema make_schema(const Describe& describe);
std::vector<WrittenField> write(const Describe& describe);
void read(const Describe& describe, const ConfigNode& map, const Schema& schema, const std::string& path,
          Reading& reading);
}  // namespace detail

template <class S>
Schema schema_of(S defaults) {
  return detail::make_schema([&](FieldVisitor& v) { describe(defaults, v); });
}
// Reads one map into the object; keys that it does not hold stay as they are. `path` is that of the map inside the
// whole.
template <class S>
void read_fields(S& options, const ConfigNode& map, const Schema& schema, Reading& reading,
                 const std::string& path = {}) {
  detail::read([&](FieldVisitor& v) { describe(options, v); }, map, schema, path, reading);
}
template <class S>
std::vector<WrittenField> write_fields(S options) {
  return detail::write([&](FieldVisitor& v) { describe(options, v); });
}

// The file that reads back as the same values. With `comment`, each value's line ends in "# comment(path)", one below
// the other.
using FieldComment = std::function<std::string(std::string_view path)>;
std::string to_yaml(const std::vector<WrittenField>& fields, const FieldComment& comment = {});
void write_json(JsonWriter& out, const std::vector<WrittenField>& fields);  // members only, inside an open object
// Keys whose values differ; both lists come from the same struct.
std::vector<FieldDifference> differences(const std::vector<WrittenField>& first,
                                         const std::vector<WrittenField>& second);

}  // namespace tael
