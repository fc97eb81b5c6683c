#include "trainer/command_line.hpp"

#include <unistd.h>

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <system_error>
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

class CommandLine {
 public:
  explicit CommandLine(const Process& process) : process_(process) {
    app_.require_subcommand(1);
    app_.set_version_flag("--version", build_line());
    words_of(app_.add_option("--color", color_, "colour of progress and log: auto, always or never")
                 ->check(CLI::IsMember({"auto", "always", "never"})),
             {"auto", "always", "never"});
    app_.fallthrough();
    app_.footer(
        "\nexamples:\n  tael train experiments/quickstart run.dir=runs/second\n  tael eval runs/second --data "
        "valid.h5");
    // Values of the product's own grammar contain commas and brackets; CLI11 must not take them apart.
    app_.option_defaults()->delimiter('\0');
    train();
    eval();
    sample();
    data();
    checkpoint();
    config();
    report();
    submit();
    completion();
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

  CLI::App* verb(CLI::App* parent, const std::string& name, const std::string& does, const std::string& examples) {
    CLI::App* app = parent->add_subcommand(name, does);
    app->footer("\nexamples:\n" + examples);
    return app;
  }
  CLI::App* group(const std::string& name, const std::string& does = {}, const std::string& examples = {}) {
    CLI::App*& app = groups_[name];
    if (app == nullptr) {
      app = app_.add_subcommand(name, does);
      app->require_subcommand(1);
      app->footer("\nexamples:\n" + examples);
    }
    return app;
  }

  ConfigSearch search() const {
    ConfigSearch search;
    const std::filesystem::path prefix = std::filesystem::path(process_.program).parent_path().parent_path();
    if (!prefix.empty()) search.config_dirs.push_back((prefix / "share/tael/configs").string());
    search.config_dirs.push_back(TAEL_CONFIG_DIR);
    return search;
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

  void train() {
    CLI::App* app = verb(&app_, "train", "train a model; alone, or on many ranks under mpirun",
                         "  tael train experiments/quickstart training.train_steps=100\n"
                         "  mpirun -n 4 tael train my.yaml run.dir=runs/second optimizer.lr=1e-3");
    app->add_option("config", train_.config, "a YAML file, or a name in configs/")->required();
    app->add_option("overrides", train_.overrides, "key=value, stronger than the file");
    words_of(app->add_option("--resume", train_.resume, "auto, never, or the path of a checkpoint"), {"auto", "never"});
    app->add_flag("--profile", train_.profile, "print where the time of a step goes (not built yet)");
    app->add_flag("--dry-run", train_.dry_run, "check everything, print the plan, write nothing");
    on_ranks(
        app,
        [this](Comm& comm) {
          train_.search = search();
          train_.command = command_;
          train_.color = colored();
          train_.is_terminal = isatty(STDERR_FILENO) != 0;
          train_.interrupted = process_.interrupted;
          if (const char* tasks = process_.environment("SLURM_NTASKS")) train_.slurm_tasks = std::atoi(tasks);
          if (const char* job = process_.environment("SLURM_JOB_ID")) train_.job = job;
          if (const char* started = process_.environment("TAEL_JOB_STARTED")) train_.began = job_start(started);
          return run_train(train_, comm);
        },
        true);
  }

  void eval() {
    CLI::App* app = verb(&app_, "eval", "how well a model predicts held-out data",
                         "  tael eval runs/first --data valid.h5\n"
                         "  tael eval ~/models/deepseek-v2-lite --data valid.h5 --seq-length 4096 --json");
    app->add_option("model", eval_.model, "a run, a checkpoint or a Hugging Face directory")->required();
    app->add_option("--data", eval_.data, "token shards (tael data prepare)")->required();
    app->add_option("--seq-length", eval_.seq_length,
                    "tokens of a window (default: what the run was trained with, else max_position_embeddings)")
        ->check([](const std::string& text) {
          return text.find_first_not_of("0123456789") == std::string::npos && text.find_first_not_of('0') != text.npos
                     ? ""
                     : "a whole number of at least 1 is needed";
        });
    words_of(app->add_option("--compute", eval_.compute, "fp32; bf16 and fp8 are not built yet"),
             {"fp32", "bf16", "fp8"});
    app->add_flag("--json", eval_.json, "loss, ppl, bits_per_byte and tokens as one JSON object");
    on_ranks(app, [this](Comm& comm) {
      eval_.search = search();
      return run_eval(eval_, comm, stdout);
    });
  }

  void sample() {
    CLI::App* app = verb(&app_, "sample", "continue a text, token by token",
                         "  tael sample runs/first --prompt 'The command' --temperature 0.7 --top-p 0.9\n"
                         "  tael sample ~/models/deepseek-v2-lite --prompt-ids 100000,549 --print-ids --temperature 0");
    app->add_option("model", sample_.model, "a run, a checkpoint or a Hugging Face directory")->required();
    app->add_option("--prompt", sample_.prompt,
                    "the text to continue, read as training reads it: nothing is put in front");
    app->add_option("--prompt-ids", sample_.prompt_ids, "or its tokens: 1,2,3");
    app->add_option("--tokens", sample_.tokens,
                    fmt::format("generate at most so many (default: {}, or what fits)", kSampleTokens));
    app->add_option("--temperature", sample_.temperature, "0 takes the likeliest token each time (default: 1)");
    app->add_option("--top-p", sample_.top_p,
                    "draw from the likeliest tokens that reach this probability (default: 1)");
    app->add_option("--seed", sample_.seed, "another number gives another text (default: 0)")
        ->check([](const std::string& text) {  // CLI11 takes the nearest that fits
          int64_t seed = 0;
          const char* end = text.data() + text.size();
          const auto [at, error] = std::from_chars(text.data(), end, seed);
          return error == std::errc() && at == end ? "" : "a whole number of at most 63 bits and a sign is needed";
        });
    app->add_flag("--print-ids", sample_.print_ids, "print the generated tokens as numbers");
    app->add_flag("--no-echo", sample_.no_echo, "print the continuation without the prompt");
    app->add_flag("--ignore-eos", sample_.ignore_eos, "go on behind the token that ends a text");
    app->add_option("--compute", sample_.compute, "fp32; bf16 and fp8 are not built yet");
    on_ranks(app, [this](Comm& comm) {
      sample_.search = search();
      return run_sample(sample_, comm, stdout, stderr);
    });
  }

  void data() {
    CLI::App* data = group("data", "make and look into token shards",
                           "  tael data prepare --out train.h5 corpus/\n  tael data inspect train.h5");
    CLI::App* prepare = verb(data, "prepare", "text, directories and JSONL (.gz, .zst) to token shards",
                             "  tael data prepare --out train.h5 --valid valid.h5 --valid-fraction 0.05 corpus/\n"
                             "  tael data prepare --out web.h5 web-00.jsonl.zst web-01.jsonl.zst");
    prepare->add_option("--out", prepare_.out, "the shard to write")->required();
    prepare->add_option("--valid", prepare_.valid, "a second shard for held-out documents");
    prepare->add_option("--valid-fraction", prepare_.valid_fraction, "the part that is held out, between 0 and 1");
    prepare->add_option("inputs", prepare_.inputs, "files and directories")->required();
    prepare->add_flag("--dry-run", prepare_.dry_run, "read and check everything, write nothing");
    alone(prepare, [this] { return run_data_prepare(prepare_, stdout, stderr); });

    CLI::App* inspect = verb(data, "inspect", "what is in a token shard, after checking every byte",
                             "  tael data inspect train.h5\n  tael data inspect train.h5 --json");
    inspect->add_option("shard", inspect_.path, "a token shard")->required();
    inspect->add_flag("--json", inspect_.json, "as one JSON object");
    alone(inspect, [this] { return run_data_inspect(inspect_, stdout); });

    CLI::App* import = verb(data, "import", "other programs' token files to token shards",
                            "  tael data import nanogpt --out train.h5 --vocab-size 50304 train.bin\n"
                            "  tael data import nanogpt --out all.h5 --vocab-size 4096 a.bin b.bin --dry-run");
    words_of(import->add_option("format", import_.format, "nanogpt: bare little-endian uint16 tokens")->required(),
             {"nanogpt"});
    import->add_option("--out", import_.import.out, "the shard to write")->required();
    import->add_option("--vocab-size", import_.import.vocab_size, "tokens must lie below it");
    import->add_option("inputs", import_.import.inputs, "files; each becomes one document")->required();
    import->add_flag("--dry-run", import_.import.dry_run, "read and check everything, write nothing");
    alone(import, [this] { return run_data_import(import_, stdout, stderr); });
  }

  void checkpoint() {
    CLI::App* all = group("checkpoint", "work on checkpoints and Hugging Face directories",
                          "  tael checkpoint verify runs/first\n"
                          "  tael checkpoint export-hf runs/first out/ --dtype bf16");
    CLI::App* inspect = verb(all, "inspect", "what is in a checkpoint",
                             "  tael checkpoint inspect runs/first\n"
                             "  tael checkpoint inspect runs/first/checkpoints/step-00000100 --tensors");
    inspect->add_option("checkpoint", inspect_checkpoint_.checkpoint, "a checkpoint, or a run: its newest")->required();
    inspect->add_flag("--tensors", inspect_checkpoint_.tensors, "a line for each tensor");
    inspect->add_flag("--json", inspect_checkpoint_.json, "as one JSON object");
    alone(inspect, [this] { return run_checkpoint_inspect(inspect_checkpoint_, stdout); });

    CLI::App* verify = verb(all, "verify", "check every byte of a checkpoint",
                            "  tael checkpoint verify runs/first\n"
                            "  tael checkpoint verify runs/first/checkpoints/step-00000100");
    verify->add_option("checkpoint", first_, "a checkpoint, or a run: all of its checkpoints")->required();
    alone(verify, [this] { return run_checkpoint_verify(first_, stdout); });

    CLI::App* diff = verb(all, "diff", "compare two checkpoints; exits 0 where they are equal, 1 where not",
                          "  tael checkpoint diff runs/first runs/second\n"
                          "  tael checkpoint diff runs/first/checkpoints/step-00000100 ~/models/moonlight");
    diff->add_option("a", first_, "a checkpoint, a run (its newest) or a Hugging Face directory (weights alone)")
        ->required();
    diff->add_option("b", second_, "another")->required();
    alone(diff, [this] { return run_checkpoint_diff(first_, second_, stdout); });

    CLI::App* import = verb(all, "import-hf", "make a checkpoint of a Hugging Face directory, tensor by tensor",
                            "  tael checkpoint import-hf ~/models/moonlight moonlight.ckpt\n"
                            "  tael checkpoint import-hf ~/models/moonlight moonlight.ckpt --dry-run");
    import->add_option("directory", import_hf_.directory, "a Hugging Face directory")->required();
    import->add_option("out", import_hf_.out, "the checkpoint to make")->required();
    import->add_flag("--dry-run", import_hf_.dry_run, "check everything, write nothing");
    alone(import, [this] { return run_checkpoint_import_hf(import_hf_, stdout); });

    CLI::App* app = verb(all, "export-hf", "copy a model to a Hugging Face directory, tensor by tensor",
                         "  tael checkpoint export-hf runs/first out/\n"
                         "  tael checkpoint export-hf ~/models/moonlight out/ --dtype bf16");
    app->add_option("model", export_.model, "a run, a checkpoint or a Hugging Face directory")->required();
    app->add_option("out", export_.out, "the directory to make")->required();
    words_of(app->add_option("--dtype", export_dtype_, "fp32 or bf16; without it every tensor keeps its format"),
             {"fp32", "bf16"});
    app->add_flag("--dry-run", export_.dry_run, "check everything, write nothing");
    alone(app, [this] {
      if (!export_dtype_.empty()) export_.dtype = dtype_from_option(export_dtype_);
      return run_checkpoint_export_hf(export_, stdout);
    });
  }

  void config() {
    CLI::App* config = group("config", "work on configurations",
                             "  tael config show experiments/quickstart --origin\n"
                             "  tael config diff runs/first experiments/quickstart");
    CLI::App* show = verb(config, "show", "a configuration with all its layers read",
                          "  tael config show models/deepseek_v3 --json\n"
                          "  tael config show experiments/quickstart optimizer.lr=1e-3 --origin");
    show->add_option("config", show_.config, "a YAML file, a run, or a name in configs/")->required();
    show->add_option("overrides", show_.overrides, "key=value, stronger than the file");
    show->add_flag("--json", show_.json, "as JSON, with the model's parameter counts");
    show->add_flag("--origin", show_.origin, "say where each value is from");
    alone(show, [this] {
      show_.search = search();
      return run_config_show(show_, stdout);
    });

    CLI::App* check = verb(config, "check", "whether a run could start from a configuration, without starting one",
                           "  tael config check my.yaml --ranks 16 --hosts 2\n"
                           "  tael config check experiments/quickstart training.micro_batch_size=8");
    check->add_option("config", check_.config, "a YAML file, a run, or a name in configs/")->required();
    check->add_option("overrides", check_.overrides, "key=value, stronger than the file");
    words_of(
        check->add_option("--ranks", check_.ranks, "ranks that the run would have (default: what parallelism says)")
            ->check(CLI::Range(1, 65'536)),
        {});
    words_of(check->add_option("--hosts", check_.hosts, "hosts they would be on, in equal parts (default: 1)")
                 ->check(CLI::Range(1, 65'536)),
             {});
    check->footer(
        "\nChecks what `tael train --dry-run` checks, and prints the same: layers, rules, what is built, every byte of "
        "the\n"
        "data, memory against this machine's. Unlike it: one process plans for any number of ranks, without mpirun "
        "(and so\n"
        "cannot say whether other hosts see the same files); run.dir may exist, so that a run can be checked; what it "
        "finds\n"
        "goes to standard output. Exit 0, or 78 or 65 with one line. Neither writes anything.\n" +
        check->get_footer());
    alone(check, [this] {
      check_.search = search();
      return run_config_check(check_, stdout);
    });

    CLI::App* diff = verb(config, "diff", "keys whose resolved values differ; exit 0: none, 1: some",
                          "  tael config diff runs/first runs/second\n"
                          "  tael config diff deepseek_v3 kimi_k2 --json");
    diff->add_option("a", diff_.first, "a YAML file, a run, or a name in configs/")->required();
    diff->add_option("b", diff_.second, "another one")->required();
    diff->add_flag("--json", diff_.json, "as one JSON object");
    alone(diff, [this] {
      diff_.search = search();
      return run_config_diff(diff_, stdout);
    });
  }

  void completion() {
    CLI::App* app = verb(&app_, "completion", "print the script that completes commands and keys in a shell",
                         "  source <(tael completion bash)\n"
                         "  tael completion fish > ~/.config/fish/completions/tael.fish");
    words_of(app->add_option("shell", shell_, "bash, zsh or fish")
                 ->required()
                 ->check(CLI::IsMember({"bash", "zsh", "fish"})),
             {"bash", "zsh", "fish"});
    alone(app, [this] {
      const std::string script = completion_script(shell_, process_.program);
      std::fwrite(script.data(), 1, script.size(), stdout);
      return 0;
    });
  }

  // For completion: the values of an option that can be listed, {} for one whose values nobody can guess.
  void words_of(const CLI::Option* option, std::vector<std::string> words) { words_[option] = std::move(words); }

  // What completion must know of the tree that CLI11 parses; whatever a verb takes is in it without further ado.
  CommandTree tree_of(const CLI::App& app) const {
    CommandTree tree{.name = app.get_name(), .does = app.get_description()};
    for (const CLI::Option* option : app.get_options()) {
      CommandValue value{
          .name = option->get_positional() ? option->get_name(true) : "--" + option->get_lnames().front(),
          .help = option->get_description(),
          .takes_value = option->get_items_expected_max() > 0,
          .many = option->get_items_expected_max() > 1};
      const auto words = words_.find(option);
      if (words != words_.end()) value.words = words->second;
      const bool is_config = value.name == "config" || (app.get_name() == "diff" && option->get_positional());
      value.kind = value.name == "overrides"                           ? ValueKind::overrides
                   : is_config                                         ? ValueKind::config
                   : words == words_.end() || value.name == "--resume" ? ValueKind::file
                                                                       : ValueKind::none;
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

  void report() {
    CLI::App* app = verb(&app_, "report", "what a run cost, where it went and what it gave; several are compared",
                         "  tael report runs/first\n"
                         "  tael report runs/first runs/second --out comparison.html");
    app->add_option("runs", report_.runs, "run directories")->required();
    CLI::Option* json = app->add_flag("--json", report_.json, "print the numbers as one JSON object, write no page");
    app->add_flag("--markdown", report_.markdown, "print the tables as Markdown, write no page")->excludes(json);
    app->add_option("--out", report_.out,
                    "the page to write (default: RUN/report.html; for several runs comparison.html)")
        ->excludes(json);
    app->add_flag("--dry-run", report_.dry_run, "read and check everything, write nothing");
    alone(app, [this] {
      report_.search = search();
      return run_report(report_, stdout);
    });
  }

  void submit() {
    CLI::App* app =
        verb(&app_, "submit", "write the Slurm job of a run, and queue it",
             "  tael submit experiments/quickstart cluster.nodes=2 cluster.devices_per_node=2 time_limit=2h\n"
             "  tael submit my.yaml time_limit=20h slurm.partition=gpu slurm.account=lab --submit");
    app->add_option("config", submit_.config, "a YAML file, or a name in configs/")->required();
    app->add_option("overrides", submit_.overrides,
                    "key=value, stronger than the file; time_limit=20h; slurm.KEY=value for other options of sbatch");
    words_of(app->add_option("--launcher", launcher_, "mpirun, or srun for srun --mpi=pmix")
                 ->check(CLI::IsMember({"mpirun", "srun"})),
             {"mpirun", "srun"});
    app->add_flag("--submit", submit_.queue, "queue the job with sbatch");
    app->add_flag("--dry-run", submit_.dry_run, "check everything, print the script, write and queue nothing");
    alone(app, [this] {
      submit_.search = search();
      submit_.program = process_.program;
      submit_.color = colored();
      submit_.launcher = launcher_ == "srun" ? Launcher::srun : Launcher::mpirun;
      return run_submit(submit_, stdout);
    });
  }

  void not_built(const NotBuilt& verb) {
    CLI::App* parent = verb.group == nullptr ? &app_ : group(verb.group, "");
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
  std::string color_ = "auto", export_dtype_, launcher_ = "mpirun", shell_;
  std::map<const CLI::Option*, std::vector<std::string>> words_;
  TrainOptions train_;
  EvalOptions eval_;
  SampleOptions sample_;
  DataPrepareOptions prepare_;
  DataInspectOptions inspect_;
  DataImportCommandOptions import_;
  ExportHfOptions export_;
  ImportHfOptions import_hf_;
  InspectOptions inspect_checkpoint_;
  std::string first_, second_;  // of verbs that take nothing else
  ConfigShowOptions show_;
  ReportOptions report_;
  SubmitOptions submit_;
  ConfigCheckOptions check_;
  ConfigDiffOptions diff_;
};

}  // namespace

int run_command_line(int argc, char** argv, const Process& process) { return CommandLine(process).run(argc, argv); }

}  // namespace tael
