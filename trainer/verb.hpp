// A verb of the command line as data: its words, the places that its options fill, its help and its work. Every
// command describes its own (trainer/commands/); only command_line.cpp knows the parser behind it, and completion sees
// the same.
#pragma once

#include <csignal>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "parallel/comm.hpp"
#include "trainer/completion.hpp"
#include "trainer/config.hpp"

namespace tael {

struct VerbOption {
  // What the parser fills; must live as long as the verb's work.
  using Place = std::variant<bool*, std::string*, std::vector<std::string>*, std::optional<std::string>*, int64_t*,
                             std::optional<int64_t>*, double*, std::optional<double>*>;

  struct Rules {
    bool required = false;
    std::vector<std::string> words = {};                              // values that can be listed
    bool only_words = false;                                          // others are refused
    std::optional<std::pair<int64_t, int64_t>> range = std::nullopt;  // from, to: others are refused
    std::function<std::string(const std::string& value)> check = {};  // "", or what is wrong with the value
    std::vector<std::string> excludes = {};                           // options before it that it does not go with
    std::optional<ValueKind> kind = std::nullopt;  // for completion; nothing: a path for a word, none for a number
  };

  std::string name;  // "--out"; an argument that stands without a name: what help calls it
  Place place;       // bool: a flag, which takes no value
  std::string help;
  Rules rules = {};
};

// What a verb may know of the process it is in.
struct VerbContext {
  ConfigSearch search;
  std::string program;                      // path of the executable
  std::vector<std::string> command;         // as it was typed
  bool color = false, is_terminal = false;  // of stderr
  const volatile std::sig_atomic_t* interrupted = nullptr;
  uint64_t open_files = 0;                                   // the soft limit that the process was given
  std::function<const char*(const char* name)> environment;  // getenv
};

struct Verb {
  using Alone = std::function<int(const VerbContext&)>;           // work of one process
  using OnRanks = std::function<int(const VerbContext&, Comm&)>;  // of all ranks that the launcher started

  std::string name;
  std::string does;  // a line
  std::vector<VerbOption> options;
  std::variant<Alone, OnRanks> work;  // results go to stdout; returns the exit code
  std::string examples;               // command lines, each behind two spaces
  std::string more = {};              // paragraphs of help above the examples
  bool can_stop = false;              // signals end it in an orderly way
};

struct VerbGroup {  // tael NAME VERB
  std::string name, does, examples;
  std::vector<Verb> verbs;
};

}  // namespace tael
