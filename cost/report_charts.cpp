#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/number_text.hpp"
#include "cost/report_formats.hpp"
#include "cost/report_tables.hpp"
#include "cost/svg_chart.hpp"

namespace tael {

namespace {

constexpr size_t kBins = 60;       // of shares over the run
constexpr size_t kColumns = 64;    // of experts on a heat map
constexpr size_t kMoments = 128;   // on a heat map over time
constexpr size_t kLayerRows = 64;  // on a heat map

constexpr std::string_view color_of(CostKind kind) {
  switch (kind) {
    case CostKind::compute: return kBlue;
    case CostKind::exposed_communication: return kOrange;
    case CostKind::pipeline_bubble: return kYellow;
    case CostKind::imbalance: return kPurple;
    case CostKind::data_wait: return kSky;
    case CostKind::optimizer: return kGreen;
    case CostKind::checkpoint: return kVermilion;
    case CostKind::evaluation: return kBlack;
    case CostKind::startup: return kGrey;
    case CostKind::lost: return "#882255";
    case CostKind::idle: return kLightGrey;
  }
  return kGrey;
}

// y by x of every step.
template <class X, class Y>
ChartLine line_of(const Report& r, std::string name, std::string_view color, const X& x, const Y& y) {
  ChartLine line{.name = std::move(name), .color = color, .x = {}, .y = {}};
  for (const StepPoint& step : r.history.steps) {
    line.x.push_back(x(step));
    line.y.push_back(y(step));
  }
  return line;
}

double tokens_of(const StepPoint& step) { return static_cast<double>(step.tokens); }

// Of the attempts that made the steps that stand every second one is shaded; none where there are so many that nobody
// could tell them apart.
std::vector<ChartBand> attempt_bands(const Report& r) {
  constexpr size_t kMost = 100;
  std::vector<ChartBand> bands;
  double before = 0;
  bool shaded = true;  // until the first attempt
  int64_t attempt = 0;
  for (const StepPoint& step : r.history.steps) {
    if (step.attempt != attempt) {
      attempt = step.attempt;
      shaded = !shaded;
      if (shaded) bands.push_back({before, 0});
    }
    if (shaded) bands.back().to = tokens_of(step);
    before = tokens_of(step);
  }
  if (bands.size() > kMost) bands.clear();
  return bands;
}

std::vector<ChartMark> event_marks(const Report& r) {
  constexpr size_t kMost = 200, kMostOfText = 150;
  std::vector<ChartMark> marks;
  for (const EventPoint& event : r.history.events) {
    if (marks.size() == kMost) break;
    // A mark names what happened, the table of events says it.
    const std::string text = fmt::format("step {}: {}", grouped(event.step), event.text);
    const std::string_view shown = beginning_of(text, kMostOfText);
    marks.push_back({static_cast<double>(event.tokens), std::string(shown) + (shown.size() < text.size() ? "…" : "")});
  }
  return marks;
}

// A line through every step, faint, and its smoothed course.
template <class X, class Y>
void add_course(LineChart& chart, const Report& r, const std::string& name, const X& x, const Y& y) {
  ChartLine course = line_of(r, name, kBlue, x, y);
  if (course.x.size() >= 100) {  // fewer are seen as they are
    ChartLine raw = course;
    raw.name.clear();
    raw.color = kSky;
    raw.faint = true;
    chart.lines.push_back(std::move(raw));
    course.y = smoothed(course.y);
  }
  chart.lines.push_back(std::move(course));
}

LineChart loss_lines(const Report& r, bool by_hours) {
  LineChart chart{.title = by_hours ? "Loss against device-hours" : "Loss against tokens",
                  .x_label = by_hours ? "device-hours" : "tokens",
                  .y_label = "nats a token"};
  const auto x = [&](const auto& point) { return by_hours ? point.device_hours : static_cast<double>(point.tokens); };
  add_course(chart, r, "training", x, [](const StepPoint& s) { return s.loss; });
  ChartLine valid{.name = "validation", .color = kVermilion, .x = {}, .y = {}, .dashed = true, .points = true};
  for (const EvalPoint& eval : r.history.evals) {
    valid.x.push_back(x(eval));
    valid.y.push_back(eval.loss);
  }
  if (!valid.x.empty()) chart.lines.push_back(std::move(valid));
  const std::vector<StepPoint>& steps = r.history.steps;
  if (by_hours && r.money && !steps.empty() &&
      *r.paid_until(steps.back().device_hours) > *r.paid_until(steps.front().device_hours)) {
    chart.top_axis = [&r](double hours) { return *r.paid_until(hours); };
    chart.top_axis_label = r.facts.price_per_device_hour->currency;
  }
  if (!by_hours) {
    chart.bands = attempt_bands(r);
    chart.marks = event_marks(r);
  }
  return chart;
}

ShareChart hours_shares(const Report& r) {
  ShareChart chart{.title = "Where the hours went, over the run", .x_label = "device-hours", .edges = {}, .layers = {}};
  for (size_t b = 0; b <= kBins; ++b)
    chart.edges.push_back(r.device_hours * static_cast<double>(b) / static_cast<double>(kBins));
  std::vector<std::vector<double>> values(kCostKinds, std::vector<double>(kBins, 0));
  double spent = 0;  // seconds
  const double bin = r.device_hours * 3600 / static_cast<double>(kBins);
  for (const BookedLine& booked : r.history.ledger) {
    const CostSeconds seconds = standing_seconds(booked);
    const double sum = booked.line.sum(), from = spent, to = spent + sum;
    spent = to;
    if (sum <= 0) continue;
    const size_t last = std::min(kBins - 1, static_cast<size_t>(std::max(0.0, to / bin)));
    for (size_t b = std::min(last, static_cast<size_t>(std::max(0.0, from / bin))); b <= last; ++b) {
      const double left = std::max(from, bin * static_cast<double>(b));
      const double right = b == last ? to : std::min(to, bin * static_cast<double>(b + 1));
      for (size_t k = 0; k < kCostKinds; ++k)
        values[k][b] += std::max(0.0, seconds.of[k]) * std::max(0.0, right - left) / sum;
    }
  }
  for (size_t k = 0; k < kCostKinds; ++k) {
    const CostKind kind = static_cast<CostKind>(k);
    if (r.by_kind.of[k] > 0) chart.layers.push_back({kind_text(kind), color_of(kind), values[k]});
  }
  return chart;
}

// What is left of the budget, in its own unit; without one the device-hours that were spent.
LineChart burn_down(const Report& r) {
  const std::optional<double>& budget = r.facts.budget_device_hours;
  const std::optional<Money>& money = r.facts.budget_money;
  const bool any = budget || (money && r.money);
  const auto shown = [&](double hours) {
    return budget ? *budget - hours : any ? money->amount - *r.paid_until(hours) : hours;
  };
  LineChart chart{.title = any ? "Budget left" : "Device-hours spent",
                  .x_label = "tokens",
                  .y_label = budget ? "device-hours left"
                             : any  ? money->currency + " left"
                                    : "device-hours"};
  chart.lines.push_back(
      line_of(r, any ? "left" : "spent", kBlue, tokens_of, [&](const StepPoint& s) { return shown(s.device_hours); }));
  chart.bands = attempt_bands(r);
  chart.y_from_zero = true;
  if (r.forecast) {
    const double now = static_cast<double>(r.tokens), end = static_cast<double>(r.facts.total_tokens);
    chart.lines.push_back({.name = "forecast",
                           .color = kVermilion,
                           .x = {now, end},
                           .y = {shown(r.device_hours), shown(r.forecast->device_hours)},
                           .dashed = true});
    chart.areas.push_back({.x = {now, end},
                           .low = {shown(r.device_hours), shown(r.forecast->low)},
                           .high = {shown(r.device_hours), shown(r.forecast->high)},
                           .color = kVermilion});
  }
  return chart;
}

LineChart course(const Report& r, const char* title, const char* y_label, const char* name, auto&& value) {
  LineChart chart{.title = title, .x_label = "tokens", .y_label = y_label};
  add_course(chart, r, name, tokens_of, value);
  chart.bands = attempt_bands(r);
  return chart;
}

LineChart memory_chart(const Report& r) {
  LineChart chart{.title = "Memory of the largest rank", .x_label = "tokens", .y_label = "GiB", .y_from_zero = true};
  chart.lines.push_back(line_of(r, "measured peak", kBlue, tokens_of, [](const StepPoint& s) { return s.peak_gib; }));
  std::vector<StepPoint> steps;  // that the plan was for
  for (const StepPoint& step : r.history.steps)
    if (step.attempt == r.history.described_attempt) steps.push_back(step);
  if (steps.empty()) return chart;
  for (const auto& [kind, bytes] : r.history.memory) {
    if (kind != "expected" && kind != "at_most") continue;
    const double gib = static_cast<double>(bytes) / (1 << 30);
    chart.lines.push_back({.name = kind == "expected" ? "expected" : "at most",
                           .color = kind == "expected" ? kGreen : kVermilion,
                           .x = {tokens_of(steps.front()), tokens_of(steps.back())},
                           .y = {gib, gib},
                           .dashed = true});
  }
  return chart;
}

double violation(const std::vector<int64_t>& counts) {
  double sum = 0, largest = 0;
  for (const int64_t count : counts) {
    sum += static_cast<double>(count);
    largest = std::max(largest, static_cast<double>(count));
  }
  const double mean = sum / static_cast<double>(counts.size());
  return mean > 0 ? (largest - mean) / mean : 0;
}

HeatMap load_over_time(const Report& r) {
  HeatMap map{.title = "Expert load over layers and time",
              .x_label = "tokens",
              .y_label = "layer",
              .rows = {},
              .edges = {static_cast<double>(r.history.begin_tokens)},
              .values = {},
              .unit = "max violation"};
  if (r.history.expert_loads.empty()) return map;
  const ExpertLoad& last = r.history.expert_loads.back();
  const size_t layers = last.layers.size(), rows = std::min(layers, kLayerRows);
  std::vector<const ExpertLoad*> loads;
  int64_t tokens = r.history.begin_tokens;
  for (const ExpertLoad& load : r.history.expert_loads) {
    if (load.layers.size() != layers || load.tokens <= tokens) continue;
    tokens = load.tokens;
    loads.push_back(&load);
  }
  map.high = 0.1;
  map.values.resize(rows);
  const size_t columns = std::min(loads.size(), kMoments);
  for (size_t c = 0; c < columns; ++c) {
    const size_t begin = loads.size() * c / columns, end = loads.size() * (c + 1) / columns;
    map.edges.push_back(static_cast<double>(loads[end - 1]->tokens));
    for (size_t row = 0; row < rows; ++row) {  // of several layers and moments the worst
      double worst = 0;
      for (size_t i = begin; i < end; ++i)
        for (size_t l = layers * row / rows; l < layers * (row + 1) / rows; ++l)
          worst = std::max(worst, violation(loads[i]->counts[l]));
      map.values[row].push_back(worst);
      map.high = std::max(map.high, worst);
    }
  }
  for (size_t row = 0; row < rows; ++row) map.rows.push_back(std::to_string(last.layers[layers * row / rows]));
  return map;
}

HeatMap load_at_the_end(const Report& r) {
  HeatMap map{.title = "Load of every expert",
              .x_label = "expert",
              .y_label = "layer",
              .rows = {},
              .edges = {},
              .values = {},
              .unit = "tokens over the mean"};
  if (r.history.expert_loads.empty()) return map;
  const ExpertLoad& load = r.history.expert_loads.back();
  const size_t layers = load.layers.size(), rows = std::min(layers, kLayerRows);
  const size_t experts = load.counts[0].size(), columns = std::min(experts, kColumns);
  for (size_t c = 0; c <= columns; ++c) map.edges.push_back(static_cast<double>(experts * c / columns));
  map.high = 2;
  for (size_t row = 0; row < rows; ++row) {
    const size_t layer = layers * row / rows;
    const std::vector<int64_t>& counts = load.counts[layer];
    double sum = 0;
    for (const int64_t count : counts) sum += static_cast<double>(count);
    const double mean = sum > 0 ? sum / static_cast<double>(counts.size()) : 1;
    std::vector<double>& values = map.values.emplace_back();
    for (size_t c = 0; c < columns; ++c) {  // of several experts the fullest
      int64_t fullest = 0;
      for (size_t e = experts * c / columns; e < experts * (c + 1) / columns && e < counts.size(); ++e)
        fullest = std::max(fullest, counts[e]);
      values.push_back(static_cast<double>(fullest) / mean);
      map.high = std::max(map.high, values.back());
    }
    map.rows.push_back(std::to_string(load.layers[layer]));
  }
  return map;
}

}  // namespace

std::vector<ReportChart> report_charts(const Report& r) {
  std::vector<ReportChart> charts;
  const auto add = [&](const auto& chart, std::string caption) {
    charts.push_back({chart.title, svg(chart), std::move(caption)});
  };
  const bool smooth = r.history.steps.size() >= 100;
  const LineChart by_tokens = loss_lines(r, false), by_hours = loss_lines(r, true);
  const std::string shaded = by_tokens.bands.empty() ? "" : " Every second attempt that made steps is shaded.";
  add(by_tokens, (smooth ? "Faint: every step; bold: mean of a fiftieth of the steps. Ticks below are events."
                         : "Ticks below are events.") +
                     shaded);
  add(by_hours, by_hours.top_axis ? "The axis above is what was paid until then, each attempt at its price."
                : r.money         ? "Nothing was paid between its first step and its last."
                                  : "The last start has no price of a device-hour.");
  add(hours_shares(r), "From the ledger; what a restart threw away is lost.");
  add(burn_down(r),
      r.forecast
          ? "Dashed: at the pace of the last half of the steps; the band is its cheapest and its dearest tenth." +
                shaded
          : "After each step, by all attempts together." + shaded);
  add(course(r, "Throughput", "tokens/s", "tokens/s", [](const StepPoint& s) { return s.tokens_per_s; }),
      "Of the steps alone, all ranks together." + shaded);
  add(course(r, "Model FLOPs utilisation", "% of the measured peak", "MFU",
             [](const StepPoint& s) { return s.mfu ? *s.mfu * 100 : NAN; }),
      "Against multiply-adds in float32, as measured at the start of each attempt." + shaded);
  if (!r.history.expert_loads.empty()) {
    add(load_over_time(r),
        "Each cell: (fullest expert - mean) / mean in one step of a layer; MTP modules below the last layer.");
    add(load_at_the_end(r), fmt::format("Tokens of each expert in step {}, over the mean of its layer.",
                                        grouped(r.history.expert_loads.back().step)));
  }
  if (std::ranges::any_of(r.history.steps, [](const StepPoint& s) { return s.max_violation.has_value(); }))
    add(course(r, "Largest violation of balance", "max violation", "worst layer",
               [](const StepPoint& s) { return s.max_violation.value_or(NAN); }),
        "(Fullest expert - mean) / mean of the worst layer, every step." + shaded);
  LineChart norm = course(r, "Gradient norm", "norm before clipping", "gradient norm",
                          [](const StepPoint& s) { return s.grad_norm; });
  norm.y_log = true;
  add(norm, "Of the total loss, logarithmic." + shaded);
  add(course(r, "Learning rate", "rate", "learning rate", [](const StepPoint& s) { return s.lr; }),
      "Of every step." + shaded);
  add(memory_chart(r), "Dashed: what the plan of the last attempt said before its first step.");
  return charts;
}

std::vector<ReportChart> comparison_charts(const Comparison& c) {
  constexpr size_t kMostDots = 500;
  size_t dots = 0;
  for (const Comparison::Row& row : c.rows) dots += row.curve.cost.size();
  constexpr std::string_view kColors[] = {kBlue, kVermilion, kGreen, kPurple, kOrange, kSky, kBlack, kGrey};
  LineChart cost{.title = "Loss against cost",
                 .x_label = c.currency.empty() ? "device-hours" : c.currency,
                 .y_label = "nats a token"};
  LineChart tokens{.title = "Loss against tokens", .x_label = "tokens", .y_label = "nats a token"};
  for (size_t i = 0; i < c.rows.size(); ++i) {
    const LossCurve& curve = c.rows[i].curve;
    const ChartLine line{.name = c.rows[i].name,
                         .color = kColors[i % std::size(kColors)],
                         .x = curve.cost,
                         .y = curve.loss,
                         .dashed = (i + i / std::size(kColors)) % 2 == 1,
                         .points = c.validation && dots <= kMostDots};
    cost.lines.push_back(line);
    tokens.lines.push_back(line);
    tokens.lines.back().x = curve.tokens;
  }
  if (c.same_cost) cost.marks.push_back({*c.same_cost, "the cost that all runs reach"});
  const std::string what = c.validation ? "Validation loss." : "Training loss, mean of a fiftieth of the steps.";
  return {{cost.title, svg(cost), what + " The tick below is the cost at which runs are compared."},
          {tokens.title, svg(tokens), what}};
}

}  // namespace tael
