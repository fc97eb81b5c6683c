#include "cost/run_history.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/file.hpp"
#include "base/json_lines.hpp"
#include "cost/run_status.hpp"

namespace tael {

namespace {

double number(const Json& json, const char* name) {
  const Json& value = json.at(name);
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.as_double();
}

double number_or(const Json& json, const char* name, double otherwise) {
  return json.find(name) != nullptr ? number(json, name) : otherwise;
}

std::optional<double> maybe(const Json& json, const char* name) {
  if (json.find(name) == nullptr) return std::nullopt;
  return number(json, name);
}

std::string text_or_empty(const Json& json, const char* name) {
  const Json* value = json.find(name);
  return value != nullptr ? value->as_string() : std::string();
}

std::vector<std::string> texts(const Json& json, const char* name) {
  std::vector<std::string> list;
  if (const Json* value = json.find(name))
    for (const Json& item : value->items()) list.push_back(item.as_string());
  return list;
}

template <class Point>
Point at_step(const Json& json) {
  Point point;
  point.step = json.at("step").as_int();
  point.tokens = json.at("tokens").as_int();
  point.attempt = json.at("attempt").as_int();
  return point;
}

template <class Point>
void drop_beyond(std::vector<Point>& points, int64_t step) {
  while (!points.empty() && points.back().step > step) points.pop_back();  // they ascend
}

// Lines in the order in which they were written; a line of a later attempt says where that one began.
class MetricsReader {
 public:
  explicit MetricsReader(RunHistory& history) : h_(history) {}

  void take(const Json& json) {
    const std::string& kind = json.at("kind").as_string();
    const int64_t step = json.at("step").as_int(), attempt = json.at("attempt").as_int();
    if (attempt > attempt_) {
      attempt_ = attempt;
      restart_after(kind == "step" ? step - 1 : step);
    }
    if (kind == "step") {
      restart_after(step - 1);  // the last line of a step counts
      h_.steps.push_back(read_step(json));
    } else if (kind == "eval") {
      drop_beyond(h_.evals, step - 1);
      EvalPoint point = at_step<EvalPoint>(json);
      point.loss = number(json, "valid/loss");
      point.ppl = number(json, "valid/ppl");
      point.bits_per_byte = maybe(json, "valid/bits_per_byte");
      if (!h_.steps.empty()) point.device_hours = h_.steps.back().device_hours;
      h_.evals.push_back(point);
    } else if (kind == "checkpoint") {
      SavePoint point = at_step<SavePoint>(json);
      point.bytes = json.at("checkpoint/bytes").as_int();
      point.stall_ms = number(json, "checkpoint/stall_ms");
      point.seconds = number(json, "checkpoint/seconds");
      h_.saves.push_back(point);
    } else if (kind == "event") {
      EventPoint point = at_step<EventPoint>(json);
      point.time = json.at("t").as_string();
      point.text = json.at("message").as_string();
      h_.events.push_back(point);
    }
  }

 private:
  void restart_after(int64_t step) {
    const size_t before = h_.steps.size();
    drop_beyond(h_.steps, step);
    h_.lost_steps += static_cast<int64_t>(before - h_.steps.size());
    drop_beyond(h_.evals, step);
  }

  static StepPoint read_step(const Json& json) {
    StepPoint point = at_step<StepPoint>(json);
    point.loss = number(json, "train/loss");
    point.grad_norm = number(json, "train/grad_norm");
    point.lr = number(json, "train/lr");
    point.tokens_per_s = number(json, "perf/tokens_per_s");
    point.step_ms = number(json, "perf/step_ms");
    point.peak_gib = number(json, "mem/peak_gib");
    point.mfu = maybe(json, "perf/mfu");
    point.max_violation = maybe(json, "moe/max_violation");
    point.device_hours = number_or(json, "cost/gpu_hours", 0);
    // As the step had them: another length of sequences has others.
    const double rank_tokens_per_s = number(json, "perf/tokens_per_s_per_gpu");
    if (rank_tokens_per_s > 0)
      point.model_flops =
          number(json, "perf/tflops_per_gpu") * 1e12 * (point.tokens_per_s / rank_tokens_per_s) * point.step_ms * 1e-3;
    return point;
  }

  RunHistory& h_;
  int64_t attempt_ = 0;
};

ExpertLoad read_load(const Json& json) {
  ExpertLoad load = at_step<ExpertLoad>(json);
  for (const Json& layer : json.at("layers").items()) load.layers.push_back(layer.as_int());
  for (const Json& row : json.at("counts").items()) {
    std::vector<int64_t>& counts = load.counts.emplace_back();
    for (const Json& count : row.items()) counts.push_back(count.as_int());
    if (counts.empty()) row.fail_here("a layer without experts");
  }
  if (load.counts.empty() || load.layers.size() != load.counts.size())
    json.fail_here("layers and counts are not of one length, or of none");
  return load;
}

// Whether the step was done by that attempt, and no later one did it again or began before it.
bool stands(const std::vector<StepPoint>& steps, int64_t step, int64_t attempt) {
  const auto found = std::ranges::lower_bound(steps, step, {}, &StepPoint::step);
  return found != steps.end() && found->step == step && found->attempt == attempt;
}

std::vector<BookedLine> mark_lost(std::vector<LedgerLine> lines) {
  std::vector<BookedLine> booked;
  int64_t begun_again = std::numeric_limits<int64_t>::max();  // the earliest step at which a later attempt began
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    if (line->kind == "restart") {
      begun_again = std::min(begun_again, line->step);
      // It may be the first line of its attempt.
      if (line->conditions && !booked.empty() && booked.back().line.attempt == line->attempt)
        booked.back().line.conditions = line->conditions;
    } else {
      const bool lost = line->step > begun_again;
      booked.push_back({std::move(*line), lost});
    }
  }
  std::ranges::reverse(booked);
  return booked;
}

void read_environment(const std::string& path, RunHistory& h) {
  if (!path_exists(path)) return;
  const auto document = JsonDocument::parse(read_file(path, uint64_t{64} << 20, Exit::bad_data), path);
  const Json& json = document.root();
  h.version = text_or_empty(json, "version");
  h.commit = text_or_empty(json, "commit");
  h.build_type = text_or_empty(json, "build_type");
  h.cpu = text_or_empty(json, "cpu");
  h.isa = text_or_empty(json, "cpu_isa");
  h.preset = text_or_empty(json, "preset");
  h.ranks = json.at("ranks").as_int();
  h.threads_per_rank = json.at("threads_per_rank").as_int();
  if (const Json* attempt = json.find("attempt")) h.described_attempt = attempt->as_int();
  if (const Json* tokenizer = json.find("tokenizer")) h.tokenizer = tokenizer->as_string();
  h.hosts = texts(json, "hosts");
  h.data = texts(json, "data");
  h.valid_data = texts(json, "valid_data");
  h.command = texts(json, "command");
  if (const Json* memory = json.find("memory"))
    for (const JsonMember& kind : memory->members()) h.memory.emplace_back(kind.key, kind.value.as_int());
  if (const Json* deviations = json.find("preset_deviations")) {
    for (const Json& d : deviations->items())
      h.preset_deviations.push_back({d.at("key").as_string(), d.at("preset").as_string(), d.at("run").as_string()});
  }
}

}  // namespace

std::vector<double> smoothed(const std::vector<double>& values) {
  const size_t window = std::max<size_t>(1, values.size() / 50);
  const auto value = [&](size_t i) { return std::isfinite(values[i]) ? values[i] : 0; };
  // In blocks of a window, of each value to the end of its block: a window is the end of one block and the beginning of
  // the next, so nothing is subtracted, and a value beyond all measure is forgotten once it is outside.
  std::vector<double> to_end(values.size()), means(values.size());
  for (size_t i = values.size(); i-- > 0;)
    to_end[i] = value(i) + (i + 1 < values.size() && (i + 1) % window != 0 ? to_end[i + 1] : 0);
  double from_begin = 0;
  size_t count = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    from_begin = (i % window == 0 ? 0 : from_begin) + value(i);
    if (std::isfinite(values[i])) ++count;
    double sum = from_begin;
    if (i >= window) {
      if (std::isfinite(values[i - window])) --count;
      if (const size_t first = i + 1 - window; first % window != 0) sum += to_end[first];
    }
    means[i] = count > 0 ? sum / static_cast<double>(count) : std::numeric_limits<double>::quiet_NaN();
  }
  return means;
}

AttemptConditions conditions_of(const RunHistory& history, int64_t attempt) {
  const auto found = history.conditions.find(attempt);
  return found == history.conditions.end() ? AttemptConditions{} : found->second;
}

std::vector<EvalPoint> comparable_evals(const RunHistory& history) {
  std::vector<EvalPoint> evals;
  if (history.evals.empty()) return evals;
  const AttemptConditions last = conditions_of(history, history.evals.back().attempt);
  std::ranges::copy_if(history.evals, std::back_inserter(evals), [&](const EvalPoint& eval) {
    const AttemptConditions then = conditions_of(history, eval.attempt);
    return then.valid_data.empty() || (then.valid_data == last.valid_data && then.seq_length == last.seq_length);
  });
  return evals;
}

RunHistory read_run_history(const std::string& run_directory) {
  const auto file = [&](const char* name) { return run_directory + "/" + name; };
  if (!path_exists(file("metrics.jsonl")) && !path_exists(file("ledger.jsonl")))
    fail(Exit::bad_config, "{}: is no run: neither metrics.jsonl nor ledger.jsonl is there", run_directory);
  RunHistory history;
  MetricsReader metrics(history);
  read_json_lines(file("metrics.jsonl"), {}, [&](const Json& json) { metrics.take(json); });
  read_json_lines(file("experts.jsonl"), {}, [&](const Json& json) {
    ExpertLoad load = read_load(json);
    if (stands(history.steps, load.step, load.attempt)) history.expert_loads.push_back(std::move(load));
  });
  std::vector<LedgerLine> lines = read_ledger(file("ledger.jsonl"));
  history.conditions = conditions_of_attempts(lines);
  history.ledger = mark_lost(std::move(lines));
  for (const BookedLine& booked : history.ledger) {
    if (booked.line.kind != "start") continue;
    history.begin_step = booked.line.step;
    history.begin_tokens = booked.line.tokens;
    break;
  }
  if (!history.steps.empty()) history.described_attempt = history.steps.back().attempt;
  read_environment(file("env.json"), history);
  if (const std::optional<RunStatus> status = read_status(file("status.json"))) {
    history.state = status->state;
    history.all_steps = status->steps;
  }
  return history;
}

}  // namespace tael
