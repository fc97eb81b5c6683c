#include "trainer/run_directory.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "base/file.hpp"
#include "base/json.hpp"

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

void RunDirectory::require_absent(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return;
  fail(Exit::bad_config,
       "run.dir: {} exists, and continuing a run is not built yet (it needs checkpoints); give another run.dir", path);
}

RunDirectory::RunDirectory(const std::string& path, const LoadedConfig& loaded, const Environment& environment)
    : path_(path) {
  require_absent(path);
  make_directories(parent_directory(path));
  try {
    create_directory(path);
  } catch (const Error&) {
    require_absent(path);  // somebody else was faster
    throw;
  }
  replace_file(file("config.yaml"), resolved_yaml(loaded));
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object()
      .field("version", TAEL_VERSION)
      .field("build_type", TAEL_BUILD_TYPE)
      .field("commit", TAEL_COMMIT)
      .field("compiler", std::string("gcc ") + __VERSION__)
      .field("cpu", cpu_model())
      .field("cpu_isa", std::string(name_of(environment.execution.isa)))
      .field("ranks", static_cast<int64_t>(environment.ranks))
      .field("threads_per_rank", static_cast<int64_t>(environment.execution.threads));
  json.key("hosts").begin_array();
  for (const std::string& host : environment.hosts) json.value(host);
  json.end_array();
  json.key("data").begin_array();
  for (const std::string& digest : environment.data) json.value(digest);
  json.end_array();
  json.key("command").begin_array();
  for (const std::string& word : environment.command) json.value(word);
  json.end_array();
  json.key("config_files").begin_array();
  for (const std::string& name : loaded.files) json.value(name);
  json.end_array().end_object();
  replace_file(file("env.json"), json.text() + "\n");
}

bool RunDirectory::stop_requested() const { return path_exists(file("STOP")); }

void RunDirectory::remove_stop() const { remove_tree(file("STOP")); }

}  // namespace tael
