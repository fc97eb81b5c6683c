#include "trainer/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "trainer/config_names.hpp"

namespace tael {

namespace fs = std::filesystem;

namespace {

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// The first file of that name, as it stands or with .yaml, in the directories; empty: there is none.
std::string find_file(const std::string& name, const std::vector<std::string>& directories) {
  for (const std::string& directory : directories) {
    const fs::path path = directory.empty() ? fs::path(name) : fs::path(directory) / name;
    if (is_file(path)) return path.string();
    if (is_file(path.string() + ".yaml")) return path.string() + ".yaml";
    if (fs::path(name).is_absolute()) break;
  }
  return {};
}

// Names of the files of a subdirectory of the configs directories, without .yaml.
std::vector<std::string> names_in(const ConfigSearch& search, const std::string& subdirectory) {
  std::set<std::string> names;
  for (const std::string& directory : search.config_dirs) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(fs::path(directory) / subdirectory, error)) {
      if (entry.path().extension() == ".yaml") names.insert(entry.path().stem().string());
    }
  }
  return {names.begin(), names.end()};
}

// "; the nearest is experiments/quickstart", from all configurations of the directories; empty: none is near.
std::string nearest_configuration(const ConfigSearch& search, const std::string& wanted) {
  std::set<std::string> names;
  for (const std::string& directory : search.config_dirs) {
    std::error_code error;
    for (fs::recursive_directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
      if (it->path().extension() == ".yaml")
        names.insert(it->path().lexically_relative(directory).replace_extension().string());
    }
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  const auto stem = std::ranges::find_if(names, [&](const std::string& n) { return fs::path(n).filename() == wanted; });
  if (stem != names.end()) return fmt::format("; the nearest is {}", *stem);
  const std::string_view near = nearest_of(wanted, views);
  if (near.empty() || edit_distance(near, wanted) > std::max<size_t>(2, wanted.size() / 4)) return {};
  return fmt::format("; the nearest is {}", near);
}

std::string in_quotes(const std::string& name) { return in_words(ConfigNode::text(name)); }

class Loader {
 public:
  explicit Loader(const ConfigSearch& search) : search_(search) {}

  void load(const std::string& path) {
    const std::string file = find_file(path, directories(""));
    if (file.empty()) {
      // Say what the system says about the path itself: no such file, a directory, no permission.
      std::error_code error;
      if (fs::exists(path, error) || error) load_yaml(path);
      fail(Exit::bad_config, "{}: no such configuration, here or in the configs directories{}", in_quotes(path),
           nearest_configuration(search_, path));
    }
    apply_file(file);
  }

  void apply_text(const ConfigNode& root, const std::string& name) {
    loaded.files.push_back(name);
    apply(root, name);
  }

  void apply_override(const std::string& text) {
    const ConfigNode map = parse_override(text);
    if (map.find("defaults") != nullptr) fail(Exit::bad_config, "command line: defaults: belongs in a file");
    apply_layer(map);
  }

  void finish() {
    const bool has_model = std::any_of(loaded.reading.origins.begin(), loaded.reading.origins.end(),
                                       [](const auto& entry) { return entry.first.starts_with("model."); });
    if (!has_model) return;
    leave_out_mtp_of_the_class(loaded.config.model);
    complete_and_check(loaded.config.model, loaded.reading, "model", loaded.files.front());
    if (loaded.config.model.preset.empty()) return;
    complete_and_check(preset_.model, preset_reading_, "model", loaded.files.front());
    loaded.preset_deviations = differences(write_fields(preset_.model), write_fields(loaded.config.model));
    for (FieldDifference& deviation : loaded.preset_deviations) deviation.path = "model." + deviation.path;
  }

  LoadedConfig loaded;

 private:
  std::vector<std::string> directories(const std::string& own) const {
    std::vector<std::string> all;
    if (!own.empty()) all.push_back(own);
    all.emplace_back();
    all.insert(all.end(), search_.config_dirs.begin(), search_.config_dirs.end());
    return all;
  }

  void apply_file(const std::string& file) {
    constexpr size_t kMostFiles = 64;  // a few that name each other twice would otherwise be many
    std::error_code error;
    const std::string identity = fs::weakly_canonical(file, error).string();
    if (std::find(open_.begin(), open_.end(), identity) != open_.end()) {
      fail(Exit::bad_config, "{}: defaults: leads back to this file", file);
    }
    if (loaded.files.size() >= kMostFiles)
      fail(Exit::bad_config, "{}: more than {} files by defaults:", file, kMostFiles);
    loaded.files.push_back(file);
    open_.push_back(identity);
    apply(load_yaml(file), file);
    open_.pop_back();
  }

  void apply(ConfigNode root, const std::string& file) {
    const std::string own = fs::path(file).parent_path().string();
    if (const std::optional<ConfigNode> defaults = root.take("defaults")) {
      for (const auto& [name, origin] : names_of(*defaults)) {
        const std::string found = find_file(name, directories(own));
        if (found.empty())
          fail_at(origin, "defaults: there is no file {} or {}.yaml{}", in_quotes(name), name,
                  nearest_configuration(search_, name));
        apply_file(found);
      }
    }
    apply_layer(std::move(root));
  }

  static std::vector<std::pair<std::string, Origin>> names_of(const ConfigNode& defaults) {
    const std::string expected = "a list of file names";
    std::vector<std::pair<std::string, Origin>> names;
    if (defaults.is_null()) return names;
    if (!defaults.is_list()) fail_at(defaults.origin, "defaults: expected {}, got {}", expected, in_words(defaults));
    for (const ConfigNode& item : defaults.items) {
      if (!item.is_scalar() || item.scalar.empty()) {
        fail_at(item.origin, "defaults: expected {}, got {} in it", expected, in_words(item));
      }
      names.emplace_back(item.scalar, item.origin);
    }
    return names;
  }

  void apply_layer(ConfigNode root) {
    if (ConfigNode* model = root.is_map() ? root.find("model") : nullptr) {
      if (const ConfigNode* preset = model->find("preset")) start_from_preset(*preset);
      leave_out_sampling(*model, "model", loaded.reading);
    }
    const bool said_by_parameters = loaded.config.model.rope.by_parameters;
    loaded.reading.layers.push_back(root.origin.source);
    read_fields(loaded.config, root, config_schema(), loaded.reading);
    note_rotation(root, said_by_parameters);
    note_phases(root);
  }

  // The list of decay under its own name: what the file says of decay is there.
  void note_phases(const ConfigNode& root) {
    const ConfigNode* section = root.is_map() ? root.find("lr_scheduler") : nullptr;
    const ConfigNode* phases = section != nullptr && section->is_map() ? section->find("phases") : nullptr;
    if (phases != nullptr && !phases->is_null()) loaded.reading.origins["lr_scheduler.decay"] = phases->origin;
  }

  // Values of the rotation that a layer says inside another key are from there.
  void note_rotation(const ConfigNode& root, bool said_by_parameters) {
    const ConfigNode* model = root.is_map() ? root.find("model") : nullptr;
    if (model == nullptr || !model->is_map()) return;
    std::map<std::string, Origin, std::less<>>& origins = loaded.reading.origins;
    const ConfigNode *scaling = model->find("rope_scaling"), *parameters = model->find("rope_parameters");
    const bool says = parameters != nullptr && !parameters->is_null();
    if (says || (parameters != nullptr && scaling == nullptr && said_by_parameters))
      origins["model.rope_scaling"] = parameters->origin;
    for (const ConfigNode* map : {scaling, parameters}) {
      if (map != nullptr && map->is_map() && map->find("rope_theta") != nullptr && model->find("rope_theta") == nullptr)
        origins["model.rope_theta"] = map->origin;
    }
  }

  // The model becomes the preset's, and remembers it for the list of deviations.
  void start_from_preset(const ConfigNode& name) {
    std::string wanted;
    if (name.is_scalar()) wanted = name.scalar;
    std::replace(wanted.begin(), wanted.end(), '-', '_');  // deepseek-v3 is what people write
    const std::vector<std::string> known = names_in(search_, "models");
    std::string file;
    if (!wanted.empty() && wanted.find('/') == std::string::npos)
      file = find_file("models/" + wanted, search_.config_dirs);
    if (file.empty()) {
      const std::vector<std::string_view> names(known.begin(), known.end());
      const std::string last = wanted.substr(wanted.rfind('/') + 1);
      const std::string_view near = nearest_of(last, names);
      const bool is_near = !near.empty() && 2 * edit_distance(last, near) <= near.size();
      fail_at(name.origin, "model.preset: there is no preset {}{}", in_words(name),
              is_near         ? fmt::format("; the nearest is {}", near)
              : names.empty() ? std::string()
                              : fmt::format("; there are {}", fmt::join(names, ", ")));
    }
    const ConfigNode root = load_yaml(file);
    for (const ConfigNode& key : root.keys) {
      if (key.scalar != "model") fail_at(key.origin, "{}: a preset holds nothing but model:", key_in_words(key));
    }
    loaded.files.push_back(file);
    const auto of_model = [](const auto& entry) { return entry.first.starts_with("model."); };
    std::erase_if(loaded.reading.origins, of_model);
    std::erase_if(loaded.reading.written, of_model);
    preset_ = {};
    preset_reading_ = {};
    read_fields(preset_, root, config_schema(), preset_reading_);
    loaded.reading.layers.push_back(root.origin.source);
    loaded.config.model = {};
    read_fields(loaded.config, root, config_schema(), loaded.reading);
  }

  const ConfigSearch& search_;
  std::vector<std::string> open_;
  Config preset_;
  Reading preset_reading_;
};

LoadedConfig finished(Loader& loader, const std::vector<std::string>& overrides) {
  for (const std::string& text : overrides) loader.apply_override(text);
  loader.finish();
  return std::move(loader.loaded);
}

}  // namespace

const Schema& config_schema() {
  static const Schema schema = [] {  // constant: the description of the language
    Schema made = schema_of(Config{});
    made.other_names = other_programs_names();
    return made;
  }();
  return schema;
}

LoadedConfig load_config(const std::string& path, const std::vector<std::string>& overrides,
                         const ConfigSearch& search) {
  Loader loader(search);
  loader.load(path);
  return finished(loader, overrides);
}

LoadedConfig load_config_text(std::string_view text, const std::string& name, const std::vector<std::string>& overrides,
                              const ConfigSearch& search) {
  Loader loader(search);
  loader.apply_text(parse_yaml(text, name), name);
  return finished(loader, overrides);
}

std::string resolved_yaml(const LoadedConfig& loaded) {
  std::string text = "schema: 1\n";
  if (!loaded.config.model.preset.empty()) {
    text += fmt::format("# model: from the preset {}, {} of its keys changed\n", loaded.config.model.preset,
                        loaded.preset_deviations.size());
  }
  return text + to_yaml(write_fields(loaded.config));
}

std::vector<FieldDifference> changes_from_defaults(const Config& config) {
  std::vector<FieldDifference> changes = differences(write_fields(Config{}), write_fields(config));
  std::erase_if(changes, [](const FieldDifference& change) { return change.path.starts_with("model."); });
  return changes;
}

int64_t TrainingOptions::steps(int64_t done, int64_t tokens) const {
  CHECK(train_steps || train_tokens);
  return train_steps ? *train_steps : done + steps_to_consume(global_batch_size, seq_length, *train_tokens, tokens);
}

int64_t TrainingOptions::all_tokens(int64_t done, int64_t tokens) const {
  return tokens_after_steps(global_batch_size, seq_length, steps(done, tokens) - done, tokens);
}

}  // namespace tael
