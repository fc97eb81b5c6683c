#include "trainer/run_directory.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <filesystem>
#include <fstream>

#include "base/file.hpp"
#include "base/json.hpp"
#include "trainer/run_lock.hpp"

namespace tael {

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string build_line() {
  return fmt::format("tael {}, {}, gcc {}, commit {}", TAEL_VERSION, TAEL_BUILD_TYPE, __VERSION__, TAEL_COMMIT);
}

std::optional<std::vector<std::string>> read_data_digests(const std::string& run_directory) {
  const std::string path = run_directory + "/env.json";
  try {
    const auto document = JsonDocument::parse(read_file(path, uint64_t{64} << 20, Exit::bad_data), path);
    std::vector<std::string> digests;
    for (const Json& digest : document.root().at("data").items()) digests.push_back(digest.as_string());
    return digests;
  } catch (const Error&) {
    return std::nullopt;  // nothing that a run needs
  }
}

RunDirectory::Found RunDirectory::look(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) {
    require_creatable(path);
    return Found::nothing;
  }
  if (!is_directory(path)) fail(Exit::bad_config, "run.dir: {} exists and is no directory", path);
  if (has_attempts(path) || path_exists(path + "/config.yaml")) return Found::run;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    // STOP: somebody changed his mind about a job that waits in the queue. lost+found: the root of a file system.
    // attempts: of a start that was killed before it had written itself down.
    if (name != "log" && name != "submit.sh" && name != "STOP" && name != "lost+found" && name != "attempts")
      fail(Exit::bad_config, "run.dir: {} exists and is no run of tael (it holds {}); give another run.dir", path,
           name);
  }
  return Found::nothing;
}

RunDirectory::RunDirectory(const std::string& path) : path_(path) { make_directories(path); }

void RunDirectory::describe(const LoadedConfig& loaded, const Environment& environment, int64_t attempt) const {
  replace_file(file("config.yaml"), resolved_yaml(loaded));
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object()
      .field("version", TAEL_VERSION)
      .field("build_type", TAEL_BUILD_TYPE)
      .field("commit", TAEL_COMMIT)
      .field("compiler", std::string("gcc ") + __VERSION__)
      .field("cpu", cpu_model())
      .field("cpu_isa", std::string(name_of(environment.execution.isa)))
      .field("attempt", attempt)
      .field("ranks", static_cast<int64_t>(environment.ranks))
      .field("threads_per_rank", static_cast<int64_t>(environment.execution.threads));
  if (!environment.job.empty()) json.field("job", environment.job);
  if (!environment.branched_from.empty()) json.field("branched_from", environment.branched_from);
  const auto list = [&](std::string_view name, const std::vector<std::string>& texts) {
    json.key(name).begin_array();
    for (const std::string& text : texts) json.value(text);
    json.end_array();
  };
  json.field("tokenizer", environment.tokenizer);
  list("hosts", environment.hosts);
  list("data", environment.data);
  list("valid_data", environment.valid_data);
  list("command", environment.command);
  list("config_files", loaded.files);
  json.key("memory").begin_object();
  for (const auto& [name, bytes] : environment.memory) json.field(name, static_cast<int64_t>(bytes));
  json.end_object();
  // The resolved configuration no longer knows where the model came from.
  json.field("preset", loaded.config.model.preset).key("preset_deviations").begin_array();
  for (const FieldDifference& d : loaded.preset_deviations)
    json.begin_object().field("key", d.path).field("preset", d.first).field("run", d.second).end_object();
  json.end_array().end_object();
  replace_file(file("env.json"), json.text() + "\n");
}

void RunDirectory::forget(const std::string& path) {
  ::rmdir((path + "/attempts").c_str());  // which stays while there is anything in it
  ::rmdir(path.c_str());
}

void RunDirectory::sweep() const {
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    const std::string name = entry.path().filename().string();
    // free_name_beside(RUN/model)
    if (name.starts_with("model.") && name.ends_with(".tmp") && std::isdigit(static_cast<unsigned char>(name[6])) != 0)
      remove_tree(entry.path().string());
  }
}

bool RunDirectory::stop_requested() const { return path_exists(file("STOP")); }

void RunDirectory::remove_stop() const { remove_tree(file("STOP")); }

}  // namespace tael
