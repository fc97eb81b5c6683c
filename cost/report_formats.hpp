// A report, and a comparison, in the three forms in which they leave the program.
#pragma once

#include <string>
#include <vector>

#include "cost/report.hpp"
#include "cost/report_comparison.hpp"

namespace tael {

// What stands at the beginning of every page, so that one can be told from other people's files.
inline constexpr std::string_view kReportMark = "<!DOCTYPE html><!-- made by tael report -->";

// One self-contained page: no scripts, nothing from elsewhere, under 1 MB for any length of run.
std::string report_page(const Report& report);
std::string comparison_page(const Comparison& comparison, const std::vector<Report>& reports);

std::string report_markdown(const Report& report);
std::string comparison_markdown(const Comparison& comparison, const std::vector<Report>& reports);

// Full precision; device-hours, seconds, bytes and nats under names that say so.
std::string report_json(const Report& report);
std::string comparison_json(const Comparison& comparison, const std::vector<Report>& reports);

// A figure of the page.
struct ReportChart {
  std::string title = {}, svg = {}, caption = {};
};
std::vector<ReportChart> report_charts(const Report& report);
std::vector<ReportChart> comparison_charts(const Comparison& comparison);

}  // namespace tael
