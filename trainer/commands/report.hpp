// tael report RUN...: the cost of a run as one page (RUN/report.html), as JSON or as Markdown; several runs are
// compared at equal cost and at equal loss. Reads a run directory, also while the run goes on, and changes nothing in
// it but the page.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "trainer/config.hpp"
#include "trainer/verb.hpp"

namespace tael {

struct ReportOptions {
  std::vector<std::string> runs;
  bool json = false, markdown = false;  // print instead of writing a page; not both
  std::string out;                      // of the page; empty: RUN/report.html, of several runs comparison.html
  bool dry_run = false;
  ConfigSearch search;
};

// On `out` the path of the page, or what was asked for. Error(bad_config): no run, a run that is given twice, or a path
// that holds something which is no report; Error(bad_data) with file and line for a damaged run; Error(io).
int run_report(const ReportOptions& options, std::FILE* out);

Verb report_verb();

}  // namespace tael
