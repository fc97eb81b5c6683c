#include "trainer/commands/config.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.hpp"
#include "model/param_table.hpp"
#include "trainer/config_rules.hpp"
#include "trainer/console.hpp"

namespace tael {

namespace {

constexpr size_t kColumns = 110;

bool is_model_alone(const LoadedConfig& loaded) {
  return std::all_of(loaded.reading.origins.begin(), loaded.reading.origins.end(),
                     [](const auto& entry) { return entry.first.starts_with("model.") || entry.first == "schema"; });
}

std::string as_json(const std::vector<WrittenField>& fields, const ParamCounts& counts) {
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object().field("schema", 1);
  write_json(json, fields);
  json.key("parameters").begin_object();
  json.field("total", counts.total)
      .field("active", counts.active)
      .field("active_without_input_table", counts.active_without_input_table)
      .field("mtp", counts.mtp)
      .field("gate_biases", counts.gate_biases);
  json.end_object().end_object();
  return json.text() + "\n";
}

}  // namespace

std::string config_show(const ConfigShowOptions& options) {
  const LoadedConfig loaded = load_config(options.config, options.overrides, options.search);
  const bool model_alone = is_model_alone(loaded);
  if (model_alone && !loaded.reading.given("model.hidden_size")) {
    fail(Exit::bad_config, "{}: model: must be given", loaded.files.back());
  }
  if (!model_alone) check_config(loaded);
  const ParamCounts counts = count_parameters(loaded.config.model.shape);
  std::vector<WrittenField> fields = write_fields(loaded.config);
  if (model_alone) {
    std::erase_if(fields, [](const WrittenField& f) { return f.path != "model" && !f.path.starts_with("model."); });
  }
  if (options.json) return as_json(fields, counts);
  std::string text = "schema: 1\n" + to_yaml(fields, options.origin ? &loaded.reading : nullptr);
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
  const std::string text = config_show(options);
  if (std::fwrite(text.data(), 1, text.size(), out) != text.size() || std::fflush(out) != 0) {
    fail(Exit::io, "the output could not be written");
  }
  return static_cast<int>(Exit::done);
}

std::vector<std::string> config_notes(const LoadedConfig& loaded) {
  std::vector<std::string> notes;
  if (!loaded.reading.ignored.empty()) {
    notes.push_back(fmt::format("accepted without effect: {}", fmt::join(loaded.reading.ignored, ", ")));
  }
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

}  // namespace tael
