// Runs side by side: what loss each had reached when all had cost the same, and what each had cost when all had reached
// the same loss.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cost/report.hpp"

namespace tael {

// Loss over cost. Between two points it is a straight line; outside of them it is not known.
struct LossCurve {
  std::vector<double> cost = {}, tokens = {}, loss = {};  // cost ascending
  std::optional<double> loss_at(double cost) const;
  std::optional<double> tokens_at(double cost) const;
  std::optional<double> cost_of(double loss) const;  // where it is first reached
};

struct Comparison {
  struct Row {
    std::string name;
    LossCurve curve;
    double cost = 0;  // of the whole run
    std::optional<double> loss_at_cost, tokens_at_cost, cost_of_loss;
  };
  bool validation = true;                  // the curves are of validation loss; else of training loss, smoothed
  std::string currency = {};               // of all costs; empty: device-hours, as the runs have no price in common
  std::optional<double> same_cost = {};    // the largest that every curve reaches
  std::optional<double> same_loss = {};    // the smallest that every curve reaches
  std::vector<Row> rows = {};              // in the order of the runs
  std::vector<std::string> warnings = {};  // why losses or costs may not be comparable
  struct Setting {
    std::string key;
    std::vector<std::string> values;  // one a run
  };
  std::vector<Setting> settings = {};  // that are not the same in all runs
};
// REQUIRES: two or more reports.
Comparison compare(const std::vector<Report>& reports);

}  // namespace tael
