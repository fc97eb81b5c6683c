// tael config show, check and diff: what a configuration comes to once all its layers are read, whether a run could
// start from it, and where two of them differ. None of them writes anything.
//
// CONFIG is what `tael train` takes, and also a run directory (its config.yaml) or the bare name of a model preset.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "trainer/config.hpp"
#include "trainer/console.hpp"
#include "trainer/verb.hpp"

namespace tael {

struct ConfigShowOptions {
  std::string config;  // a configuration of a run, or a file with nothing but a model
  std::vector<std::string> overrides;
  bool json = false;    // with an object `parameters`: the counts of the model
  bool origin = false;  // say where each value is from; with json as an object `origins`
  ConfigSearch search;
};

// The text that is printed. Error(bad_config) for a configuration that contradicts itself; what is not built yet is
// shown.
std::string config_show(const ConfigShowOptions& options);
int run_config_show(const ConfigShowOptions& options, std::FILE* out);

struct ConfigCheckOptions {
  std::string config;
  std::vector<std::string> overrides;
  ConfigSearch search;
  int64_t ranks = 0;  // that the run would have; 0: what parallelism says, where data_parallel auto is 1
  int64_t hosts = 1;  // that they would be on, in equal parts
};

// What `tael train --dry-run` checks and prints, for ranks that nobody started: rules, what is built, every byte of the
// data, memory against this machine's. Collective over no one; run.dir may exist. Prints to `out`. Throws what train
// would: Error(bad_config), Error(bad_data).
int run_config_check(const ConfigCheckOptions& options, std::FILE* out);

struct ConfigDiffOptions {
  std::string first, second;  // CONFIG
  bool json = false;
  ConfigSearch search;
};

// Keys whose resolved values differ, with both values and where they are from. Where one of the two is a model alone,
// models are compared. Returns 0 if there are none, else 1. Contradictions across sections are no matter here.
int run_config_diff(const ConfigDiffOptions& options, std::FILE* out);

// What a run says about its configuration before it starts, a line each: keys without effect, other programs' names
// that were used, every deviation from a model preset.
std::vector<std::string> config_notes(const LoadedConfig& loaded);
// Settings that differ from their defaults, each as "key value (default)", as text broken into lines of at most `width`
// columns where the words allow. Left out is what every run has to give, and what its other lines say: its directory,
// seed, length and data. Empty: everything is as by default.
std::vector<std::string> changed_settings(const LoadedConfig& loaded, size_t width);
// Both as facts on the console.
void print_config(Console& console, const LoadedConfig& loaded);

VerbGroup config_verbs();

}  // namespace tael
