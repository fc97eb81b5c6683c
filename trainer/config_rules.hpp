// Rules across the sections of a configuration: each has a name and one sentence, and a refusal names the keys, their
// values and the nearest that fits. Rules on the model alone are in model/shape_fields.cpp.
//
// All fail with Error(bad_config) (78): PLACE: KEY: what is wrong [rule].
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "trainer/config.hpp"

namespace tael {

struct ConfigRule {
  std::string_view name;
  std::string_view sentence;
};
std::span<const ConfigRule> config_rules();  // of check_config, in the order in which they are checked

// Contradictions and impossible values: for every command that takes a configuration of a run. `ranks`: how many were
// started, where that is known, so that what is named as the nearest that fits does fit them.
void check_config(const LoadedConfig& loaded, std::optional<int64_t> ranks = {});

// Values that ask for what is not built yet: for commands that compute.
void check_built(const LoadedConfig& loaded);

// What depends on the number of ranks that were started.
void check_world(const LoadedConfig& loaded, int64_t ranks);

// The tokenizer bytes needs 259 rows of the embedding (specials included); for whoever has seen the data.
void check_vocabulary(const LoadedConfig& loaded, std::string_view tokenizer, int64_t needed);

// load_config and the three checks above: what a run of so many ranks does before it looks at anything else.
LoadedConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides,
                             const ConfigSearch& search, int64_t ranks);

}  // namespace tael
