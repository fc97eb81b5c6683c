// Configurations as tests give them: this tree's presets, and a text in the place of a file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trainer/config.hpp"

namespace tael::testing {

inline const ConfigSearch kSearch{{TAEL_SOURCE_DIR "/configs"}};

inline LoadedConfig load(std::string_view text, const std::vector<std::string>& overrides = {}) {
  return load_config_text(text, "t.yaml", overrides, kSearch);
}

}  // namespace tael::testing
