// What a configuration allows a run to spend, and the refusal of one that cannot even begin with it. Device-seconds.
#pragma once

#include <optional>

#include "trainer/config.hpp"

namespace tael {

// Of all attempts together; nothing: there is no limit.
std::optional<double> budget_limit(const Config& config);

// Error(bad_config) naming the key where start-up, one step and a save, which are expected to take `needed`, do not fit
// beside what earlier attempts spent.
void require_budget(const Config& config, double spent, double needed);

}  // namespace tael
