// Charts hold what they were given: in bounds, escaped, of a bounded size, and they survive what is empty or not a
// number.
#include "cost/svg_chart.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

namespace tael {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// What stands between `before` and a quotation mark, at each place where `before` stands.
std::vector<std::string> quoted(const std::string& text, const std::string& before) {
  std::vector<std::string> found;
  for (size_t at = text.find(before); at != std::string::npos; at = text.find(before, at + 1)) {
    const size_t from = at + before.size();
    found.push_back(text.substr(from, text.find('"', from) - from));
  }
  return found;
}

std::vector<double> numbers(const std::string& text) {
  std::vector<double> all;
  for (const char* at = text.c_str(); *at != '\0';) {
    char* end = nullptr;
    const double x = std::strtod(at, &end);
    if (end != at) all.push_back(x);
    at = end == at ? at + 1 : end;
  }
  return all;
}

// Coordinates of every point of lines that are not faint.
std::vector<std::pair<double, double>> points(const std::string& svg) {
  std::vector<std::pair<double, double>> all;
  for (const std::string& path : quoted(svg, "class=\"line\" d=\"")) {
    const std::vector<double> xy = numbers(path);
    for (size_t i = 0; i + 1 < xy.size(); i += 2) all.emplace_back(xy[i], xy[i + 1]);
  }
  return all;
}

LineChart chart_of(std::vector<double> x, std::vector<double> y) {
  LineChart chart{.title = "t", .x_label = "x", .y_label = "y"};
  chart.lines.push_back({.name = "line", .color = kBlue, .x = std::move(x), .y = std::move(y)});
  return chart;
}

TEST(LineChart, PutsPointsWhereTheyBelong) {
  const auto at = points(svg(chart_of({0, 1, 2}, {0, 10, 5})));
  ASSERT_EQ(at.size(), 3u);
  EXPECT_NEAR(at[1].first, (at[0].first + at[2].first) / 2, 0.11);  // one decimal each
  EXPECT_NEAR(at[2].second, (at[0].second + at[1].second) / 2, 0.11);
  EXPECT_LT(at[1].second, at[0].second);  // up is less
}

// A line for each of many runs with long names: the picture grows, the plot keeps its height, and all names are in it.
TEST(LineChart, ManyNamesTakeNoRoomFromThePlot) {
  for (const size_t lines : {1, 2, 13, 120}) {
    LineChart chart = chart_of({0, 1}, {0, 1});
    chart.lines[0].name = "/a-seed" + std::string(100, 'x') + "/ü" + std::string(40, 'y') + "/lr-0.001";
    while (chart.lines.size() < lines) {
      chart.lines.push_back(chart.lines[0]);
      chart.lines.back().name = "a run with a name of some thirty letters " + std::to_string(chart.lines.size());
    }
    const std::string text = svg(chart);
    const double height = numbers(quoted(text, "viewBox=\"")[0])[3];
    for (const std::string& y : quoted(text, " y=\"")) EXPECT_LT(std::stod(y), height) << lines;
    const std::vector<double> frame = numbers(quoted(text, "class=\"frame\" d=\"")[0]);  // left, top, bottom, right
    EXPECT_GT(frame[2] - frame[1], 200) << lines;
    EXPECT_EQ(count(text, "/lr-0.001</text>"), 1u);
    EXPECT_EQ(count(text, ">/a-seed"), 1u) << "what is cut is the middle";
    EXPECT_EQ(count(text, "…"), 1u);
  }
}

TEST(LineChart, KeepsTheExtremesOfLongData) {
  std::vector<double> x(100'000), y(x.size(), 1.0);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i);
  y[70'001] = 9;
  const std::string text = svg(chart_of(x, y));
  EXPECT_LT(text.size(), 20'000u);
  double highest = 1e9, lowest = 0;
  for (const auto& [px, py] : points(text)) {
    highest = std::min(highest, py);
    lowest = std::max(lowest, py);
  }
  EXPECT_GT(lowest - highest, 150);  // the peak is there
}

TEST(LineChart, BreaksAtWhatIsNoNumber) {
  const std::string text = svg(chart_of({0, 1, 2, 3, 4}, {1, 2, NAN, 3, INFINITY}));
  EXPECT_EQ(points(text).size(), 3u);
  EXPECT_EQ(count(text, "z\" stroke"), 1u);  // the one that stands alone is seen
  EXPECT_EQ(text.find("nan"), std::string::npos);
  EXPECT_EQ(text.find("inf"), std::string::npos);
}

// Learning rates at the top of a long cosine; and what no program writes.
TEST(LineChart, EndsWhereNumbersHardlyDiffer) {
  for (const double y : {1e-3, 3.0, 5e-324, 1e300}) {
    for (const bool log : {false, true}) {
      LineChart chart = chart_of({0, 1, 2}, {y, std::nextafter(y, 0), std::nextafter(y, 1e308)});
      chart.y_log = log;
      const std::string text = svg(chart);
      EXPECT_LT(text.size(), 20'000u) << y;
      EXPECT_EQ(text.find("nan"), std::string::npos) << y;
      EXPECT_EQ(text.find("inf"), std::string::npos) << y;
    }
  }
}

TEST(LineChart, SaysThatNothingIsThere) {
  for (const LineChart& empty : {chart_of({}, {}), chart_of({1}, {NAN})})
    EXPECT_NE(svg(empty).find("nothing was recorded"), std::string::npos);
  LineChart log = chart_of({0, 1}, {0, -1});
  log.y_log = true;
  EXPECT_NE(svg(log).find("nothing was recorded"), std::string::npos);
}

TEST(LineChart, OnePointAndFlatLinesHaveAnAxis) {
  for (const LineChart& flat : {chart_of({5}, {3}), chart_of({0, 1}, {0, 0}), chart_of({0, 1}, {-7, -7})}) {
    const std::string text = svg(flat);
    EXPECT_FALSE(points(text).empty());
    EXPECT_GE(count(text, "class=\"grid\""), 2u);
  }
}

// What was paid where the price changed: the ticks of the axis above lie at any distance, their labels do not meet.
TEST(LineChart, LabelsAboveDoNotRunIntoEachOther) {
  for (const double begin : {0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.99}) {
    LineChart chart = chart_of({0, 1}, {1, 2});
    chart.top_axis = [&](double x) { return 0.001 * std::max(0.0, (x - begin) / (1 - begin)); };
    chart.top_axis_label = "usd";
    const std::string text = svg(chart);
    double end = -1e9;
    const std::string tick = "v-5\"/><text x=\"";
    for (size_t at = text.find(tick); at != text.npos; at = text.find(tick, at + 1)) {
      const double middle = std::stod(text.substr(at + tick.size()));
      const size_t from = text.find("middle\">", at) + 8;
      const double half = 7.6 / 2 * static_cast<double>(text.find('<', from) - from);
      EXPECT_GT(middle - half, end) << "paid for from " << begin << " on";
      end = middle + half;
    }
    EXPECT_GT(end, 0) << "no label above";
  }
}

TEST(LineChart, EscapesWords) {
  LineChart chart = chart_of({0, 1}, {0, 1});
  chart.title = "<a & \"b\">";
  chart.lines[0].name = "x<y";
  const std::string text = svg(chart);
  EXPECT_NE(text.find("aria-label=\"&lt;a &amp; &quot;b&quot;&gt;\""), std::string::npos);
  EXPECT_NE(text.find("x&lt;y"), std::string::npos);
}

TEST(ShareChart, FillsEachBinToItsTop) {
  const ShareChart chart{
      .title = "t", .x_label = "x", .edges = {0, 1, 2}, .layers = {{"a", kBlue, {1, 0}}, {"b", kOrange, {3, 0}}}};
  const std::string text = svg(chart);
  std::vector<std::pair<double, double>> bins;  // lower and upper edge
  for (const std::string& path : quoted(text, "<path d=\"")) {
    if (path.find('z') == std::string::npos) continue;
    const std::vector<double> edge = numbers(path);  // M x y H x V y H x z
    bins.emplace_back(edge[1], edge[3]);
  }
  ASSERT_EQ(bins.size(), 2u);  // the empty bin draws nothing
  EXPECT_DOUBLE_EQ(bins[0].second, bins[1].first);
  EXPECT_NEAR((bins[0].first - bins[0].second) * 3, bins[1].first - bins[1].second, 0.4);
}

TEST(HeatMap, StaysSmallForManyCells) {
  HeatMap map{.title = "t", .x_label = "x", .y_label = "y"};
  for (int c = 0; c <= 64; ++c) map.edges.push_back(c);
  for (int r = 0; r < 64; ++r) {
    map.rows.push_back(std::to_string(r));
    map.values.emplace_back(64, r == 3 ? NAN : r / 64.0);
  }
  const std::string text = svg(map);
  EXPECT_LT(text.size(), 200'000u);
  EXPECT_EQ(count(text, "h-"), 63u * 64u);  // a closed box a cell, none for what is no number
}

TEST(SvgChart, ABeginningIsOfWholeCharactersAsTheyStandInThePage) {
  EXPECT_EQ(beginning_of("abc", 3), "abc");
  EXPECT_EQ(beginning_of("abc", 2), "ab");
  EXPECT_EQ(beginning_of("a<b", 4), "a");  // &lt; is four bytes
  EXPECT_EQ(beginning_of("a<b", 5), "a<");
  EXPECT_EQ(beginning_of("aé€", 2), "a");
  EXPECT_EQ(beginning_of("aé€", 5), "aé");
  EXPECT_EQ(beginning_of("aé€", 6), "aé€");
  EXPECT_EQ(beginning_of("\x80\x80", 1), "");
  EXPECT_EQ(beginning_of("", 0), "");
}

}  // namespace
}  // namespace tael
