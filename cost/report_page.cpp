#include <fmt/core.h>

#include <algorithm>

#include "cost/report_formats.hpp"
#include "cost/report_tables.hpp"
#include "cost/svg_chart.hpp"

namespace tael {

namespace {

constexpr std::string_view kStyle = R"(
:root{--ink:#1b1f24;--soft:#57606a;--line:#d8dee4;--back:#fff;--card:#f6f8fa}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:20px 16px 60px;font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:var(--ink);background:var(--back)}
h1{font-size:24px;margin:0;overflow-wrap:anywhere}h2{font-size:18px;margin:34px 0 10px}
p{margin:6px 0}.soft,figcaption,.note{color:var(--soft);font-size:13px}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:10px;margin:18px 0}
.figure{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:10px 12px}
.figure b{display:block;font-size:20px;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,370px),1fr));gap:18px}
figure{margin:0;border:1px solid var(--line);border-radius:6px;padding:10px 12px;min-width:0}
figure h3{font-size:15px;margin:0 0 4px}
svg{display:block;width:100%;height:auto;font-size:14px;fill:var(--ink)}
svg .grid{stroke:#e3e7eb;fill:none}svg .frame{stroke:#57606a;fill:none}
svg .line{fill:none;stroke-width:2;stroke-linecap:round}svg .line[stroke-dasharray]{stroke-linecap:butt}svg .faint{stroke-width:1;opacity:.55}svg .band{fill:#eef1f4}svg .mark{stroke:#222;stroke-width:2;fill:none}
.table{overflow-x:auto}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:4px 14px 4px 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
.numbers th:not(:first-child),.numbers td:not(:first-child){text-align:right;padding:4px 0 4px 22px}
.words td{overflow-wrap:anywhere;min-width:70px}
dl{display:grid;grid-template-columns:minmax(110px,190px) 1fr;gap:4px 16px;font-size:14px}dt{font-weight:600}dd{margin:0}
details{margin:14px 0}summary{cursor:pointer;font-weight:600}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:10px;overflow-x:auto;font-size:12.5px}
.warning{border-left:4px solid #D55E00;padding:4px 10px;background:#fff5ee}
@media print{body{max-width:none;padding:0;font-size:11px}h2{margin-top:16px}.charts{grid-template-columns:1fr 1fr;gap:8px}figure,.figure,tr{break-inside:avoid}h2,h3{break-after:avoid}.figure b{font-size:15px}details>pre{display:none}.table{overflow:visible}}
)";

std::string beginning(const std::string& title) {
  return fmt::format(
      "{}\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>{}</title><style>{}</style></head><body>\n",
      kReportMark, escaped(title), kStyle);
}

// The page stays below 1 MB whatever a configuration lists and events say: cells are cut, and the configuration has
// what they and the charts leave.
constexpr size_t kMostOfACell = 500, kMostOfThePage = 950'000;

// Escaped, and cut where it would be longer than `most`. `whole` says where all of it is.
std::string shortened(std::string_view text, size_t most, std::string_view whole) {
  std::string_view shown = beginning_of(text, most);
  std::string html = escaped(shown);
  while (html.size() > most) {
    shown = beginning_of(shown, shown.size() * most / html.size());
    html = escaped(shown);
  }
  const size_t left = text.size() - shown.size();
  return html + (left > 0 ? fmt::format("… ({} more bytes: {})", left, whole) : "");
}

std::string cells(const std::vector<std::string>& texts, std::string_view tag) {
  std::string row = "<tr>";
  for (const std::string& text : texts)
    row += fmt::format("<{0}>{1}</{0}>", tag, shortened(text, kMostOfACell, "tael report --json"));
  return row + "</tr>\n";
}

std::string table(const ReportTable& t) {
  std::string html = fmt::format("<h2>{}</h2><div class=\"table\"><table class=\"{}\"><thead>{}</thead><tbody>\n",
                                 escaped(t.title), t.words ? "words" : "numbers", cells(t.columns, "th"));
  for (const std::vector<std::string>& row : t.rows) html += cells(row, "td");
  html += "</tbody></table></div>\n";
  if (!t.note.empty()) html += fmt::format("<p class=\"note\">{}</p>\n", escaped(t.note));
  return html;
}

std::string charts(const std::vector<ReportChart>& list) {
  std::string html = "<div class=\"charts\">\n";
  for (const ReportChart& chart : list) {
    html += fmt::format("<figure><h3>{}</h3>{}<figcaption>{}</figcaption></figure>\n", escaped(chart.title), chart.svg,
                        escaped(chart.caption));
  }
  return html + "</div>\n";
}

std::string figures(const std::vector<ReportFigure>& list) {
  std::string html = "<div class=\"figures\">\n";
  for (const ReportFigure& figure : list) {
    html += fmt::format(
        "<div class=\"figure\"><span class=\"soft\">{}</span><b>{}</b><span class=\"soft\">{}</span></div>\n",
        escaped(figure.name), escaped(figure.value), escaped(figure.note));
  }
  return html + "</div>\n";
}

std::string definition_list() {
  std::string html = "<h2>What the numbers mean</h2><dl>\n";
  for (const Definition& d : definitions())
    html += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escaped(d.name), escaped(d.text));
  return html + "</dl>\n";
}

}  // namespace

std::string report_page(const Report& r) {
  const std::string name = r.name();
  std::string html = beginning("tael report: " + name);
  html += fmt::format("<h1>{}</h1>\n<p class=\"soft\">{}. Made {} from the run's ledger.jsonl and metrics.jsonl.</p>\n",
                      escaped(name), escaped(headline_sentence(r)), escaped(r.facts.made_at));
  html += figures(headline(r));
  html += charts(report_charts(r));
  for (const ReportTable& t : report_tables(r)) html += table(t);
  const std::string end = definition_list() + "</body></html>\n";
  const size_t used = html.size() + end.size();
  html +=
      fmt::format("<details><summary>The configuration, resolved</summary><pre>{}</pre></details>\n",
                  shortened(r.facts.config, kMostOfThePage - std::min(kMostOfThePage, used), "config.yaml of the run"));
  return html + end;
}

std::string comparison_page(const Comparison& c, const std::vector<Report>& reports) {
  std::string html = beginning("tael report: runs compared");
  html += fmt::format("<h1>{} runs compared</h1>\n<p class=\"soft\">Made {} from their ledgers and metrics.</p>\n",
                      reports.size(), escaped(reports.front().facts.made_at));
  for (const std::string& warning : c.warnings) html += fmt::format("<p class=\"warning\">{}</p>\n", escaped(warning));
  html += charts(comparison_charts(c));
  for (const ReportTable& t : comparison_tables(c, reports)) html += table(t);
  return html + definition_list() + "</body></html>\n";
}

}  // namespace tael
