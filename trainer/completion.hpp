// Completion of a command line in a shell: what may stand where the cursor is.
//
// `tael completion SHELL` prints a small script that asks the program itself, by the hidden command `tael __complete`,
// whenever Tab is pressed. So verbs and options come from the tree that also parses them, keys and their words from the
// description that also reads them (config_schema), names from the configs directories as they are: nothing is listed
// twice, and a newer program needs no newer script.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config.hpp"

namespace tael {

// What a value of the command line is, as far as completion can help.
enum class ValueKind : uint8_t {
  none,       // a flag has no value; or one that nobody can guess
  file,       // a path
  config,     // a configuration: a name in configs/, or a path
  overrides,  // key=value of a configuration
};

struct CommandValue {
  std::string name;  // "--out"; of an argument without a name what help calls it
  std::string help;
  bool takes_value = true;  // false: a flag
  bool many = false;        // further values may follow
  ValueKind kind = ValueKind::none;
  std::vector<std::string> words = {};  // values that can be listed
};

// The tree of verbs as the command line parses it.
struct CommandTree {
  std::string name, does;
  std::vector<CommandValue> options = {};    // in the order of help
  std::vector<CommandValue> arguments = {};  // without names, in their order
  std::vector<CommandTree> verbs = {};
};

struct Candidate {
  std::string word;   // the whole word that may stand there
  std::string help;   // one line, may be empty
  bool open = false;  // the word goes on: no space behind it
  bool operator==(const Candidate&) const = default;
};

struct Candidates {
  std::vector<Candidate> words;
  bool files = false;  // names of files fit too; behind "=" where the word has one
};

// `words`: those behind the program's name up to the cursor; the last one, perhaps empty, is being typed, and what is
// returned begins with it. Never throws for what was typed.
Candidates complete(const CommandTree& tree, std::span<const std::string> words, const ConfigSearch& search);

// The answer of `tael __complete`: "word<Tab>help" or "word<Tab>help<Tab>open", a line each; a line ":files" where
// names of files fit.
std::string completion_answer(const Candidates& candidates);

// The script for "bash", "zsh" or "fish". `program` is asked where the word that was typed cannot be run.
std::string completion_script(std::string_view shell, const std::string& program);

}  // namespace tael
