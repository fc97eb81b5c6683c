// What a configuration allows a run to spend, and the refusal of one that cannot even begin with it.
#pragma once

#include <optional>
#include <vector>

#include "cost/ledger.hpp"
#include "trainer/config.hpp"

namespace tael {

struct BudgetLeft {  // device-seconds
  double left = 0;   // after earlier attempts; below zero: they took more
  double whole = 0;  // of which that is a part
};
// Nothing: there is no limit. Money: earlier attempts at the prices that they had, what is left at the present one.
std::optional<BudgetLeft> budget_left(const Config& config, const std::vector<LedgerLine>& earlier);

// Error(bad_config) naming the key where start-up, one step and a save, which are expected to take `needed`
// device-seconds, do not fit beside what earlier attempts spent.
void require_budget(const Config& config, const std::vector<LedgerLine>& earlier, double needed);

}  // namespace tael
