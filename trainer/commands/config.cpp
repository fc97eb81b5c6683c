#include "trainer/commands/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/print.hpp"
#include "model/param_table.hpp"
#include "parallel/comm.hpp"
#include "trainer/assemble.hpp"
#include "trainer/config_rules.hpp"
#include "trainer/console.hpp"
#include "trainer/resume.hpp"
#include "trainer/run_directory.hpp"
#include "trainer/start_facts.hpp"

namespace tael {

namespace {

constexpr size_t kColumns = 110;
constexpr int64_t kMostRanks = 65'536;

bool is_model_alone(const LoadedConfig& loaded) {
  return std::all_of(loaded.reading.origins.begin(), loaded.reading.origins.end(),
                     [](const auto& entry) { return entry.first.starts_with("model.") || entry.first == "schema"; });
}

std::string with_name(const Reading& reading, std::string_view path) {
  const auto other = reading.written.find(path);
  const std::string place = reading.origin(path).file_line();
  return other == reading.written.end() ? place : fmt::format("{} (written {})", place, other->second);
}

std::string as_json(const std::vector<WrittenField>& fields, const ParamCounts& counts, const Reading* origins) {
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object().field("schema", 1);
  write_json(json, fields);
  json.key("parameters").begin_object();
  json.field("total", counts.total)
      .field("active", counts.active)
      .field("active_without_input_table", counts.active_without_input_table)
      .field("mtp", counts.mtp)
      .field("gate_biases", counts.gate_biases);
  json.end_object();
  if (origins != nullptr) {
    json.key("origins").begin_object();
    for (const WrittenField& field : fields) {
      if (!field.section) json.field(field.path, origins->origin(field.path).str());
    }
    json.end_object();
  }
  json.end_object();
  return json.text() + "\n";
}

void keep_model_only(std::vector<WrittenField>& fields) {
  std::erase_if(fields, [](const WrittenField& f) { return f.path != "model" && !f.path.starts_with("model."); });
}

const ConfigNode& value_of(const std::vector<WrittenField>& fields, std::string_view path) {
  return std::find_if(fields.begin(), fields.end(), [&](const WrittenField& f) { return f.path == path; })->value;
}

// What load_config takes: a run directory is its config.yaml, a bare name may be that of a preset.
std::string config_of(const std::string& argument, const ConfigSearch& search) {
  if (is_directory(argument)) {
    if (!path_exists(argument + "/config.yaml")) {
      fail(Exit::bad_config, "{}: a directory without config.yaml; that of a run has one", argument);
    }
    return argument + "/config.yaml";
  }
  if (argument.find('/') != std::string::npos || path_exists(argument) || path_exists(argument + ".yaml")) {
    return argument;
  }
  std::string preset = argument;
  std::replace(preset.begin(), preset.end(), '-', '_');
  for (const std::string& directory : search.config_dirs) {
    if (path_exists(fmt::format("{}/models/{}.yaml", directory, preset))) return "models/" + preset;
  }
  return argument;
}

}  // namespace

std::string config_show(const ConfigShowOptions& options) {
  const LoadedConfig loaded = load_config(config_of(options.config, options.search), options.overrides, options.search);
  const bool model_alone = is_model_alone(loaded);
  if (model_alone && !loaded.reading.given("model.hidden_size")) {
    fail(Exit::bad_config, "{}: model: must be given", loaded.files.front());
  }
  if (!model_alone) check_config(loaded);
  const ParamCounts counts = count_parameters(loaded.config.model.shape);
  std::vector<WrittenField> fields = write_fields(loaded.config);
  if (model_alone) keep_model_only(fields);
  if (options.json) return as_json(fields, counts, options.origin ? &loaded.reading : nullptr);
  FieldComment comment;
  if (options.origin) comment = [&](std::string_view path) { return with_name(loaded.reading, path); };
  std::string text = "schema: 1\n" + to_yaml(fields, comment);
  for (const std::string& note : config_notes(loaded)) text += "# " + note + "\n";
  const std::vector<std::string> changed =
      model_alone ? std::vector<std::string>{} : changed_settings(loaded, kColumns);
  if (!changed.empty()) text += "# differs from the defaults, which stand in parentheses:\n";
  for (const std::string& line : changed) text += "#   " + line + "\n";
  text += fmt::format("# parameters: {} (gate biases {}), at work for a token {}, {} without the input table, MTP {}\n",
                      grouped(counts.total), grouped(counts.gate_biases), grouped(counts.active),
                      grouped(counts.active_without_input_table), grouped(counts.mtp));
  return text;
}

int run_config_show(const ConfigShowOptions& options, std::FILE* out) {
  print_to(out, "{}", config_show(options));
  return static_cast<int>(Exit::done);
}

int run_config_check(const ConfigCheckOptions& options, std::FILE* out) {
  const std::string path = config_of(options.config, options.search);
  int64_t ranks = options.ranks;
  if (ranks == 0) {
    const ParallelismOptions p = load_config(path, options.overrides, options.search).config.parallelism;
    ranks = p.tensor_parallel * p.pipeline_parallel;  // each at most a million
    if (__builtin_mul_overflow(ranks, p.data_parallel.value_or(1), &ranks)) ranks = kMostRanks + 1;
  }
  if (ranks > kMostRanks) {
    fail(options.ranks == 0 ? Exit::bad_config : Exit::usage, "{} ranks; a check is for at most {}", ranks, kMostRanks);
  }
  if (options.hosts > ranks) fail(Exit::usage, "--hosts {}: more hosts than the {} ranks", options.hosts, ranks);
  if (ranks % options.hosts != 0)
    fail(Exit::usage, "--hosts {}: {} ranks are no equal parts of as many hosts", options.hosts, ranks);
  LoadedConfig loaded = load_run_config(path, options.overrides, options.search, ranks);
  const std::unique_ptr<Comm> world = make_comm_alike(static_cast<int>(ranks), static_cast<int>(options.hosts));
  const std::string& directory = loaded.config.run.dir;
  RunDirectory::look(directory);
  const std::optional<Checkpoint> newest = CheckpointStore(directory + "/checkpoints").newest();
  const std::optional<Progress> begins = begins_at(newest, loaded);
  const Run run(loaded, *world, monotonic_time(), process_start(), 0, begins);
  require_resumable(newest, run);
  Console console({.out = out});
  print_config(console, loaded);
  print_start(console, run);
  console.fact("check", fmt::format("passed for {} on {}; {}; nothing was written", count_of(ranks, "rank"),
                                    count_of(options.hosts, "host"),
                                    path_exists(directory) ? "run.dir exists already" : "run.dir can be made"));
  return static_cast<int>(Exit::done);
}

int run_config_diff(const ConfigDiffOptions& options, std::FILE* out) {
  const LoadedConfig first = load_config(config_of(options.first, options.search), {}, options.search);
  const LoadedConfig second = load_config(config_of(options.second, options.search), {}, options.search);
  std::vector<WrittenField> a = write_fields(first.config), b = write_fields(second.config);
  const bool models = is_model_alone(first) || is_model_alone(second);
  if (models) {
    keep_model_only(a);
    keep_model_only(b);
  }
  const auto compared = std::count_if(a.begin(), a.end(), [](const WrittenField& f) { return !f.section; });
  const std::vector<FieldDifference> found = differences(a, b);
  const int code = found.empty() ? 0 : 1;
  if (options.json) {
    JsonWriter json(JsonWriter::Style::pretty);
    json.begin_object().field("a", options.first).field("b", options.second).field("equal", found.empty());
    json.field("models_only", models).field("compared", static_cast<int64_t>(compared));
    json.key("differences").begin_array();
    for (const FieldDifference& d : found) {
      json.begin_object().field("key", d.path);
      write_json(json.key("a"), value_of(a, d.path));
      write_json(json.key("b"), value_of(b, d.path));
      json.field("a_origin", first.reading.origin(d.path).str());
      json.field("b_origin", second.reading.origin(d.path).str()).end_object();
    }
    json.end_array().end_object();
    print_to(out, "{}\n", json.text());
    return code;
  }
  std::string text;
  if (!found.empty()) text += fmt::format("--- {}\n+++ {}\n", options.first, options.second);
  size_t width = 0;
  for (const FieldDifference& d : found) width = std::max({width, d.first.size(), d.second.size()});
  width = std::min(width, kColumns / 2);
  for (const FieldDifference& d : found) {
    text += fmt::format("{}\n", d.path);
    text += fmt::format("- {:{}}  {}\n", d.first, width, with_name(first.reading, d.path));
    text += fmt::format("+ {:{}}  {}\n", d.second, width, with_name(second.reading, d.path));
  }
  text += fmt::format("{} of {} keys differ{}\n", found.empty() ? "none" : std::to_string(found.size()), compared,
                      models ? " (models alone compared)" : "");
  print_to(out, "{}", text);
  return code;
}

std::vector<std::string> config_notes(const LoadedConfig& loaded) {
  std::vector<std::string> notes;
  if (!loaded.reading.ignored.empty()) {
    notes.push_back(fmt::format("accepted without effect: {}", fmt::join(loaded.reading.ignored, ", ")));
  }
  if (loaded.config.model.mtp_left_out)
    notes.push_back("model.num_nextn_predict_layers is taken as 0: no layer is MoE, and 1 is what transformers writes");
  if (loaded.config.model.fp8_weights) {
    notes.push_back("accepted without effect: model.quantization_config (weights are trained and stored in float32)");
  }
  for (const std::string& alias : loaded.reading.aliases) notes.push_back(alias);
  const std::string& preset = loaded.config.model.preset;
  if (!preset.empty() && loaded.preset_deviations.empty())
    notes.push_back(fmt::format("model: preset {} unchanged", preset));
  for (const FieldDifference& d : loaded.preset_deviations) {
    notes.push_back(fmt::format("differs from the preset {}: {} is {}, there {}", preset, d.path, d.second, d.first));
  }
  return notes;
}

std::vector<std::string> changed_settings(const LoadedConfig& loaded, size_t width) {
  static constexpr std::string_view kSaidElsewhere[] = {
      "run.dir", "run.seed", "data.train", "data.valid", "training.train_steps", "training.train_tokens"};
  std::vector<std::string> lines;
  for (const FieldDifference& d : changes_from_defaults(loaded.config)) {
    if (std::find(std::begin(kSaidElsewhere), std::end(kSaidElsewhere), d.path) != std::end(kSaidElsewhere)) continue;
    const std::string setting = fmt::format("{} {} ({})", d.path, d.second, d.first == "null" ? "none" : d.first);
    if (!lines.empty() && lines.back().size() + 2 + setting.size() + 1 <= width) {
      lines.back() += ", " + setting;
      continue;
    }
    if (!lines.empty()) lines.back() += ",";
    lines.push_back(setting);
  }
  return lines;
}

void print_config(Console& console, const LoadedConfig& loaded) {
  for (const std::string& note : config_notes(loaded)) console.fact("config", note);
  std::string_view name = "changed";
  for (const std::string& line : changed_settings(loaded, kColumns)) console.fact(std::exchange(name, ""), line);
}

namespace {

Verb config_show_verb() {
  const auto o = std::make_shared<ConfigShowOptions>();
  const auto work = [o](const VerbContext& context) {
    o->search = context.search;
    return run_config_show(*o, stdout);
  };
  return {.name = "show",
          .does = "a configuration with all its layers read",
          .options = {{"config",
                       &o->config,
                       "a YAML file, a run, or a name in configs/",
                       {.required = true, .kind = ValueKind::config}},
                      {"overrides", &o->overrides, "key=value, stronger than the file", {.kind = ValueKind::overrides}},
                      {"--json", &o->json, "as JSON, with the model's parameter counts"},
                      {"--origin", &o->origin, "say where each value is from"}},
          .work = work,
          .examples =
              "  tael config show models/deepseek_v3 --json\n"
              "  tael config show experiments/quickstart optimizer.lr=1e-3 --origin"};
}

Verb config_check_verb() {
  const auto o = std::make_shared<ConfigCheckOptions>();
  const auto work = [o](const VerbContext& context) {
    o->search = context.search;
    return run_config_check(*o, stdout);
  };
  return {.name = "check",
          .does = "whether a run could start from a configuration, without starting one",
          .options = {{"config",
                       &o->config,
                       "a YAML file, a run, or a name in configs/",
                       {.required = true, .kind = ValueKind::config}},
                      {"overrides", &o->overrides, "key=value, stronger than the file", {.kind = ValueKind::overrides}},
                      {"--ranks",
                       &o->ranks,
                       "ranks that the run would have (default: what parallelism says)",
                       {.range = {{1, kMostRanks}}}},
                      {"--hosts",
                       &o->hosts,
                       "hosts they would be on, in equal parts (default: 1)",
                       {.range = {{1, kMostRanks}}}}},
          .work = work,
          .examples =
              "  tael config check my.yaml --ranks 4 --hosts 2\n"
              "  tael config check experiments/quickstart training.micro_batch_size=8",
          .more =
              "Checks what `tael train --dry-run` checks, and prints the same: layers, rules, what is built, every "
              "byte of the\n"
              "data, memory against this machine's. Unlike it: one process plans for any number of ranks, without "
              "mpirun (and so\n"
              "cannot say whether other hosts see the same files); run.dir may exist, so that a run can be checked; "
              "what it finds\n"
              "goes to standard output. Exit 0, or 78 or 65 with one line. Neither writes anything.\n"};
}

Verb config_diff_verb() {
  const auto o = std::make_shared<ConfigDiffOptions>();
  const auto work = [o](const VerbContext& context) {
    o->search = context.search;
    return run_config_diff(*o, stdout);
  };
  return {.name = "diff",
          .does = "keys whose resolved values differ; exit 0: none, 1: some",
          .options = {{"a",
                       &o->first,
                       "a YAML file, a run, or a name in configs/",
                       {.required = true, .kind = ValueKind::config}},
                      {"b", &o->second, "another one", {.required = true, .kind = ValueKind::config}},
                      {"--json", &o->json, "as one JSON object"}},
          .work = work,
          .examples =
              "  tael config diff runs/first runs/second\n"
              "  tael config diff deepseek_v3 kimi_k2 --json"};
}

}  // namespace

VerbGroup config_verbs() {
  return {.name = "config",
          .does = "work on configurations",
          .examples =
              "  tael config show experiments/quickstart --origin\n"
              "  tael config diff runs/first experiments/quickstart",
          .verbs = {config_show_verb(), config_check_verb(), config_diff_verb()}};
}

}  // namespace tael
