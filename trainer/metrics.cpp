#include "trainer/metrics.hpp"

#include <algorithm>
#include <cmath>

#include "base/json.hpp"

namespace tael {

// One object on its way to the file.
struct MetricsFile::Line {
  JsonWriter json;
  std::vector<std::string_view> nonfinite;

  Line(Clock::time_point time, int64_t attempt, int64_t step, int64_t tokens, std::string_view kind) {
    json.begin_object().field("t", iso_time(time)).field("attempt", attempt).field("step", step);
    json.field("tokens", tokens).field("kind", kind);
  }
  void number(std::string_view name, double value) {
    json.field(name, value);
    if (!std::isfinite(value)) nonfinite.push_back(name);
  }
  void number(std::string_view name, int64_t value) { json.field(name, value); }
};

MetricsFile::MetricsFile(const std::string& path, int64_t attempt) : attempt_(attempt) {
  file_ = open_to_append(path, size_);
}

void MetricsFile::append(Line& line) {
  if (!line.nonfinite.empty()) {
    line.json.key("nonfinite").begin_array();
    for (const std::string_view name : line.nonfinite) line.json.value(name);
    line.json.end_array();
  }
  line.json.end_object();
  const std::string text = line.json.text() + '\n';
  file_.write_at(size_, text.data(), text.size());
  size_ += text.size();
}

template <class Report>
void MetricsFile::write_report(const Report& report, std::string_view kind, Clock::time_point time) {
  Line line(time, attempt_, report.step, report.tokens, kind);
  report.visit([&](std::string_view name, auto value) { line.number(name, value); });
  append(line);
}

void MetricsFile::write(const StepReport& report, Clock::time_point time) { write_report(report, "step", time); }
void MetricsFile::write(const EvalReport& report, Clock::time_point time) { write_report(report, "eval", time); }
void MetricsFile::write(const CheckpointReport& report, Clock::time_point time) {
  write_report(report, "checkpoint", time);
}

void MetricsFile::write_event(int64_t step, int64_t tokens, std::string_view text, Clock::time_point time) {
  Line line(time, attempt_, step, tokens, "event");
  line.json.field("message", text);
  append(line);
}

EvaluationOfStep evaluation_of_step(const std::string& path, int64_t step) {
  EvaluationOfStep found;
  if (!path_exists(path)) return found;
  const std::string text = read_file_end(path, kSearchedBytes);
  std::string_view attempt_before;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    // Most lines need not be read.
    constexpr std::string_view kAttempt = R"("attempt":)";
    const size_t at = line.find(kAttempt);
    if (at == line.npos) continue;
    const std::string_view attempt = line.substr(at, line.find(',', at) - at);
    const bool begins = attempt != attempt_before;
    if (!begins && line.find(R"("eval")") == line.npos && line.find(kGivenUp) == line.npos) continue;
    try {
      const JsonDocument document = JsonDocument::parse(line, path);
      const Json& root = document.root();
      const std::string& kind = root.at("kind").as_string();
      const int64_t of = root.at("step").as_int();
      if (begins && (kind == "step" ? of - 1 : of) < step) found = {};
      if (of == step && kind == "eval") found.made = true;
      if (of == step && kind == "event" && root.at("message").as_string().find(kGivenUp) != std::string::npos)
        ++found.given_up;
      attempt_before = attempt;
    } catch (const Error&) {  // torn by a kill
    }
  }
  return found;
}

void MetricsFile::write_end(int64_t step, int64_t tokens, std::string_view state, Clock::time_point time) {
  Line line(time, attempt_, step, tokens, "end");
  line.json.field("state", state);
  append(line);
}

ExpertLoadFile::ExpertLoadFile(const std::string& path, int64_t attempt, std::vector<int64_t> layers)
    : attempt_(attempt), layers_(std::move(layers)) {
  file_ = open_to_append(path, size_);
}

void ExpertLoadFile::write(int64_t step, int64_t tokens, Mat<const int64_t> counts_LE, Clock::time_point time) {
  JsonWriter json;
  json.begin_object().field("t", iso_time(time)).field("attempt", attempt_).field("step", step);
  json.field("tokens", tokens).key("layers").begin_array();
  for (const int64_t layer : layers_) json.value(layer);
  json.end_array().key("counts").begin_array();
  for (int64_t l = 0; l < counts_LE.dim[0]; ++l) {
    json.begin_array();
    for (int64_t e = 0; e < counts_LE.dim[1]; ++e) json.value(counts_LE(l, e));
    json.end_array();
  }
  const std::string text = json.end_array().end_object().text() + '\n';
  file_.write_at(size_, text.data(), text.size());
  size_ += text.size();
}

}  // namespace tael
