#include "trainer/completion.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace tael {

namespace fs = std::filesystem;

namespace {

class Completer {
 public:
  Completer(std::string typed, const ConfigSearch& search) : typed_(std::move(typed)), search_(search) {}

  void offer(std::string word, std::string_view help, bool open = false) {
    const auto same = [&](const Candidate& c) { return c.word == word; };
    if (!word.starts_with(typed_) || std::any_of(found.words.begin(), found.words.end(), same)) return;
    found.words.push_back({std::move(word), one_line(help), open});
  }

  void options(const CommandTree& tree) {
    for (const CommandValue& option : tree.options) offer(option.name, option.help);
  }
  void verbs(const CommandTree& tree) {
    for (const CommandTree& verb : tree.verbs) offer(verb.name, verb.does);
  }

  // `prefix` stands in front of each value: "--color=".
  void value(const CommandValue& value, const std::string& prefix = {}) {
    for (const std::string& word : value.words) offer(prefix + word, "", word.ends_with('='));
    switch (value.kind) {
      case ValueKind::none: return;
      case ValueKind::file: found.files = true; return;
      case ValueKind::config: configs(); return;
      case ValueKind::overrides: overrides(); return;
    }
  }

  Candidates found;

 private:
  static std::string one_line(std::string_view help) {
    std::string text(help.substr(0, help.find('\n')));
    std::replace(text.begin(), text.end(), '\t', ' ');
    return text;
  }

  // Names below a directory of the configs directories, as load_config finds them.
  std::vector<std::string> names_below(const std::string& subdirectory) const {
    std::set<std::string> names;
    for (const std::string& directory : search_.config_dirs) {
      const fs::path top = fs::path(directory) / subdirectory;
      std::error_code error;
      for (fs::recursive_directory_iterator it(top, error), end; !error && it != end; it.increment(error)) {
        if (it->path().extension() != ".yaml") continue;
        names.insert(it->path().lexically_relative(top).replace_extension().string());
      }
    }
    return {names.begin(), names.end()};
  }

  void configs() {
    for (const std::string& name : names_below("")) offer(name, "");
    found.files = true;
  }

  void overrides() {
    const size_t equals = typed_.find('=');
    if (equals == std::string::npos) {
      for (const SchemaEntry& entry : config_schema().entries) {
        if (!entry.section && (entry.use == FieldUse::value || entry.path == "model.preset"))
          offer(entry.path + "=", entry.help, true);
      }
      return;
    }
    const std::string key = typed_.substr(0, equals);
    const SchemaEntry* entry = config_schema().find(key);
    if (entry == nullptr || entry->section) return;
    if (key == "model.preset") {
      for (const std::string& name : names_below("models")) offer(key + "=" + name, "");
      return;
    }
    for (const std::string& word : entry->choices) offer(fmt::format("{}={}", key, word), "");
    found.files = entry->expected.find("path") != std::string::npos;
    const std::string usual = to_flow(entry->default_value);
    const bool said = std::find(entry->choices.begin(), entry->choices.end(), usual) != entry->choices.end();
    if (!said && !found.files) offer(fmt::format("{}={}", key, usual), "the default");
  }

  const std::string typed_;
  const ConfigSearch& search_;
};

const CommandValue* option_named(std::span<const CommandTree* const> trees, std::string_view name) {
  for (const CommandTree* tree : trees) {
    for (const CommandValue& option : tree->options) {
      if (option.name == name) return &option;
    }
  }
  return nullptr;
}

}  // namespace

Candidates complete(const CommandTree& tree, std::span<const std::string> words, const ConfigSearch& search) {
  const std::string typed = words.empty() ? std::string() : words.back();
  Completer completer(typed, search);
  std::vector<const CommandTree*> trees = {&tree};  // from the verb up to the program, whose options fit everywhere
  size_t arguments = 0;                             // that have been given to the verb
  const CommandValue* wanted = nullptr;             // an option that waits for its value
  for (const std::string& word : words.first(words.empty() ? 0 : words.size() - 1)) {
    if (wanted != nullptr) {
      wanted = nullptr;
    } else if (word.starts_with("--")) {
      const CommandValue* option = option_named(trees, word);
      if (option != nullptr && option->takes_value) wanted = option;
    } else {
      const auto& verbs = trees.front()->verbs;
      const auto verb = std::find_if(verbs.begin(), verbs.end(), [&](const CommandTree& v) { return v.name == word; });
      if (verb != verbs.end()) {
        trees.insert(trees.begin(), &*verb);
      } else if (!verbs.empty()) {
        return {};  // no command of ours
      } else {
        ++arguments;
      }
    }
  }
  if (wanted != nullptr) {
    completer.value(*wanted);
    return completer.found;
  }
  if (const size_t equals = typed.find('='); typed.starts_with("--") && equals != std::string::npos) {
    const CommandValue* option = option_named(trees, typed.substr(0, equals));
    if (option != nullptr && option->takes_value) completer.value(*option, typed.substr(0, equals + 1));
    return completer.found;
  }
  if (typed.starts_with("-")) {
    for (const CommandTree* each : trees) completer.options(*each);
    return completer.found;
  }
  completer.verbs(*trees.front());
  const std::vector<CommandValue>& places = trees.front()->arguments;
  if (arguments < places.size()) {
    completer.value(places[arguments]);
  } else if (!places.empty() && places.back().many) {
    completer.value(places.back());
  }
  return completer.found;
}

std::string completion_answer(const Candidates& candidates) {
  std::string text;
  for (const Candidate& c : candidates.words) text += fmt::format("{}\t{}{}\n", c.word, c.help, c.open ? "\topen" : "");
  if (candidates.files) text += ":files\n";
  return text;
}

namespace {

// Bash cuts words at "=" and ":", so they are put together again, and the part that bash takes for a finished word is
// cut off each answer.
constexpr std::string_view kBash = R"(# tael completion bash: source this file, or put it where bash-completion looks:
#   tael completion bash > ~/.local/share/bash-completion/completions/tael
_tael_complete() {
  local program=${COMP_WORDS[0]} typed=${COMP_WORDS[COMP_CWORD]} word line done i
  local -a words=()
  for ((i = 1; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((${#words[@]} > 0)) && [[ $word == [=:]* || ( -n $word && ${words[-1]} == *[=:] ) ]]; then
      words[-1]+=$word
    else
      words+=("$word")
    fi
  done
  word=${words[-1]}
  if [[ $typed == [=:] ]]; then typed=; fi
  done=${word%"$typed"}
  type -P -- "${program/#\~\//$HOME/}" > /dev/null || program=PROGRAM
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      compopt -o filenames 2> /dev/null || :
      local path=${word#*=}
      while IFS= read -r path; do COMPREPLY+=("$path"); done < <(compgen -f -- "$path")
      continue
    fi
    if [[ $line == *$'\topen' ]]; then compopt -o nospace 2> /dev/null || :; fi
    line=${line%%$'\t'*}
    COMPREPLY+=("${line#"$done"}")
  done < <("${program/#\~\//$HOME/}" __complete "${words[@]}" 2> /dev/null)
}
complete -F _tael_complete tael
)";

constexpr std::string_view kZsh = R"(#compdef tael
# tael completion zsh: put this where zsh looks, as _tael in a directory of $fpath.
_tael() {
  local program=${(Q)words[1]} line word
  local -a plain plain_help open open_help
  (( $+commands[$program] )) || [[ -x ${~program} ]] || program=PROGRAM
  local typed=${(Q)words[CURRENT]} files=
  for line in "${(@f)$(${~program} __complete "${(@Q)words[2,CURRENT]}" 2> /dev/null)}"; do
    if [[ $line == :files ]]; then
      files=1
    elif [[ -n $line ]]; then
      local -a part=("${(@ps:\t:)line}")
      word=${part[1]}
      if [[ ${part[3]} == open ]]; then
        open+=("$word") open_help+=("$word  ${part[2]}")
      else
        plain+=("$word") plain_help+=("$word  ${part[2]}")
      fi
    fi
  done
  (( $#plain )) && compadd -l -d plain_help -a plain
  (( $#open )) && compadd -S '' -l -d open_help -a open
  if [[ -n $files ]]; then
    [[ $typed == *=* ]] && compset -P '*='
    _files
  fi
}
if [[ $funcstack[1] == _tael ]]; then _tael "$@"; else compdef _tael tael; fi
)";

constexpr std::string_view kFish =
    R"(# tael completion fish: tael completion fish > ~/.config/fish/completions/tael.fish
function __tael_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l program $words[1]
    type -q -- $program; or set program PROGRAM
    for line in ($program __complete $words[2..-1] "$typed" 2> /dev/null)
        if test "$line" = :files
            set -l before (string match -r '^[^=]*=' -- "$typed")
            for path in (__fish_complete_path (string replace -- "$before" '' "$typed"))
                echo "$before$path"
            end
        else
            string split -m 2 \t -- $line | head -n 2 | string join \t
        end
    end
end
complete -c tael -f -a '(__tael_complete)'
)";

// Between single quotes, for all three shells (fish wants a backslash doubled as well; paths have none).
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

std::string completion_script(std::string_view shell, const std::string& program) {
  const std::string_view script = shell == "bash" ? kBash : shell == "zsh" ? kZsh : shell == "fish" ? kFish : "";
  if (script.empty()) fail(Exit::usage, "completion: expected bash, zsh or fish, got {}", shell);
  constexpr std::string_view kMark = "program=PROGRAM", kFishMark = "program PROGRAM";
  std::string text(script);
  const std::string_view mark = shell == "fish" ? kFishMark : kMark;
  const size_t at = text.find(mark);
  CHECK(at != std::string::npos, "{} without its program", shell);
  const size_t name = at + mark.size() - std::string_view("PROGRAM").size();
  text.replace(name, std::string_view("PROGRAM").size(), quoted(program));
  return text;
}

}  // namespace tael
