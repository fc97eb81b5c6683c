// A configuration that passes, and what a user is told of one that does not.
#pragma once

#include <string>
#include <vector>

#include "tests/harness/configuration.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "trainer/config_rules.hpp"

namespace tael::testing {

// A configuration that passes, with what is under test behind it as key=value of the command line or as a whole text.
inline constexpr const char* kGood = R"(run: {dir: runs/x}
model: {preset: deepseek_v3_tiny}
data: {train: [a.h5]}
training: {seq_length: 64, micro_batch_size: 2, global_batch_size: 8, train_steps: 10}
lr_scheduler: {warmup_steps: 5}
)";

inline std::string refusal(const std::string& text, const std::vector<std::string>& overrides, int64_t ranks) {
  return refusal_of([&] {
    const LoadedConfig loaded = load_config_text(text, "t.yaml", overrides, kSearch);
    check_config(loaded, ranks);
    check_built(loaded);
    check_world(loaded, ranks);
    check_vocabulary(loaded, "bytes", 259);
  });
}

}  // namespace tael::testing
