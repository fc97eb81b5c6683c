// Other programs' names of configuration keys, as data: which stand for one of ours, and which look like one of ours
// but mean something else. Whoever owns a configuration language gives its Schema one such table (base/fields.hpp).
//
// A hyphen in a key is read as an underscore. A name that is a key of the schema at its place is never looked up here.
// An alias and its key in one file (or in one word of the command line) contradict each other: Error(bad_config).
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/config_node.hpp"

namespace tael {

class Schema;
struct Reading;

// The same meaning and the same unit under another name.
struct KeyAlias {
  // "training.steps": at that place only. "train_iters": at the top of the file and in the section of its key.
  std::string_view written;
  std::string_view key;  // "training.train_steps", or one element of a list: "optimizer.betas[0]"
};

// The same value of a key under another word.
struct WordAlias {
  std::string_view key;
  std::string_view written, word;  // "DualPipeV", "dualpipev"
};

// Another unit, factor or meaning: refused with the key that does it here and how to convert.
struct KeyAdvice {
  std::string_view written;  // as in KeyAlias, but without a dot: anywhere
  std::string_view key;      // empty: there is none
  std::string_view how;
};

// A name of which one value means what is done here anyway. That is accepted and listed, others are refused with `why`.
struct KeyConstant {
  std::string_view written;  // as in KeyAlias, without a dot: at the top of the file and in any section
  std::string_view value;
  std::string_view why;
};

struct KeyNames {
  std::span<const KeyAlias> aliases;
  std::span<const WordAlias> words;
  std::span<const KeyAdvice> advice;
  std::span<const KeyConstant> constants;
};

// A map with every alias replaced by its key.
struct RenamedKeys {
  ConfigNode root;
  std::map<std::string, std::string, std::less<>> written;  // key path to the name that was used instead
};
// Applies the schema's table. Keys that nobody knows stay as they are. What was replaced is appended to
// reading.aliases, constants to reading.ignored.
RenamedKeys rename_keys(const ConfigNode& root, const Schema& schema, Reading& reading);

// The key path nearest to an unknown name in the section `here` (empty: the top): a slip of the pen in this section or
// in an alias, the same or a similar name in another section, one that shares words with it. Empty: nothing is near.
std::string nearest_key(const Schema& schema, std::string_view here, std::string_view name);

// The key that somebody means who writes the name alone, "lr" or "train-samples": a path, another program's name at
// whatever place, or the last word of one key only. Empty: none.
std::string key_named(const Schema& schema, std::string_view name);

// What follows "unknown key; " about such a name: the nearest known one or, where nothing is near, what there is.
std::string about_unknown_key(const Schema& schema, const std::string& here, std::string_view name);

}  // namespace tael
