#include "base/key_names.hpp"

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "base/fields.hpp"
#include "base/key_path.hpp"

namespace tael {

namespace {

bool has_dot(std::string_view path) { return path.find('.') != std::string_view::npos; }

std::string with_underscores(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '-', '_');
  return text;
}

// "optimizer.betas[1]": the key, and the element or -1.
std::pair<std::string_view, int> element_of(std::string_view key) {
  const size_t bracket = key.find('[');
  if (bracket == std::string_view::npos) return {key, -1};
  int element = 0;
  std::from_chars(key.data() + bracket + 1, key.data() + key.size(), element);
  return {key.substr(0, bracket), element};
}

const KeyAlias* alias_at(const KeyNames& names, std::string_view path) {
  for (const KeyAlias& alias : names.aliases) {
    if (alias.written == path) return &alias;
    const bool in_section = !has_dot(alias.written) && last_key(path) == alias.written;
    if (in_section && parent_key(path) == parent_key(alias.key)) return &alias;
  }
  return nullptr;
}

// A row of advice or constants that stands for this path, or without a dot for this name anywhere.
template <class Row>
const Row* row_at(std::span<const Row> rows, std::string_view path) {
  for (const Row& row : rows) {
    if (row.written == path || (!has_dot(row.written) && row.written == last_key(path))) return &row;
  }
  return nullptr;
}

// Whether the path is a section of another program: names below it are in the table.
bool is_foreign_section(const KeyNames& names, const std::string& path) {
  const auto below = [&](const auto& row) { return row.written.starts_with(path + "."); };
  return std::any_of(names.aliases.begin(), names.aliases.end(), below) ||
         std::any_of(names.advice.begin(), names.advice.end(), below) ||
         std::any_of(names.constants.begin(), names.constants.end(), below);
}

class Renamer {
 public:
  Renamer(const Schema& schema, Reading& reading) : schema_(schema), names_(schema.other_names), reading_(reading) {}

  RenamedKeys run(const ConfigNode& root) {
    result_.root = copy_known(root, "");
    for (const Moved& moved : moved_) put(moved);
    return std::move(result_);
  }

 private:
  struct Moved {
    std::string written;  // path
    std::string key;      // path, perhaps with an element
    ConfigNode name, value;
  };

  // Everything but the aliases, which are kept for later: their keys may stand behind them.
  ConfigNode copy_known(const ConfigNode& map, const std::string& path) {
    ConfigNode out = map;
    out.keys.clear();
    out.items.clear();
    for (size_t i = 0; i < map.keys.size(); ++i) {
      const ConfigNode &name = map.keys[i], &value = map.items[i];
      const std::string here = join_keys(path, name.scalar), plain = join_keys(path, with_underscores(name.scalar));
      const SchemaEntry* entry = has_dot(name.scalar) ? nullptr : schema_.find(here);
      if (entry != nullptr) {
        out.keys.push_back(name);
        out.items.push_back(entry->section && value.is_map() ? copy_known(value, here) : word(here, value));
      } else if (has_dot(name.scalar) || !look_up(here, plain, name, value)) {
        out.keys.push_back(name);
        out.items.push_back(value);
      }
    }
    return out;
  }

  // False: nobody knows the name.
  bool look_up(const std::string& here, const std::string& plain, const ConfigNode& name, const ConfigNode& value) {
    if (const SchemaEntry* entry = schema_.find(plain); entry != nullptr && plain != here) {
      moved_.push_back({here, plain, name, entry->section && value.is_map() ? copy_known(value, plain) : value});
      return true;
    }
    if (const KeyAlias* alias = alias_at(names_, plain)) {
      moved_.push_back({here, std::string(alias->key), name, value});
      return true;
    }
    if (const KeyConstant* constant = row_at(names_.constants, plain)) {
      if (!value.is_scalar() || value.scalar != constant->value) {
        fail_at(value.origin, "{}: expected {} ({}), got {}", here, constant->value, constant->why, in_words(value));
      }
      const auto& listed = reading_.ignored;
      if (std::find(listed.begin(), listed.end(), here) == listed.end()) reading_.ignored.push_back(here);
      return true;
    }
    if (const KeyAdvice* advice = row_at(names_.advice, plain)) {
      if (advice->key.empty()) fail_at(name.origin, "{}: unknown key; {}", here, advice->how);
      fail_at(name.origin, "{}: unknown key; give {} instead: {}", here, advice->key, advice->how);
    }
    if (value.is_map() && is_foreign_section(names_, plain)) {
      const ConfigNode rest = copy_known(value, plain);
      if (!rest.keys.empty()) {
        fail_at(rest.keys[0].origin, "{}: unknown key; {}", join_keys(here, key_in_words(rest.keys[0])),
                about_unknown_key(schema_, plain, rest.keys[0].scalar));
      }
      return true;
    }
    return false;
  }

  // Another program's word for a value.
  ConfigNode word(const std::string& key, const ConfigNode& value) {
    ConfigNode out = value;
    for (const WordAlias& alias : names_.words) {
      if (alias.key != key || !value.is_scalar() || value.scalar != alias.written) continue;
      out.scalar = alias.word;
      note(fmt::format("{} {} is read as {}", key, alias.written, alias.word));
    }
    return out;
  }

  void put(const Moved& moved) {
    const auto [key, element] = element_of(moved.key);
    ConfigNode* map = &result_.root;
    std::string_view rest = key;
    for (size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
      map = section(*map, rest.substr(0, dot), moved.name);
      if (map == nullptr) return;  // no map: its reader says so
      rest.remove_prefix(dot + 1);
    }
    ConfigNode* there = find(*map, rest);
    std::string& written = result_.written[std::string(key)];
    if (there == nullptr) {
      ConfigNode name = moved.name;
      name.scalar = rest;
      map->keys.push_back(std::move(name));
      map->items.push_back(element < 0 ? word(std::string(key), moved.value) : partial_list(moved, element));
      written = moved.written;
    } else if (element >= 0 && there->partial && room_for(*there, element)) {
      there->items[static_cast<size_t>(element)] = moved.value;
      written += " and " + moved.written;
    } else if (there->is_map() && moved.value.is_map() && schema_.find(key) != nullptr && schema_.find(key)->section) {
      merge(*there, moved);
    } else {
      fail_at(moved.value.origin, "{} is another name of {}; give one of them", moved.written,
              written.empty() ? moved.key : written);
    }
    note(fmt::format("{} is read as {}", moved.written, moved.key));
  }

  // A section given twice, once with hyphens: its keys together, none of them twice.
  static void merge(ConfigNode& there, const Moved& moved) {
    for (size_t i = 0; i < moved.value.keys.size(); ++i) {
      const ConfigNode& name = moved.value.keys[i];
      if (there.find(name.scalar) != nullptr)
        fail_at(name.origin, "duplicate key {}", join_keys(moved.key, key_in_words(name)));
      there.keys.push_back(name);
      there.items.push_back(moved.value.items[i]);
    }
  }

  static ConfigNode partial_list(const Moved& moved, int element) {
    ConfigNode list = ConfigNode::list(std::vector<ConfigNode>(2));
    list.partial = true;
    list.origin = moved.value.origin;
    list.items[static_cast<size_t>(element)] = moved.value;
    return list;
  }
  static bool room_for(const ConfigNode& list, int element) {
    return list.items[static_cast<size_t>(element)].is_null();
  }

  static ConfigNode* find(ConfigNode& map, std::string_view name) {
    for (size_t i = 0; i < map.keys.size(); ++i) {
      if (map.keys[i].scalar == name) return &map.items[i];
    }
    return nullptr;
  }

  // The map of that section, made where there is none.
  static ConfigNode* section(ConfigNode& map, std::string_view name, const ConfigNode& because) {
    ConfigNode* there = find(map, name);
    if (there == nullptr) {
      ConfigNode key = because;
      key.scalar = name;
      map.keys.push_back(std::move(key));
      there = &map.items.emplace_back();
    }
    if (there->is_null()) {
      const Origin origin = there->origin;
      *there = ConfigNode::map();
      there->origin = origin;
    }
    return there->is_map() ? there : nullptr;
  }

  void note(std::string text) {
    auto& notes = reading_.aliases;
    if (std::find(notes.begin(), notes.end(), text) == notes.end()) notes.push_back(std::move(text));
  }

  const Schema& schema_;
  const KeyNames& names_;
  Reading& reading_;
  RenamedKeys result_;
  std::vector<Moved> moved_;
};

}  // namespace

RenamedKeys rename_keys(const ConfigNode& root, const Schema& schema, Reading& reading) {
  const KeyNames& names = schema.other_names;
  if (names.aliases.empty() && names.words.empty() && names.advice.empty() && names.constants.empty())
    return {root, {}};
  return Renamer(schema, reading).run(root);
}

namespace {

// The length of what two names share in whole words, one of which may be the beginning of the other: "warmup" of
// "warmup_steps", "max" of "maximum".
size_t shared_length(std::string_view a, std::string_view b) {
  constexpr size_t kShortest = 3;
  const auto words_of = [](std::string_view text) {
    std::vector<std::string_view> words;
    while (!text.empty()) {
      const size_t end = std::min(text.find_first_of("_-"), text.size());
      if (end > 0) words.push_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return words;
  };
  std::vector<std::string_view> others = words_of(b);
  size_t shared = 0;
  for (const std::string_view word : words_of(a)) {
    const auto like = [&](std::string_view other) {
      const size_t least = std::min(word.size(), other.size());
      return word == other || (least >= kShortest && word.substr(0, least) == other.substr(0, least));
    };
    const auto found = std::find_if(others.begin(), others.end(), like);
    if (found == others.end()) continue;
    shared += std::min(word.size(), found->size());
    others.erase(found);
  }
  return shared;
}

double by_letters(std::string_view name, std::string_view known) {
  const auto longest = static_cast<double>(std::max(name.size(), known.size()));
  return 1.0 - static_cast<double>(edit_distance(name, known)) / longest;
}

// From 0 to 1: how much alike a name is to a known one, by letters or by words, whichever says more. A part of a known
// name is nearly that name: "warmup" for "warmup_steps".
double likeness(std::string_view name, std::string_view known) {
  const auto length = static_cast<double>(name.size()), of_known = static_cast<double>(known.size());
  const auto shared = static_cast<double>(shared_length(name, known));
  const double words = 0.7 * shared / length + 0.2 * shared / of_known;  // of equals, the slip of the pen
  return std::max(by_letters(name, known), words);
}

}  // namespace

std::string nearest_key(const Schema& schema, std::string_view here, std::string_view name) {
  constexpr size_t kLongest = 100;  // a key of a megabyte costs no more than a long name
  // Below these two names have no more in common than any two; a slip here is likelier than the wrong section.
  constexpr double kNearHere = 0.5, kNearElsewhere = 0.7, kHere = 0.2;
  constexpr double kAlias = -0.02;  // our own name, where both are as near
  const std::string wanted = with_underscores(name.substr(0, kLongest));
  if (wanted.empty()) return {};
  std::string_view best;
  double most = 0;
  const auto offer = [&](std::string_view candidate, std::string_view key, bool in_here, double bonus) {
    double like = likeness(wanted, candidate);
    // A part of a name in another section says little, unless it is its beginning.
    if (!in_here && !here.empty() && !candidate.starts_with(wanted)) like = by_letters(wanted, candidate);
    const double score = like + bonus + (in_here ? kHere : 0.0);
    if (like < (in_here ? kNearHere : kNearElsewhere) || score <= most) return;
    most = score;
    best = key;
  };
  for (const SchemaEntry& entry : schema.entries) {
    const bool in_here = parent_key(entry.path) == here;
    // What is only accepted for other programs' sake is no advice, and a section only beside its like.
    if (entry.use == FieldUse::ignored || (entry.section && !in_here)) continue;
    if (entry.use == FieldUse::input_only && edit_distance(wanted, entry.name()) > 2) continue;
    offer(entry.name(), entry.path, in_here, 0.0);
  }
  for (const KeyAlias& alias : schema.other_names.aliases) {
    const std::string_view key = element_of(alias.key).first;
    const bool at_top = !has_dot(alias.written);
    if (parent_key(at_top ? key : alias.written) == here) {
      offer(last_key(alias.written), key, true, kAlias);
    } else if (at_top && here.empty()) {
      offer(alias.written, key, false, kAlias);
    }
  }
  return std::string(best);
}

std::string key_named(const Schema& schema, std::string_view name) {
  const std::string plain = with_underscores(name);
  if (const SchemaEntry* entry = schema.find(plain)) {
    return entry->section || entry->use == FieldUse::ignored ? std::string() : plain;
  }
  if (const KeyAlias* alias = alias_at(schema.other_names, plain)) return std::string(element_of(alias->key).first);
  if (const KeyAdvice* advice = row_at(schema.other_names.advice, plain)) return std::string(advice->key);
  for (const KeyAlias& alias : schema.other_names.aliases) {
    if (last_key(alias.written) == plain) return std::string(element_of(alias.key).first);
  }
  std::string found;
  for (const SchemaEntry& entry : schema.entries) {
    if (entry.section || entry.use != FieldUse::value || entry.name() != plain) continue;
    if (!found.empty()) return {};
    found = entry.path;
  }
  return found;
}

std::string about_unknown_key(const Schema& schema, const std::string& here, std::string_view name) {
  const std::string nearest = nearest_key(schema, here, name);
  if (!nearest.empty()) return fmt::format("the nearest known one is {}", nearest);
  std::vector<std::string_view> names;
  for (const SchemaEntry& entry : schema.entries) {
    if (parent_key(entry.path) == here && (entry.section || entry.use == FieldUse::value))
      names.push_back(entry.name());
  }
  constexpr size_t kMost = 16;  // more are no answer
  const std::string place = here.empty() ? "the top has" : here + " has";
  if (names.empty() || names.size() > kMost) return "nothing known is near it";
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    list += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + std::string(names[i]);
  }
  return fmt::format("{} {}", place, list);
}

}  // namespace tael
