#include "trainer/command_line.hpp"

#include <unistd.h>

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "parallel/agree.hpp"
#include "parallel/comm.hpp"
#include "trainer/commands/checkpoint.hpp"
#include "trainer/commands/config.hpp"
#include "trainer/commands/data.hpp"
#include "trainer/commands/eval.hpp"
#include "trainer/commands/report.hpp"
#include "trainer/commands/sample.hpp"
#include "trainer/commands/submit.hpp"
#include "trainer/commands/train.hpp"
#include "trainer/completion.hpp"
#include "trainer/console.hpp"
#include "trainer/run_directory.hpp"
#include "trainer/verb.hpp"

namespace tael {

namespace {

struct NotBuilt {
  const char* group;  // nullptr: a verb of its own
  const char* name;
  const char* does;
};
// Verbs of the contract that are not built yet. They accept any words, so that the answer is always the same.
constexpr NotBuilt kNotBuilt[] = {
    {nullptr, "plan", "memory, time, GPU-hours and money of a run before it runs"},
    {nullptr, "doctor", "measure this machine"},
    {nullptr, "selftest", "compare every layout of a configuration with one rank"},
    {"data", "train-tokenizer", "train a byte-pair tokenizer"},
};

// The parser would read 010 as eight, 0x10 as sixteen and a number beyond 64 bits as the nearest.
std::string is_whole_number(const std::string& text) {
  int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc::result_out_of_range && at == end) return fmt::format("{} is beyond 63 bits and a sign", text);
  const bool plain = error == std::errc() && at == end && text == std::to_string(number);
  return plain ? "" : fmt::format("a whole number is needed, got {}", text);
}

class CommandLine {
 public:
  explicit CommandLine(const Process& process) : process_(process) {
    app_.require_subcommand(1);
    app_.set_version_flag("--version", build_line());
    const std::vector<std::string> modes = {"auto", "always", "never"};
    values_[app_.add_option("--color", color_, "colour of progress and log: auto, always or never")
                ->check(CLI::IsMember(modes))] = {ValueKind::none, modes};
    app_.fallthrough();
    app_.footer(
        "\nexamples:\n  tael train experiments/quickstart run.dir=runs/second\n  tael eval runs/second --data "
        "valid.h5");
    // Values of the product's own grammar contain commas and brackets; CLI11 must not take them apart.
    app_.option_defaults()->delimiter('\0');
    add(&app_, train_verb());
    add(&app_, eval_verb());
    add(&app_, sample_verb());
    add(data_verbs());
    add(checkpoint_verbs());
    add(config_verbs());
    add(&app_, report_verb());
    add(&app_, submit_verb());
    add(&app_, completion_verb());
    for (const NotBuilt& verb : kNotBuilt) not_built(verb);
  }

  int run(int argc, char** argv) {
    command_.assign(argv, argv + argc);
    if (argc > 1 && command_[1] == "__complete") return answer_shell();
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
      return answer(e);
    }
    return action_();
  }

 private:
  // Help and version on stdout, or what is wrong with the command line; many ranks have the same one and say it once.
  int answer(const CLI::ParseError& error) {
    const std::unique_ptr<Comm> comm = make_comm(comm_kind());
    const auto say = [&]() -> int {
      std::ostringstream out, err;
      if (app_.exit(error, out, err) != 0) throw AgreedError(Exit::usage, what_is_wrong(error));
      const std::string text = out.str();
      if (comm->rank() == 0) std::fwrite(text.data(), 1, text.size(), stdout);
      return printed(0);
    };
    return run_rank(*comm, say, reporter());
  }
  std::string what_is_wrong(const CLI::ParseError& error) {
    const CLI::App* at = &app_;
    std::string path = at->get_name();
    for (; !at->get_subcommands().empty(); path += " " + at->get_name()) at = at->get_subcommands().front();
    std::string text = error.what();
    std::vector<std::string> names;
    for (const CLI::App* sub : at->get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(sub->get_name());
    if (!names.empty()) {  // none of them was chosen
      const std::vector<std::string> unknown = app_.remaining(true);
      text = fmt::format("{}; one of: {}",
                         unknown.empty()             ? "a command is missing"
                         : unknown[0].front() == '-' ? "unknown option " + unknown[0]
                                                     : "unknown command " + unknown[0],
                         fmt::join(names, ", "));
    }
    // Other programs take the keys of a configuration as options.
    if (at->get_option_no_throw("overrides") != nullptr) {
      for (const std::string& word : app_.remaining(true)) {
        if (!word.starts_with("--")) continue;
        const std::string key = key_named(config_schema(), std::string_view(word).substr(2, word.find('=') - 2));
        if (key.empty()) continue;
        text = fmt::format("{} is no option; a key of the configuration is written {}=VALUE",
                           std::string_view(word).substr(0, word.find('=')), key);
        break;
      }
    }
    return fmt::format("{} (usage: {} --help)", text, path);
  }

  CLI::App* group(const std::string& name) {
    CLI::App*& app = groups_[name];
    if (app == nullptr) {
      app = app_.add_subcommand(name);
      app->require_subcommand(1);
    }
    return app;
  }
  void add(const VerbGroup& all) {
    CLI::App* app = group(all.name);
    app->description(all.does);
    app->footer("\nexamples:\n" + all.examples);
    for (const Verb& verb : all.verbs) add(app, verb);
  }
  void add(CLI::App* parent, const Verb& verb) {
    CLI::App* app = parent->add_subcommand(verb.name, verb.does);
    app->footer((verb.more.empty() ? "" : "\n" + verb.more) + "\nexamples:\n" + verb.examples);
    for (const VerbOption& option : verb.options) add(app, option);
    if (const auto* alone = std::get_if<Verb::Alone>(&verb.work)) {
      const Verb::Alone work = *alone;
      this->alone(app, [this, work] { return work(context()); });
    } else {
      const Verb::OnRanks work = std::get<Verb::OnRanks>(verb.work);
      on_ranks(
          app, [this, work](Comm& comm) { return work(context(), comm); }, verb.can_stop);
    }
  }
  void add(CLI::App* app, const VerbOption& o) {
    CLI::Option* option = std::visit(
        [&]<class T>(T* place) {
          if constexpr (std::is_same_v<T, bool>) {
            return app->add_flag(o.name, *place, o.help);
          } else {
            return app->add_option(o.name, *place, o.help);
          }
        },
        o.place);
    if (std::holds_alternative<int64_t*>(o.place) || std::holds_alternative<std::optional<int64_t>*>(o.place))
      option->check(is_whole_number);
    if (o.rules.required) option->required();
    if (o.rules.only_words) option->check(CLI::IsMember(o.rules.words));
    if (o.rules.range) option->check(CLI::Range(o.rules.range->first, o.rules.range->second));
    if (o.rules.check) option->check(o.rules.check);
    for (const std::string& other : o.rules.excludes) option->excludes(app->get_option(other));
    const bool number = !std::holds_alternative<std::string*>(o.place) &&
                        !std::holds_alternative<std::vector<std::string>*>(o.place) &&
                        !std::holds_alternative<std::optional<std::string>*>(o.place);
    values_[option] = {o.rules.kind.value_or(number || !o.rules.words.empty() ? ValueKind::none : ValueKind::file),
                       o.rules.words};
  }

  ConfigSearch search() const {
    ConfigSearch search;
    const std::filesystem::path prefix = std::filesystem::path(process_.program).parent_path().parent_path();
    if (!prefix.empty()) search.config_dirs.push_back((prefix / "share/tael/configs").string());
    search.config_dirs.push_back(TAEL_CONFIG_DIR);
    return search;
  }
  VerbContext context() const {
    return {.search = search(),
            .program = process_.program,
            .command = command_,
            .color = colored(),
            .is_terminal = isatty(STDERR_FILENO) != 0,
            .interrupted = process_.interrupted,
            .open_files = process_.open_files,
            .environment = process_.environment};
  }
  bool colored() const {
    const ColorMode mode = color_ == "always"  ? ColorMode::always
                           : color_ == "never" ? ColorMode::never
                                               : ColorMode::automatic;
    return use_color(mode, isatty(STDERR_FILENO) != 0, process_.environment("NO_COLOR"), process_.environment("TERM"));
  }

  // Results that did not arrive are no results.
  static int printed(int code) {
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
      fail(Exit::io, "standard output: cannot write: {}", std::generic_category().message(errno));
    return code;
  }
  // Work of one process. What it throws becomes one line and an exit code.
  void alone(CLI::App* app, std::function<int()> work) {
    app->callback([this, work = std::move(work)] {
      action_ = [this, work] {
        const std::unique_ptr<Comm> comm = make_comm(CommKind::self);
        return run_rank(
            *comm, [&] { return printed(work()); }, reporter());
      };
    });
  }
  // Work of all ranks that the launcher started.
  void on_ranks(CLI::App* app, std::function<int(Comm&)> work, bool can_stop = false) {
    app->callback([this, work = std::move(work), can_stop] {
      action_ = [this, work, can_stop] {
        if (can_stop) process_.catch_interrupts();  // first of all: the ranks of many hosts take their time to meet
        const std::unique_ptr<Comm> comm = make_comm(comm_kind());
        return run_rank(
            *comm, [&] { return printed(work(*comm)); }, reporter());
      };
    });
  }
  CommKind comm_kind() const {
    return comm_kind_of_launch([&](const char* name) { return process_.environment(name) != nullptr; });
  }
  std::function<void(std::string_view)> reporter() const {
    return [color = colored()](std::string_view text) { Console({.color = color}).error(text); };
  }

  Verb completion_verb() {
    return {.name = "completion",
            .does = "print the script that completes commands and keys in a shell",
            .options = {{"shell",
                         &shell_,
                         "bash, zsh or fish",
                         {.required = true, .words = {"bash", "zsh", "fish"}, .only_words = true}}},
            .work =
                [this](const VerbContext& context) {
                  const std::string script = completion_script(shell_, context.program);
                  std::fwrite(script.data(), 1, script.size(), stdout);
                  return 0;
                },
            .examples =
                "  source <(tael completion bash)\n"
                "  tael completion fish > ~/.config/fish/completions/tael.fish"};
  }

  // What completion must know of the tree that CLI11 parses; whatever a verb takes is in it without further ado.
  CommandTree tree_of(const CLI::App& app) const {
    CommandTree tree{.name = app.get_name(), .does = app.get_description()};
    for (const CLI::Option* option : app.get_options()) {
      CommandValue value{
          .name = option->get_positional() ? option->get_name(true) : "--" + option->get_lnames().front(),
          .help = option->get_description(),
          .takes_value = option->get_items_expected_max() > 0,
          .many = option->get_items_expected_max() > 1};
      if (const auto known = values_.find(option); known != values_.end()) {
        value.kind = known->second.first;
        value.words = known->second.second;
      }
      (option->get_positional() ? tree.arguments : tree.options).push_back(std::move(value));
    }
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
      tree.verbs.push_back(tree_of(*sub));
    }
    return tree;
  }

  int answer_shell() const {
    const std::span<const std::string> words = std::span(command_).subspan(2);
    const std::string text = completion_answer(complete(tree_of(app_), words, search()));
    std::fwrite(text.data(), 1, text.size(), stdout);
    return 0;
  }

  void not_built(const NotBuilt& verb) {
    CLI::App* parent = verb.group == nullptr ? &app_ : group(verb.group);
    CLI::App* app = parent->add_subcommand(verb.name, std::string(verb.does) + " (not built yet)");
    // Whatever follows is taken in here, not offered to the verbs above.
    app->fallthrough(false);
    app->prefix_command();
    app->set_help_flag();
    const std::string name = verb.group == nullptr ? verb.name : std::string(verb.group) + " " + verb.name;
    alone(app, [name]() -> int { fail(Exit::missing_resource, "{} is not built yet", name); });
  }

  const Process& process_;
  CLI::App app_{"tael: low-cost mixture-of-experts pretraining, the way DeepSeek-V3 was trained", "tael"};
  std::map<std::string, CLI::App*> groups_;
  std::function<int()> action_;
  std::vector<std::string> command_;
  std::string color_ = "auto", shell_;
  std::map<const CLI::Option*, std::pair<ValueKind, std::vector<std::string>>> values_;  // for completion
};

}  // namespace

int run_command_line(int argc, char** argv, const Process& process) { return CommandLine(process).run(argc, argv); }

}  // namespace tael
