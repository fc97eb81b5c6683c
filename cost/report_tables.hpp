// A report as tables of text: what the page and the Markdown show, worded once.
#pragma once

#include <string>
#include <vector>

#include "cost/report.hpp"
#include "cost/report_comparison.hpp"

namespace tael {

struct ReportTable {
  std::string title = {};
  std::vector<std::string> columns = {};  // the first is words, the others are numbers unless `words` says so
  std::vector<std::vector<std::string>> rows = {};
  std::string note = {};  // a sentence below
  bool words = false;     // every column is words
};

// The few numbers that stand on top: a name, a value, and what it is to be measured by.
struct ReportFigure {
  std::string name = {}, value = {}, note = {};
};
std::vector<ReportFigure> headline(const Report& report);
// One sentence: what the run is, and in which state.
std::string headline_sentence(const Report& report);

// All tables of a report in reading order; those that have nothing to say are left out.
std::vector<ReportTable> report_tables(const Report& report);
std::vector<ReportTable> comparison_tables(const Comparison& comparison, const std::vector<Report>& reports);

std::string hours_text(double hours);                // "1,842.6", "0.03530"
std::string hours_beside(double hours, double all);  // with the decimals of `all` and one more, for a column
std::string money_text(double amount, const std::string& currency);
std::string percent_text(double fraction);
std::string kind_text(CostKind kind);  // "exposed communication"

}  // namespace tael
