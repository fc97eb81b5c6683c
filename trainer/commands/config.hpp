// tael config show CONFIG [key=value ...] [--json] [--origin]: what a configuration comes to once all its layers are
// read.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "trainer/config.hpp"

namespace tael {

struct ConfigShowOptions {
  std::string config;  // a configuration of a run, or a file with nothing but a model
  std::vector<std::string> overrides;
  bool json = false;    // with an object `parameters`: the counts of the model
  bool origin = false;  // say where each value is from; not with json
  ConfigSearch search;
};

// The text that is printed. Error(bad_config) for a configuration that contradicts itself; what is not built yet is
// shown.
std::string config_show(const ConfigShowOptions& options);
int run_config_show(const ConfigShowOptions& options, std::FILE* out);

// What a run says about its configuration before it starts, a line each: keys without effect, other programs' names
// that were used, every deviation from a model preset.
std::vector<std::string> config_notes(const LoadedConfig& loaded);
// Settings that differ from their defaults, each as "key value (default)", as text broken into lines of at most `width`
// columns where the words allow. Left out is what every run has to give, and what its other lines say: its directory,
// seed, length and data. Empty: everything is as by default.
std::vector<std::string> changed_settings(const LoadedConfig& loaded, size_t width);

}  // namespace tael
