#include "cost/run_status.hpp"

#include "base/file.hpp"
#include "base/iso_time.hpp"
#include "base/json.hpp"

namespace tael {

void write_status(const std::string& path, const RunStatus& status, std::chrono::system_clock::time_point time) {
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object().field("t", iso_time(time)).field("state", status.state).field("step", status.step);
  json.field("steps", status.steps).field("tokens", status.tokens).field("device_hours", status.device_hours);
  json.key("eta");
  if (status.eta_s)
    json.value(*status.eta_s);
  else
    json.null();
  json.end_object();
  replace_file(path, json.text() + '\n');
}

std::optional<RunStatus> read_status(const std::string& path) {
  if (!path_exists(path)) return std::nullopt;
  const auto document = JsonDocument::parse(read_file(path, 1 << 20, Exit::bad_data), path);
  const Json& json = document.root();
  const Json& eta = json.at("eta");
  return RunStatus{.state = json.at("state").as_string(),
                   .step = json.at("step").as_int(),
                   .steps = json.at("steps").as_int(),
                   .tokens = json.at("tokens").as_int(),
                   .device_hours = json.at("device_hours").as_double(),
                   .eta_s = eta.is_null() ? std::nullopt : std::optional(eta.as_double())};
}

}  // namespace tael
