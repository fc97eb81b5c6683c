#include "cost/svg_chart.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace tael {

namespace {

// In the units of the view box; the page scales it.
constexpr double kWidth = 560, kHeight = 320, kLeft = 74, kRight = 24, kTop = 14, kBottom = 46, kLegend = 20;
constexpr double kCharacter = 7.6;  // width of one, in a label
constexpr size_t kMostPoints = 500, kMostOfAllLines = 8000;
// Cividis, which the colour-blind see as others do (Nunez, Anderton and Renslow 2018).
constexpr std::array<std::string_view, 9> kHeat = {"#00224e", "#123570", "#3b496c", "#575d6d", "#707173",
                                                   "#8a8678", "#a59c74", "#c3b369", "#fee838"};

// A number on an axis, with as many digits as its neighbours at a distance of `step` need.
std::string tick_text(double x, double step) {
  const double size = std::max(std::fabs(x), step);
  if (x == 0) return "0";
  constexpr struct {
    double size;
    const char* unit;
  } kUnits[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}};
  for (const auto& [unit_size, unit] : kUnits) {
    if (size < unit_size * (unit_size == 1e3 ? 10 : 1)) continue;
    const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step / unit_size) - 1e-9)), 0, 3);
    return fmt::format("{:.{}f}{}", x / unit_size, decimals, unit);
  }
  if (step < 1e-6) return fmt::format("{:.1e}", x);
  return fmt::format("{:.{}f}", x, std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 7));
}

struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<double> ticks;
  double step = 1;

  double part(double x) const {
    if (log) return (std::log(x) - std::log(low)) / (std::log(high) - std::log(low));
    return (x - low) / (high - low);
  }
  std::string text(double x) const { return tick_text(x, log ? x : step); }
};

constexpr double kSmallest = 1e-290;  // that an axis tells from zero: its powers of ten are normal numbers

// Steps of 1, 2 or 5 times a power of ten.
double nice_step(double span, int wanted) {
  const double raw = span / wanted, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0, 10.0})
    if (raw <= factor * power * (1 + 1e-9)) return factor * power;
  return 10 * power;
}

Axis linear_axis(double low, double high, int wanted, bool widen) {
  // What differs in the last digits of a double is equal; no two ticks could be told apart there.
  if (!(high - low > 1e-9 * std::max(std::fabs(low), std::fabs(high)) && high - low > kSmallest)) {
    const double around = low == 0 ? 1 : std::max(std::fabs(low) * 0.1, kSmallest);
    low -= around;
    high += around;
  }
  Axis axis;
  axis.step = nice_step(high - low, wanted);
  axis.low = widen ? std::floor(low / axis.step) * axis.step : low;
  axis.high = widen ? std::ceil(high / axis.step) * axis.step : high;
  for (double i = std::ceil(axis.low / axis.step - 1e-9); i * axis.step <= axis.high + axis.step * 1e-9; ++i)
    axis.ticks.push_back(i * axis.step);
  return axis;
}

Axis log_axis(double low, double high) {
  Axis axis;
  axis.log = true;
  axis.low = std::max(low / 1.1, kSmallest);
  axis.high = std::max(high * 1.1, 10 * kSmallest);
  const bool many = axis.high / axis.low > 100;
  for (double power = std::pow(10, std::floor(std::log10(axis.low))); power <= axis.high; power *= 10) {
    for (const double factor : {1.0, 2.0, 5.0})
      if ((factor == 1 || !many) && factor * power >= axis.low && factor * power <= axis.high)
        axis.ticks.push_back(factor * power);
  }
  return axis;
}

struct Extent {
  double low = INFINITY, high = -INFINITY;
  void add(double x) {
    if (!std::isfinite(x)) return;
    low = std::min(low, x);
    high = std::max(high, x);
  }
  bool any() const { return low <= high; }
};

// At most some `most` points: of each piece of the line its lowest and its highest, in their order.
std::vector<std::pair<double, double>> thinned(const ChartLine& line, size_t most) {
  std::vector<std::pair<double, double>> points;
  const size_t n = line.x.size();
  if (n <= most) {
    for (size_t i = 0; i < n; ++i) points.emplace_back(line.x[i], line.y[i]);
    return points;
  }
  const size_t pieces = most / 2;
  for (size_t p = 0; p < pieces; ++p) {
    const size_t from = n * p / pieces, to = n * (p + 1) / pieces;
    size_t low = from, high = from;
    for (size_t i = from; i < to; ++i) {
      if (!(line.y[i] >= line.y[low])) low = i;
      if (!(line.y[i] <= line.y[high])) high = i;
    }
    points.emplace_back(line.x[std::min(low, high)], line.y[std::min(low, high)]);
    if (low != high) points.emplace_back(line.x[std::max(low, high)], line.y[std::max(low, high)]);
  }
  return points;
}

class Drawing {
 public:
  // A long legend makes the picture higher, not the plot lower.
  Drawing(const std::string& title, double legend_height, double top_axis)
      : top_(kTop + legend_height + top_axis), height_(kHeight + std::max(0.0, legend_height - 2 * kLegend)) {
    out_ = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", kWidth, height_, escaped(title));
  }

  double x(const Axis& axis, double value) const { return kLeft + axis.part(value) * (kWidth - kLeft - kRight); }
  double y(const Axis& axis, double value) const { return bottom() - axis.part(value) * (bottom() - top_); }
  double top() const { return top_; }
  double bottom() const { return height_ - kBottom; }

  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
  }
  void text(double x, double y, std::string_view anchor, std::string_view words) {
    add("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>", x, y, anchor, escaped(words));
  }
  void x_axis(const Axis& axis, const std::string& label) {
    for (const double tick : axis.ticks) {
      add("<path class=\"grid\" d=\"M{0:.1f} {1:.1f}V{2:.1f}\"/>", x(axis, tick), top_, bottom());
      text(x(axis, tick), bottom() + 17, "middle", axis.text(tick));
    }
    text((kLeft + kWidth - kRight) / 2, height_ - 8, "middle", label);
  }
  void y_axis(const Axis& axis, const std::string& label) {
    for (const double tick : axis.ticks) {
      add("<path class=\"grid\" d=\"M{0:.1f} {1:.1f}H{2:.1f}\"/>", kLeft, y(axis, tick), kWidth - kRight);
      text(kLeft - 6, y(axis, tick) + 4.5, "end", axis.text(tick));
    }
    y_label(label);
  }
  void y_label(const std::string& label) {
    add("<text transform=\"translate(13 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>", (top_ + bottom()) / 2,
        escaped(label));
  }
  void top_axis(const Axis& below, const std::function<double(double)>& value, const std::string& label) {
    const Axis axis = linear_axis(value(below.low), value(below.high), 5, false);
    constexpr double kApart = 8;
    double end = 0;  // of the label before, which the next one does not run into
    for (const double tick : axis.ticks) {
      double low = below.low, high = below.high;
      for (int i = 0; i < 60; ++i) (value((low + high) / 2) < tick ? low : high) = (low + high) / 2;
      const double at = x(below, high);
      const double half = kCharacter / 2 * static_cast<double>(axis.text(tick).size());
      if (end > 0 && at - half < end + kApart) continue;
      end = at + half;
      add("<path class=\"grid\" d=\"M{0:.1f} {1:.1f}v-5\"/>", at, top_);
      text(at, top_ - 8, "middle", axis.text(tick));
    }
    text((kLeft + kWidth - kRight) / 2, top_ - 23, "middle", label);
  }
  // Names beside their colours, in one row above the plot.
  struct Name {
    std::string text;
    std::string_view color;
    bool dashed;
  };
  // Cut where a row has no room for it. Names are often paths, which differ at their end, or at their beginning.
  static Name name(std::string_view text, std::string_view color, bool dashed) {
    constexpr size_t kMost = static_cast<size_t>((kWidth - kLeft - 36) / kCharacter) - 1, kBeginning = kMost / 3;
    if (text.size() <= kMost) return {std::string(text), color, dashed};
    const auto inside = [&](size_t at) { return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80; };
    size_t begin = kBeginning, end = text.size() - (kMost - kBeginning);
    while (begin > 0 && inside(begin)) --begin;
    while (end < text.size() && inside(end)) ++end;
    return {std::string(text.substr(0, begin)) + "…" + std::string(text.substr(end)), color, dashed};
  }
  void legend(const std::vector<Name>& names) {
    double at = kLeft, line = 14;
    for (const Name& name : names) {
      const double width = 36 + kCharacter * static_cast<double>(name.text.size());
      if (at > kLeft && at + width > kWidth) {
        at = kLeft;
        line += kLegend;
      }
      add("<path d=\"M{0:.1f} {1:.1f}h18\" stroke=\"{2}\" stroke-width=\"4\"{3}/>", at, line - 4, name.color,
          name.dashed ? " stroke-dasharray=\"6 4\"" : "");
      text(at + 23, line, "start", name.text);
      at += width;
    }
  }
  static double legend_height(const std::vector<Name>& names) {
    double at = kLeft, height = names.empty() ? 0 : kLegend;
    for (const Name& name : names) {
      const double width = 36 + kCharacter * static_cast<double>(name.text.size());
      if (at > kLeft && at + width > kWidth) {
        at = kLeft;
        height += kLegend;
      }
      at += width;
    }
    return height;
  }
  void frame() { add("<path class=\"frame\" d=\"M{0} {1:.1f}V{2}H{3}\"/>", kLeft, top_, bottom(), kWidth - kRight); }
  std::string end() { return std::move(out_) + "</svg>"; }

 private:
  double top_, height_;
  std::string out_;
};

std::string nothing(const std::string& title) {
  Drawing d(title, 0, 0);
  d.text(kWidth / 2, kHeight / 2, "middle", "nothing was recorded");
  return d.end();
}

void draw(Drawing& d, const ChartLine& line, size_t most, const Axis& x, const Axis& y) {
  std::string path, points;
  size_t together = 0;  // points since the pen was put down
  // A point alone is a closed path of no length, which the round ends of the line make visible.
  const auto pen_up = [&] {
    if (std::exchange(together, 0) == 1) path += 'z';
  };
  for (const auto& [px, py] : thinned(line, most)) {
    if (!std::isfinite(px) || !std::isfinite(py) || (y.log && py <= 0)) {
      pen_up();
      continue;
    }
    const double at = std::clamp(py, y.low, y.high);
    path += fmt::format("{}{:.1f} {:.1f}", together++ > 0 ? "L" : "M", d.x(x, px), d.y(y, at));
    if (line.points) {
      points +=
          fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"><title>{}: {:.6g}</title></circle>",
                      d.x(x, px), d.y(y, at), line.color, escaped(line.name), py);
    }
  }
  if (path.empty()) return;
  pen_up();
  d.add("<path class=\"line{}\" d=\"{}\" stroke=\"{}\"{}/>{}", line.faint ? " faint" : "", path, line.color,
        line.dashed ? " stroke-dasharray=\"6 4\"" : "", points);
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string_view beginning_of(std::string_view text, size_t most_escaped) {
  const auto continues = [&](size_t at) {  // a character that begins before
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
  };
  size_t escaped_bytes = 0, begin = 0;
  while (begin < text.size()) {
    size_t end = begin + 1;
    while (continues(end)) ++end;
    escaped_bytes += escaped(text.substr(begin, end - begin)).size();
    if (escaped_bytes > most_escaped) break;
    begin = end;
  }
  return text.substr(0, begin);
}

std::string svg(const LineChart& chart) {
  Extent xs, ys;
  std::vector<Drawing::Name> names;
  for (const ChartLine& line : chart.lines) {
    for (size_t i = 0; i < line.x.size(); ++i) {
      if (!std::isfinite(line.y[i]) || (chart.y_log && line.y[i] <= 0)) continue;
      xs.add(line.x[i]);
      ys.add(line.y[i]);
    }
    if (!line.name.empty() && !line.x.empty()) names.push_back(Drawing::name(line.name, line.color, line.dashed));
  }
  for (const ChartArea& area : chart.areas) {
    for (const double x : area.x) xs.add(x);
    for (size_t i = 0; i < area.x.size(); ++i) {
      ys.add(area.low[i]);
      ys.add(area.high[i]);
    }
  }
  if (!xs.any()) return nothing(chart.title);
  if (chart.y_from_zero) ys.add(0);
  const Axis x = linear_axis(xs.low, xs.high, 6, false);
  const Axis y = chart.y_log ? log_axis(ys.low, ys.high) : linear_axis(ys.low, ys.high, 5, true);
  Drawing d(chart.title, Drawing::legend_height(names), chart.top_axis ? 36 : 0);
  for (const ChartBand& band : chart.bands) {
    const double from = std::clamp(band.from, x.low, x.high), to = std::clamp(band.to, x.low, x.high);
    if (to <= from) continue;
    d.add("<rect class=\"band\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>", d.x(x, from), d.top(),
          d.x(x, to) - d.x(x, from), d.bottom() - d.top());
  }
  d.x_axis(x, chart.x_label);
  d.y_axis(y, chart.y_label);
  if (chart.top_axis) d.top_axis(x, chart.top_axis, chart.top_axis_label);
  for (const ChartArea& area : chart.areas) {
    std::string path;
    for (size_t i = 0; i < area.x.size(); ++i)
      path += fmt::format("{}{:.1f} {:.1f}", i == 0 ? "M" : "L", d.x(x, area.x[i]), d.y(y, area.low[i]));
    for (size_t i = area.x.size(); i-- > 0;)
      path += fmt::format("L{:.1f} {:.1f}", d.x(x, area.x[i]), d.y(y, area.high[i]));
    d.add("<path d=\"{}Z\" fill=\"{}\" fill-opacity=\"0.25\"/>", path, area.color);
  }
  for (const bool faint : {true, false})
    for (const ChartLine& line : chart.lines)
      if (line.faint == faint)
        draw(d, line, std::clamp(kMostOfAllLines / chart.lines.size(), kMostPoints / 10, kMostPoints), x, y);
  for (const ChartMark& mark : chart.marks) {
    // What happened before the first point, or behind the last, is at the edge.
    d.add("<path class=\"mark\" d=\"M{0:.1f} {1:.1f}v9\"><title>{2}</title></path>",
          d.x(x, std::clamp(mark.x, x.low, x.high)), d.bottom() - 9, escaped(mark.text));
  }
  d.frame();
  d.legend(names);
  return d.end();
}

std::string svg(const ShareChart& chart) {
  const size_t bins = chart.edges.empty() ? 0 : chart.edges.size() - 1;
  if (bins == 0 || !(chart.edges.back() > chart.edges.front())) return nothing(chart.title);
  std::vector<Drawing::Name> names;
  for (const ShareChart::Layer& layer : chart.layers) names.push_back(Drawing::name(layer.name, layer.color, false));
  Drawing d(chart.title, Drawing::legend_height(names), 0);
  const Axis x = linear_axis(chart.edges.front(), chart.edges.back(), 6, false), y = linear_axis(0, 100, 5, true);
  d.x_axis(x, chart.x_label);
  d.y_axis(y, "% of the hours");
  std::vector<double> below(bins, 0), all(bins, 0);
  for (const ShareChart::Layer& layer : chart.layers)
    for (size_t b = 0; b < bins; ++b) all[b] += layer.values[b];
  for (const ShareChart::Layer& layer : chart.layers) {
    std::string path;
    for (size_t b = 0; b < bins; ++b) {
      if (layer.values[b] <= 0 || all[b] <= 0) continue;
      const double high = below[b] + layer.values[b] / all[b] * 100;
      const double left = d.x(x, chart.edges[b]), right = d.x(x, chart.edges[b + 1]);
      path += fmt::format("M{:.1f} {:.1f}H{:.1f}V{:.1f}H{:.1f}z", left, d.y(y, below[b]), right,
                          d.y(y, std::min(high, 100.0)), left);
      below[b] = high;
    }
    if (!path.empty())
      d.add("<path d=\"{}\" fill=\"{}\"><title>{}</title></path>", path, layer.color, escaped(layer.name));
  }
  d.frame();
  d.legend(names);
  return d.end();
}

std::string svg(const HeatMap& map) {
  if (map.rows.empty() || map.edges.size() < 2) return nothing(map.title);
  Drawing d(map.title, kLegend, 0);
  const Axis x = linear_axis(map.edges.front(), map.edges.back(), 6, false);
  const double height = (d.bottom() - d.top()) / static_cast<double>(map.rows.size());
  d.x_axis(x, map.x_label);
  d.y_label(map.y_label);
  std::array<std::string, kHeat.size()> cells;  // one path a colour
  const size_t every = (map.rows.size() + 11) / 12;
  for (size_t r = 0; r < map.rows.size(); ++r) {
    const double top = d.top() + height * static_cast<double>(r);
    if (r % every == 0) d.text(kLeft - 6, top + height / 2 + 4.5, "end", map.rows[r]);
    for (size_t c = 0; c < map.values[r].size(); ++c) {
      const double value = map.values[r][c];
      if (!std::isfinite(value)) continue;
      const double part = map.high > map.low ? (value - map.low) / (map.high - map.low) : 0;
      const size_t level = static_cast<size_t>(std::clamp(part * kHeat.size(), 0.0, kHeat.size() - 1.0));
      const double left = d.x(x, map.edges[c]);
      cells[level] += fmt::format("M{:.1f} {:.1f}h{:.1f}v{:.1f}h{:.1f}z", left, top, d.x(x, map.edges[c + 1]) - left,
                                  height, left - d.x(x, map.edges[c + 1]));
    }
  }
  for (size_t level = 0; level < cells.size(); ++level)
    if (!cells[level].empty()) d.add("<path d=\"{}\" fill=\"{}\"/>", cells[level], kHeat[level]);
  d.frame();
  // The scale of colours.
  const std::string low = fmt::format("{:.3g}", map.low), high = fmt::format("{:.3g}", map.high);
  d.text(kLeft + 7.4 * static_cast<double>(low.size()), 14, "end", low);
  const double scale = kLeft + 7.4 * static_cast<double>(low.size()) + 6;
  for (size_t level = 0; level < kHeat.size(); ++level)
    d.add("<rect x=\"{:.1f}\" y=\"4\" width=\"14\" height=\"11\" fill=\"{}\"/>",
          scale + 14 * static_cast<double>(level), kHeat[level]);
  d.text(scale + 14 * kHeat.size() + 6, 14, "start", high + "  " + map.unit);
  return d.end();
}

}  // namespace tael
