#include <fmt/core.h>

#include "cost/report_formats.hpp"
#include "cost/report_tables.hpp"

namespace tael {

namespace {

std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|' || c == '<' || c == '`') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string row(const std::vector<std::string>& texts) {
  std::string line = "|";
  for (const std::string& text : texts) line += fmt::format(" {} |", cell(text));
  return line + "\n";
}

std::string table(const ReportTable& t) {
  std::string text = fmt::format("\n## {}\n\n{}", t.title, row(t.columns));
  text += "|";
  for (size_t i = 0; i < t.columns.size(); ++i) text += t.words || i == 0 ? "---|" : "---:|";
  text += "\n";
  for (const std::vector<std::string>& r : t.rows) text += row(r);
  if (!t.note.empty()) text += "\n" + t.note + "\n";
  return text;
}

std::string definition_list() {
  std::string text = "\n## What the numbers mean\n\n";
  for (const Definition& d : definitions()) text += fmt::format("- **{}**: {}\n", d.name, d.text);
  return text;
}

}  // namespace

std::string report_markdown(const Report& r) {
  std::string text = fmt::format("# {}\n\n{}. Made {}.\n\n| | | |\n|---|---:|---|\n", cell(r.name()),
                                 headline_sentence(r), r.facts.made_at);
  for (const ReportFigure& f : headline(r)) text += row({f.name, f.value, f.note});
  for (const ReportTable& t : report_tables(r)) text += table(t);
  return text + definition_list();
}

std::string comparison_markdown(const Comparison& c, const std::vector<Report>& reports) {
  std::string text = fmt::format("# {} runs compared\n", reports.size());
  for (const std::string& warning : c.warnings) text += fmt::format("\n> {}\n", warning);
  for (const ReportTable& t : comparison_tables(c, reports)) text += table(t);
  return text;
}

}  // namespace tael
