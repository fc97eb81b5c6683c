#include "trainer/budget_limit.hpp"

#include <string>

#include "base/check.hpp"

namespace tael {

std::optional<double> budget_limit(const Config& config) {
  if (config.budget.gpu_hours) return *config.budget.gpu_hours * 3600;
  if (config.budget.money) return config.budget.money->amount / config.cluster.price_per_device_hour->amount * 3600;
  return std::nullopt;
}

void require_budget(const Config& config, double spent, double needed) {
  const std::optional<double> limit = budget_limit(config);
  if (!limit || spent + needed <= *limit) return;
  const bool money = config.budget.money.has_value();
  const double unit = money ? config.cluster.price_per_device_hour->amount / 3600 : 1.0 / 3600;
  fail(Exit::bad_config,
       "{}: {:.3g} {} are too little: start-up, one step and a checkpoint are expected to take {:.3g}{}",
       money ? "budget.money" : "budget.gpu_hours", *limit * unit,
       money ? config.budget.money->currency : std::string("device-hours"), needed * unit,
       spent > 0 ? fmt::format(", earlier attempts took {:.3g}", spent * unit) : "");
}

}  // namespace tael
