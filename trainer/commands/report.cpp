#include "trainer/commands/report.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/file.hpp"
#include "base/iso_time.hpp"
#include "base/print.hpp"
#include "cost/flops.hpp"
#include "cost/report.hpp"
#include "cost/report_comparison.hpp"
#include "cost/report_formats.hpp"
#include "model/param_table.hpp"
#include "trainer/config_rules.hpp"
#include "trainer/run_lock.hpp"

namespace tael {

namespace {

void add_settings(const Config& config, const RunHistory& history, ReportFacts& facts) {
  facts.price_per_device_hour = config.cluster.price_per_device_hour;
  facts.budget_device_hours = config.budget.gpu_hours;
  facts.budget_money = config.budget.money;
  facts.total_tokens = history.steps.empty()
                           ? config.training.all_tokens(history.begin_step, history.begin_tokens)
                           : config.training.all_tokens(history.steps.back().step, history.steps.back().tokens);
  const ParamCounts counts = count_parameters(config.model.shape);
  facts.parameters = counts.total;
  facts.active_parameters = counts.active;
  facts.flops_per_token = training_flops_per_token(config.model.shape, config.training.seq_length);
  facts.changed = changes_from_defaults(config);
  std::erase_if(facts.changed, [](const FieldDifference& d) { return d.path == "run.dir"; });
  for (const WrittenField& field : write_fields(config))
    if (!field.section && field.path != "run.dir") facts.settings.emplace_back(field.path, to_flow(field.value));
}

Report report_of(const std::string& run, const ConfigSearch& search) {
  if (!is_directory(run)) fail(Exit::bad_config, "{}: is no run directory", run);
  RunHistory history = read_run_history(run);
  ReportFacts facts;
  facts.directory = run;
  facts.made_at = iso_time(std::chrono::system_clock::now());
  facts.branched_from = branch_origin(run);
  for (const AttemptRecord& a : read_attempts(run)) {
    facts.attempts.push_back({.number = a.attempt,
                              .host = a.owner.host,
                              .job = a.owner.job,
                              .ranks = a.ranks,
                              .began = a.began,
                              .ended = a.ended,
                              .exit_code = a.exit_code,
                              .reason = a.reason});
  }
  const std::string path = run + "/config.yaml";
  const LoadedConfig loaded = load_config(path, {}, search);
  check_config(loaded);  // a cut one may lack what the figures go by
  add_settings(loaded.config, history, facts);
  facts.config = read_file(path, uint64_t{16} << 20, Exit::bad_data);
  return make_report(std::move(history), std::move(facts));
}

// Whatever lies at the path of a page and is no page of ours stays there.
void require_ours(const std::string& path) {
  std::error_code ignored;
  const auto status = std::filesystem::symlink_status(path, ignored);
  if (!std::filesystem::exists(status)) return;
  if (std::filesystem::is_regular_file(status)) {
    const File file = File::open(path);
    std::string head(std::min<uint64_t>(file.size(), kReportMark.size()), '\0');
    file.read_at(0, head.data(), head.size());
    if (head == kReportMark) return;
  }
  fail(Exit::bad_config, "--out: {} is there and was not made by tael report; give another name", path);
}

}  // namespace

int run_report(const ReportOptions& options, std::FILE* out) {
  std::vector<Report> reports;
  std::vector<std::filesystem::path> seen;
  for (const std::string& run : options.runs) {
    reports.push_back(report_of(run, options.search));
    const std::filesystem::path canonical = std::filesystem::canonical(run);
    if (std::ranges::find(seen, canonical) != seen.end()) fail(Exit::bad_config, "{}: is given twice", run);
    seen.push_back(canonical);
  }
  std::optional<Comparison> comparison;
  if (reports.size() > 1) comparison = compare(reports);
  if (options.json) {
    print_to(out, "{}", comparison ? comparison_json(*comparison, reports) : report_json(reports[0]));
    return 0;
  }
  if (options.markdown) {
    print_to(out, "{}", comparison ? comparison_markdown(*comparison, reports) : report_markdown(reports[0]));
    return 0;
  }
  const std::string path = !options.out.empty() ? options.out
                           : comparison         ? std::string("comparison.html")
                                                : reports[0].name() + "/report.html";
  require_ours(path);
  const std::string page = comparison ? comparison_page(*comparison, reports) : report_page(reports[0]);
  if (!options.dry_run) replace_file(path, page, free_name_beside(path));  // several may do so at once
  print_to(out, "{}\n", path);
  return 0;
}

Verb report_verb() {
  const auto o = std::make_shared<ReportOptions>();
  const auto work = [o](const VerbContext& context) {
    o->search = context.search;
    return run_report(*o, stdout);
  };
  return {
      .name = "report",
      .does = "what a run cost, where it went and what it gave; several are compared",
      .options = {{"runs", &o->runs, "run directories", {.required = true}},
                  {"--json", &o->json, "print the numbers as one JSON object, write no page"},
                  {"--markdown", &o->markdown, "print the tables as Markdown, write no page", {.excludes = {"--json"}}},
                  {"--out",
                   &o->out,
                   "the page to write (default: RUN/report.html; for several runs comparison.html)",
                   {.excludes = {"--json", "--markdown"}}},
                  {"--dry-run", &o->dry_run, "read and check everything, write nothing"}},
      .work = work,
      .examples =
          "  tael report runs/first\n"
          "  tael report runs/first runs/second --out comparison.html"};
}

}  // namespace tael
