#include "trainer/budget_limit.hpp"

#include <string>

#include "base/check.hpp"

namespace tael {

std::optional<BudgetLeft> budget_left(const Config& config, const std::vector<LedgerLine>& earlier) {
  const double spent = totals_of(earlier).sum();
  if (config.budget.gpu_hours) {
    const double whole = *config.budget.gpu_hours * 3600;
    return BudgetLeft{.left = whole - spent, .whole = whole};
  }
  if (!config.budget.money) return std::nullopt;
  const Money& price = *config.cluster.price_per_device_hour;
  const double whole = config.budget.money->amount / price.amount * 3600;
  // A price of nothing: no number of hours uses it up, if anything of it is left.
  const double left = config.budget.money->amount - paid(earlier, price);
  return BudgetLeft{.left = left / price.amount * 3600, .whole = whole};
}

void require_budget(const Config& config, const std::vector<LedgerLine>& earlier, double needed) {
  const std::optional<BudgetLeft> budget = budget_left(config, earlier);
  if (!budget || needed <= budget->left) return;
  const bool money = config.budget.money.has_value();
  const double unit = money ? config.cluster.price_per_device_hour->amount / 3600 : 1.0 / 3600;
  const double taken = money ? paid(earlier, *config.cluster.price_per_device_hour) : totals_of(earlier).sum() / 3600;
  fail(Exit::bad_config,
       "{}: {:.3g} {} are too little: start-up, one step and a checkpoint are expected to take {:.3g}{}",
       money ? "budget.money" : "budget.gpu_hours", money ? config.budget.money->amount : *config.budget.gpu_hours,
       money ? config.budget.money->currency : std::string("device-hours"), needed * unit,
       taken > 0 ? fmt::format(", earlier attempts took {:.3g}", taken) : "");
}

}  // namespace tael
