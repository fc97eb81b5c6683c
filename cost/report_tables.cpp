#include "cost/report_tables.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/number_text.hpp"

namespace tael {

namespace {

constexpr size_t kMostRows = 100;  // of tables that grow with the run

std::string grouped_fixed(double x, int decimals) {
  if (!(std::fabs(x) < 1e15)) return fmt::format("{:.3g}", x);
  const std::string text = fmt::format("{:.{}f}", std::fabs(x), decimals);
  const size_t point = std::min(text.find('.'), text.size());
  return (x < 0 ? "-" : "") + grouped(std::stoll(text.substr(0, point))) + text.substr(point);
}

std::string loss_text(const std::optional<double>& loss) { return loss ? fmt::format("{:.4f}", *loss) : "-"; }
std::string seconds_text(double s) { return s < 100 ? fmt::format("{:.3g} s", s) : duration(s); }
std::string bytes_text(double bytes) {
  return bytes < 1e9 ? fmt::format("{:.1f} MiB", bytes / (1 << 20)) : fmt::format("{:.2f} GiB", bytes / (1 << 30));
}

// "-0.00" is 0.00.
std::string without_signed_zero(std::string number) {
  if (number.starts_with('-') && number.find_first_of("123456789") == std::string::npos) number.erase(0, 1);
  return number;
}

// 2026-11-24T15:20:01.123Z as people write it.
std::string moment_text(const std::string& iso) {
  return iso.size() < 19 ? iso : iso.substr(0, 10) + " " + iso.substr(11, 8);
}

std::string cost_text(const Report& r, double hours) {
  std::string text = hours_text(hours) + " h";
  if (const auto money = r.paid_until(hours))
    text += ", " + money_text(*money, r.facts.price_per_device_hour->currency);
  return text;
}

std::string how_it_ended(const ReportFacts::Attempt& a, bool last, const std::string& state) {
  if (!a.ended.empty()) return a.exit_code == 0 ? a.reason : fmt::format("{} (exit {})", a.reason, a.exit_code);
  return last && state == "running" ? "running, or killed without a word" : "killed without a word";
}

ReportTable hours_table(const Report& r) {
  ReportTable t{
      .title = "Where the device-hours went", .columns = {"kind", "device-hours", "share"}, .rows = {}, .note = {}};
  if (r.facts.price_per_device_hour) t.columns.push_back(r.facts.price_per_device_hour->currency);
  const auto add = [&](const std::string& name, double hours, double money) {
    std::vector<std::string> row = {name, hours_beside(hours, r.device_hours),
                                    r.device_hours > 0 ? percent_text(hours / r.device_hours) : "-"};
    if (r.money) row.push_back(money_text(money, {}));
    t.rows.push_back(std::move(row));
  };
  for (size_t k = 0; k < kCostKinds; ++k)
    if (r.by_kind.of[k] != 0) add(kind_text(static_cast<CostKind>(k)), r.by_kind.of[k], r.paid_by_kind.of[k]);
  add("unaccounted", r.unaccounted, r.paid_unaccounted);
  add("all", r.device_hours, r.money ? r.money->amount : 0);
  t.note = fmt::format("In steps that stand: {} of {} device-hours, a goodput of {}.", hours_text(r.productive),
                       hours_text(r.device_hours), percent_text(r.goodput));
  return t;
}

ReportTable attempts_table(const Report& r) {
  ReportTable t{
      .title = "Attempts",
      .columns = {"attempt", "began", "ended", "ranks", "host", "steps", "thrown away", "device-hours", "why it ended"},
      .rows = {},
      .note = {},
      .words = true};
  bool jobs = false;
  for (const AttemptCost& a : r.attempts) jobs = jobs || !a.start.job.empty();
  if (jobs) t.columns.insert(t.columns.begin() + 1, "job");
  const size_t skipped = r.attempts.size() > kMostRows ? r.attempts.size() - kMostRows : 0;
  if (skipped > 0) t.note = fmt::format("The last {} of {}.", kMostRows, r.attempts.size());
  for (size_t i = skipped; i < r.attempts.size(); ++i) {
    const AttemptCost& a = r.attempts[i];
    std::vector<std::string> row = {
        std::to_string(a.start.number),
        moment_text(a.start.began),
        a.start.ended.empty() ? "-" : moment_text(a.start.ended),
        grouped(a.start.ranks),
        a.start.host,
        a.first_step == 0 ? "-" : fmt::format("{} to {}", grouped(a.first_step), grouped(a.last_step)),
        grouped(a.lost_steps),
        hours_text(a.device_hours),
        how_it_ended(a.start, &a == &r.attempts.back(), r.history.state)};
    if (jobs) row.insert(row.begin() + 1, a.start.job.empty() ? "-" : a.start.job);
    t.rows.push_back(std::move(row));
  }
  return t;
}

ReportTable prediction_table(const Report& r) {
  ReportTable t{
      .title = "Predicted and measured", .columns = {"what", "predicted", "measured", "ratio"}, .rows = {}, .note = {}};
  const auto ratio = [](double predicted, double measured) {
    return measured > 0 ? fmt::format("{:.2f}", predicted / measured) : std::string("-");
  };
  if (r.first_step_predicted && r.median_step) {
    t.rows.push_back({"a step, device-seconds (median)", fmt::format("{:.4g}", *r.first_step_predicted),
                      fmt::format("{:.4g}", *r.median_step), ratio(*r.first_step_predicted, *r.median_step)});
  }
  for (const auto& [kind, bytes] : r.history.memory) {
    if (kind != "expected" || r.planned_peak_gib <= 0) continue;
    const double measured = r.planned_peak_gib * (1 << 30);
    t.rows.push_back({"peak memory of a rank", bytes_text(static_cast<double>(bytes)), bytes_text(measured),
                      ratio(static_cast<double>(bytes), measured)});
  }
  return t;
}

ReportTable memory_table(const Report& r) {
  ReportTable t{.title = "Memory of a rank", .columns = {"kind", "planned"}, .rows = {}, .note = {}};
  for (const auto& [kind, bytes] : r.history.memory)
    if (bytes != 0)
      t.rows.push_back({kind == "at_most"    ? "at most"
                        : kind == "expected" ? "all, expected"
                                             : kind,
                        bytes_text(static_cast<double>(bytes))});
  if (t.rows.empty()) return t;
  if (r.planned_peak_gib > 0) t.rows.push_back({"measured peak", bytes_text(r.planned_peak_gib * (1 << 30))});
  if (r.peak_gib > r.planned_peak_gib)
    t.rows.push_back({"measured peak of all attempts", bytes_text(r.peak_gib * (1 << 30))});
  return t;
}

ReportTable saves_table(const Report& r) {
  ReportTable t{.title = "Checkpoints", .columns = {"what", "value"}, .rows = {}, .note = {}};
  const std::vector<SavePoint>& saves = r.history.saves;
  if (saves.empty()) return t;
  double seconds = 0;
  for (const SavePoint& save : saves) seconds += save.seconds;
  t.rows = {{"saved", grouped(static_cast<int64_t>(saves.size()))},
            {"bytes of the last", bytes_text(static_cast<double>(saves.back().bytes))},
            {"until one was published, mean", seconds_text(seconds / static_cast<double>(saves.size()))},
            {"that steps waited, all together", seconds_text(r.saves_stall_seconds)}};
  return t;
}

ReportTable deviations_table(const Report& r) {
  ReportTable t{.title = fmt::format("Differs from the preset {}", r.history.preset),
                .columns = {"key", "preset", "this run"},
                .rows = {},
                .note = {},
                .words = true};
  for (const RunHistory::Deviation& d : r.history.preset_deviations) t.rows.push_back({d.key, d.preset, d.run});
  return t;
}

ReportTable changes_table(const Report& r) {
  ReportTable t{.title = "Settings that are not the default",
                .columns = {"key", "default", "this run"},
                .rows = {},
                .note = {},
                .words = true};
  for (const FieldDifference& d : r.facts.changed)
    t.rows.push_back({d.path, d.first == "null" ? "none" : d.first, d.second});
  return t;
}

ReportTable events_table(const Report& r) {
  ReportTable t{
      .title = "Events", .columns = {"time", "attempt", "step", "what"}, .rows = {}, .note = {}, .words = true};
  const std::vector<EventPoint>& events = r.history.events;
  const size_t skipped = events.size() > kMostRows ? events.size() - kMostRows : 0;
  for (size_t i = skipped; i < events.size(); ++i)
    t.rows.push_back(
        {moment_text(events[i].time), grouped(events[i].attempt), grouped(events[i].step), events[i].text});
  if (skipped > 0)
    t.note = fmt::format("The last {} of {}; all are in metrics.jsonl.", kMostRows,
                         grouped(static_cast<int64_t>(events.size())));
  return t;
}

ReportTable environment_table(const Report& r) {
  const RunHistory& h = r.history;
  ReportTable t{.title = "Program and machine", .columns = {"what", "value"}, .rows = {}, .note = {}, .words = true};
  t.rows.push_back({"program", fmt::format("tael {}, {}, commit {}", h.version, h.build_type, h.commit)});
  const std::set<std::string> hosts(h.hosts.begin(), h.hosts.end());
  t.rows.push_back({"devices", fmt::format("{} x {} on the CPU: {} ({})", count_of(h.ranks, "rank"),
                                           count_of(h.threads_per_rank, "thread"), h.cpu, h.isa)});
  t.rows.push_back({"hosts", fmt::format("{}", fmt::join(hosts, ", "))});
  t.rows.push_back(
      {"model", fmt::format("{} parameters, {} at work for a token; {:.4g} FLOPs a token in training",
                            grouped(r.facts.parameters), grouped(r.facts.active_parameters), r.facts.flops_per_token)});
  if (!h.data.empty()) t.rows.push_back({"training data (digests)", fmt::format("{}", fmt::join(h.data, ", "))});
  if (!h.valid_data.empty())
    t.rows.push_back({"held-out data (digests)", fmt::format("{}", fmt::join(h.valid_data, ", "))});
  t.rows.push_back({"command", fmt::format("{}", fmt::join(h.command, " "))});
  return t;
}

}  // namespace

namespace {

// Four digits that mean something, however small; one decimal of large ones.
int decimals_of(double hours) {
  const double size = std::fabs(hours);
  if (size >= 100) return 1;
  if (size >= 1 || size == 0) return 3;
  return std::min(10, 3 - static_cast<int>(std::floor(std::log10(std::max(size, 1e-9)))));
}

}  // namespace

std::string hours_text(double hours) {
  return hours == 0 ? "0" : without_signed_zero(grouped_fixed(hours, decimals_of(hours)));
}

std::string hours_beside(double hours, double all) {
  return hours == 0 ? "0" : without_signed_zero(grouped_fixed(hours, std::min(10, decimals_of(all) + 1)));
}

std::string money_text(double amount, const std::string& currency) {
  const std::string number =
      without_signed_zero(std::fabs(amount) >= 100 ? grouped_fixed(amount, 2) : fmt::format("{:.4f}", amount));
  return currency.empty() ? number : fmt::format("{} {}", number, currency);
}

std::string percent_text(double fraction) { return without_signed_zero(fmt::format("{:.1f}%", fraction * 100)); }

std::string kind_text(CostKind kind) {
  if (kind == CostKind::startup) return "start-up";
  std::string text(name_of(kind));
  std::ranges::replace(text, '_', ' ');
  return text;
}

std::string headline_sentence(const Report& r) {
  const int64_t all = std::max(r.history.all_steps, r.steps);
  const std::string text =
      fmt::format("{}: {} of {} steps, {} of {} tokens, {}", r.history.state, grouped(r.steps), grouped(all),
                  counted(static_cast<double>(r.tokens), 9), counted(static_cast<double>(r.facts.total_tokens), 9),
                  count_of(static_cast<int64_t>(r.attempts.size()), "attempt"));
  if (r.facts.branched_from.empty()) return text;
  return text + fmt::format("; a branch: {} and {} tokens until {} are not its own",
                            count_of(r.history.begin_step, "step"),
                            counted(static_cast<double>(r.history.begin_tokens), 9), r.facts.branched_from);
}

std::vector<ReportFigure> headline(const Report& r) {
  std::vector<ReportFigure> figures;
  ReportFigure hours{.name = "device-hours", .value = hours_text(r.device_hours), .note = "no budget was set"};
  if (r.facts.budget_device_hours) {
    hours.note = fmt::format("of {} ({})", hours_text(*r.facts.budget_device_hours),
                             percent_text(r.device_hours / *r.facts.budget_device_hours));
  } else if (r.facts.budget_money) {
    hours.note = "the budget is one of money";
  }
  figures.push_back(hours);
  if (r.money) {
    const double now = r.facts.price_per_device_hour->amount, mean = r.mean_price();
    const std::optional<Money>& budget = r.facts.budget_money;
    figures.push_back(
        {"money", money_text(r.money->amount, r.money->currency),
         fmt::format("{}at {} a device-hour{}",
                     budget ? fmt::format("of {} ({}), ", money_text(budget->amount, {}),
                                          percent_text(r.money->amount / budget->amount))
                            : std::string(),
                     money_text(now, r.money->currency),
                     std::fabs(mean - now) > 1e-9 * now ? fmt::format(" now, {} in the mean", money_text(mean, {}))
                                                        : std::string())});
  }
  if (r.valid_loss) {
    figures.push_back({"validation loss", loss_text(r.valid_loss),
                       r.bits_per_byte ? fmt::format("{:.4f} bits per byte", *r.bits_per_byte)
                                       : fmt::format("perplexity {:.4g}", *r.valid_ppl)});
  }
  figures.push_back({"training loss", loss_text(r.train_loss), "mean of the last fiftieth of the steps"});
  figures.push_back({"speed", counted(r.tokens_per_s, 9) + " tokens/s",
                     r.mfu ? fmt::format("MFU {}", percent_text(*r.mfu)) : "MFU unknown"});
  figures.push_back({"goodput", percent_text(r.goodput), "of all device-hours in steps that stand"});
  if (r.device_hours_per_trillion_tokens) {
    figures.push_back({"a trillion tokens", counted(*r.device_hours_per_trillion_tokens, 9) + " h",
                       "device-hours at this run's cost a token"});
  }
  if (r.forecast) {
    const Forecast& f = *r.forecast;
    figures.push_back({"forecast", cost_text(r, f.device_hours),
                       fmt::format("{} to {} h; {} more{}", hours_text(f.low), hours_text(f.high), duration(f.seconds),
                                   !f.fits_budget   ? ""
                                   : *f.fits_budget ? "; inside the budget"
                                                    : "; over the budget")});
  }
  return figures;
}

std::vector<ReportTable> report_tables(const Report& report) {
  std::vector<ReportTable> tables = {hours_table(report),   attempts_table(report), prediction_table(report),
                                     memory_table(report),  saves_table(report),    deviations_table(report),
                                     changes_table(report), events_table(report),   environment_table(report)};
  std::erase_if(tables, [](const ReportTable& t) { return t.rows.empty(); });
  return tables;
}

std::vector<ReportTable> comparison_tables(const Comparison& c, const std::vector<Report>& reports) {
  const std::string unit = c.currency.empty() ? "device-hours" : c.currency;
  const auto cost = [&](const std::optional<double>& x) {
    return !x ? std::string("-") : c.currency.empty() ? hours_text(*x) : money_text(*x, {});
  };
  const std::string loss = c.validation ? "validation loss" : "training loss";
  ReportTable runs{.title = "Runs",
                   .columns = {"run", "state", "tokens", "device-hours", "money", loss, "tokens/s", "MFU", "goodput"},
                   .rows = {},
                   .note = {}};
  ReportTable equal{.title = "At equal cost, and at equal loss", .columns = {"run"}, .rows = {}, .note = {}};
  if (c.same_cost) {
    equal.columns.push_back(fmt::format("{} at {} {}", loss, cost(c.same_cost), unit));
    equal.columns.push_back("tokens by then");
    equal.columns.push_back(fmt::format("{} to a loss of {:.4f}", unit, *c.same_loss));
    equal.columns.push_back("over the cheapest");
    equal.note =
        "The cost is the largest that all runs reach, the loss the smallest that all runs reach; between two points of "
        "a run's curve a straight line is taken. A dash: the run's curve begins beyond it, or the cheapest cost "
        "nothing.";
  }
  std::optional<double> cheapest;
  for (const Comparison::Row& row : c.rows)
    if (row.cost_of_loss) cheapest = std::min(*row.cost_of_loss, cheapest.value_or(*row.cost_of_loss));
  for (size_t i = 0; i < reports.size(); ++i) {
    const Report& r = reports[i];
    const Comparison::Row& row = c.rows[i];
    runs.rows.push_back({row.name, r.history.state, counted(static_cast<double>(r.tokens), 9),
                         hours_text(r.device_hours), r.money ? money_text(r.money->amount, r.money->currency) : "-",
                         loss_text(c.validation ? r.valid_loss : r.train_loss), counted(r.tokens_per_s, 9),
                         r.mfu ? percent_text(*r.mfu) : "-", percent_text(r.goodput)});
    if (!c.same_cost) continue;
    equal.rows.push_back(
        {row.name, loss_text(row.loss_at_cost), row.tokens_at_cost ? counted(*row.tokens_at_cost, 9) : "-",
         cost(row.cost_of_loss),
         row.cost_of_loss && *cheapest > 0 ? fmt::format("{:.3f}x", *row.cost_of_loss / *cheapest) : "-"});
  }
  ReportTable settings{.title = "Settings that differ", .columns = {"key"}, .rows = {}, .note = {}, .words = true};
  for (const Comparison::Row& row : c.rows) settings.columns.push_back(row.name);
  for (const Comparison::Setting& s : c.settings) {
    std::vector<std::string> row = {s.key};
    row.insert(row.end(), s.values.begin(), s.values.end());
    std::ranges::replace(row, std::string("null"), std::string("none"));
    settings.rows.push_back(std::move(row));
  }
  std::vector<ReportTable> tables = {std::move(runs), std::move(equal), std::move(settings)};
  std::erase_if(tables, [](const ReportTable& t) { return t.rows.empty(); });
  return tables;
}

}  // namespace tael
