// Charts as SVG text that stands in an HTML page: lines over one axis, shares stacked to 100%, heat maps. Colours are
// told apart by the colour-blind as well, and lines also by their dashes. A chart is some tens of kilobytes at most,
// whatever the length of its data: lines keep the extremes of each of their pieces.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tael {

// Okabe and Ito's set (jfly.uni-koeln.de/color), and greys.
inline constexpr std::string_view kBlue = "#0072B2", kOrange = "#E69F00", kGreen = "#009E73", kVermilion = "#D55E00",
                                  kSky = "#56B4E9", kPurple = "#CC79A7", kYellow = "#F0E442", kBlack = "#222222",
                                  kGrey = "#999999", kLightGrey = "#D0D0D0";

std::string escaped(std::string_view text);  // for HTML and SVG, in text and in quoted attributes
// The longest beginning, of whole characters, that is at most so many bytes when escaped.
std::string_view beginning_of(std::string_view text, size_t most_escaped);

struct ChartLine {
  std::string name = {};  // in the legend; empty: not there
  std::string_view color = kBlue;
  std::vector<double> x = {}, y = {};  // x ascending; a point that is not finite breaks the line
  bool dashed = false;
  bool faint = false;   // stands behind the others
  bool points = false;  // marks every point
};
struct ChartBand {  // a part of the x axis, shaded
  double from = 0, to = 0;
};
struct ChartMark {  // something that happened
  double x = 0;
  std::string text = {};
};
struct ChartArea {  // between two curves
  std::vector<double> x = {}, low = {}, high = {};
  std::string_view color = kBlue;
};

struct LineChart {
  std::string title = {}, x_label = {}, y_label = {};
  std::vector<ChartLine> lines = {};
  std::vector<ChartBand> bands = {};
  std::vector<ChartMark> marks = {};
  std::vector<ChartArea> areas = {};
  bool y_from_zero = false;
  bool y_log = false;                           // values above zero are shown
  std::function<double(double)> top_axis = {};  // another axis above: what x is there, never falling; empty: none
  std::string top_axis_label = {};
};
std::string svg(const LineChart& chart);

// Shares of a whole along x: bins of any width, in each the layers' values, which the chart scales to 100%.
struct ShareChart {
  std::string title = {}, x_label = {};
  std::vector<double> edges = {};  // one more than bins
  struct Layer {
    std::string name;
    std::string_view color = kBlue;
    std::vector<double> values;  // one a bin, not below zero
  };
  std::vector<Layer> layers = {};  // the first is lowest
};
std::string svg(const ShareChart& chart);

// A grid of cells, dark to bright from `low` to `high`.
struct HeatMap {
  std::string title = {}, x_label = {}, y_label = {};
  std::vector<std::string> rows = {};            // names, the first on top
  std::vector<double> edges = {};                // of the columns, on the x axis
  std::vector<std::vector<double>> values = {};  // a row each
  double low = 0, high = 1;
  std::string unit = {};  // what the colours mean
};
std::string svg(const HeatMap& map);

}  // namespace tael
