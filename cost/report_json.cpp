#include "base/json.hpp"
#include "cost/report_formats.hpp"
#include "cost/report_tables.hpp"

namespace tael {

namespace {

void maybe(JsonWriter& json, std::string_view name, const std::optional<double>& x) {
  json.key(name);
  if (x)
    json.value(*x);
  else
    json.null();
}

void write_hours(JsonWriter& json, const Report& r) {
  json.key("device_hours").begin_object().field("total", r.device_hours).key("by_kind").begin_object();
  for (size_t k = 0; k < kCostKinds; ++k) json.field(name_of(static_cast<CostKind>(k)), r.by_kind.of[k]);
  json.end_object().field("unaccounted", r.unaccounted).field("productive", r.productive).field("goodput", r.goodput);
  json.end_object();
}

void write_attempts(JsonWriter& json, const Report& r) {
  json.key("attempts").begin_array();
  for (const AttemptCost& a : r.attempts) {
    json.begin_object().field("attempt", a.start.number).field("host", a.start.host).field("job", a.start.job);
    json.field("ranks", a.start.ranks).field("began", a.start.began).field("ended", a.start.ended);
    json.field("exit_code", static_cast<int64_t>(a.start.exit_code)).field("reason", a.start.reason);
    json.field("first_step", a.first_step).field("last_step", a.last_step).field("lost_steps", a.lost_steps);
    json.field("device_hours", a.device_hours);
    if (r.money) json.field("price_per_device_hour", a.price).field("money", a.device_hours * a.price);
    json.end_object();
  }
  json.end_array();
}

void write_settings(JsonWriter& json, const Report& r) {
  json.field("preset", r.history.preset).key("preset_deviations").begin_array();
  for (const RunHistory::Deviation& d : r.history.preset_deviations)
    json.begin_object().field("key", d.key).field("preset", d.preset).field("run", d.run).end_object();
  json.end_array().key("changed_settings").begin_array();
  for (const FieldDifference& d : r.facts.changed)
    json.begin_object().field("key", d.path).field("default", d.first).field("run", d.second).end_object();
  json.end_array();
}

void write(JsonWriter& json, const Report& r) {
  json.begin_object().field("run", r.name()).field("made_at", r.facts.made_at).field("state", r.history.state);
  json.field("steps", r.steps).field("all_steps", std::max(r.history.all_steps, r.steps));
  json.field("tokens", r.tokens).field("all_tokens", r.facts.total_tokens);
  json.field("own_tokens", r.own_tokens).key("branch");
  if (!r.facts.branched_from.empty()) {
    json.begin_object().field("from", r.facts.branched_from).field("step", r.history.begin_step);
    json.field("tokens", r.history.begin_tokens).end_object();
  } else {
    json.null();
  }
  json.field("device", "cpu").field("cpu", r.history.cpu).field("ranks", r.history.ranks);
  write_hours(json, r);
  json.key("money");
  if (r.money) {
    json.begin_object().field("currency", r.money->currency).field("amount", r.money->amount);
    json.field("per_device_hour", r.facts.price_per_device_hour->amount).key("by_kind").begin_object();
    for (size_t k = 0; k < kCostKinds; ++k)
      if (r.paid_by_kind.of[k] != 0) json.field(name_of(static_cast<CostKind>(k)), r.paid_by_kind.of[k]);
    json.end_object().field("unaccounted", r.paid_unaccounted).end_object();
  } else {
    json.null();
  }
  json.key("budget");
  if (r.budget_left) {
    json.begin_object();
    if (const std::optional<Money>& budget = r.facts.budget_money)
      json.field("currency", budget->currency).field("amount", budget->amount);
    else
      json.field("device_hours", *r.facts.budget_device_hours);
    json.field("left", *r.budget_left).end_object();
  } else {
    json.null();
  }
  json.key("forecast");
  if (r.forecast) {
    json.begin_object().field("device_hours", r.forecast->device_hours).field("low", r.forecast->low);
    json.field("high", r.forecast->high).field("seconds", r.forecast->seconds).key("fits_budget");
    if (r.forecast->fits_budget)
      json.value(*r.forecast->fits_budget);
    else
      json.null();
    json.end_object();
  } else {
    json.null();
  }
  maybe(json, "train_loss", r.train_loss);
  maybe(json, "valid_loss", r.valid_loss);
  maybe(json, "best_valid_loss", r.best_valid_loss);
  maybe(json, "valid_ppl", r.valid_ppl);
  maybe(json, "bits_per_byte", r.bits_per_byte);
  json.field("tokens_per_s", r.tokens_per_s).field("tokens_per_device_hour", r.tokens_per_device_hour);
  maybe(json, "device_hours_per_trillion_tokens", r.device_hours_per_trillion_tokens);
  maybe(json, "mfu", r.mfu);
  json.field("model_flops", r.model_flops).field("peak_gib", r.peak_gib);
  json.field("planned_peak_gib", r.planned_peak_gib);
  json.key("planned_bytes").begin_object();
  for (const auto& [kind, bytes] : r.history.memory) json.field(kind, bytes);
  json.end_object();
  maybe(json, "predicted_step_device_seconds", r.first_step_predicted);
  maybe(json, "median_step_device_seconds", r.median_step);
  json.field("checkpoints", static_cast<int64_t>(r.history.saves.size()));
  json.field("checkpoint_stall_seconds", r.saves_stall_seconds);
  maybe(json, "max_violation", r.worst_violation);
  json.field("lost_steps", r.history.lost_steps);
  write_attempts(json, r);
  json.key("evaluations").begin_array();
  for (const EvalPoint& e : r.history.evals) {
    json.begin_object().field("step", e.step).field("tokens", e.tokens).field("device_hours", e.device_hours);
    json.field("loss", e.loss).end_object();
  }
  json.end_array();
  write_settings(json, r);
  json.end_object();
}

}  // namespace

std::string report_json(const Report& report) {
  JsonWriter json(JsonWriter::Style::pretty);
  write(json, report);
  return json.text() + "\n";
}

std::string comparison_json(const Comparison& c, const std::vector<Report>& reports) {
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object().field("cost_unit", c.currency.empty() ? std::string("device_hours") : c.currency);
  json.field("loss", c.validation ? "validation" : "training");
  maybe(json, "same_cost", c.same_cost);
  maybe(json, "same_loss", c.same_loss);
  json.key("warnings").begin_array();
  for (const std::string& warning : c.warnings) json.value(warning);
  json.end_array().key("runs").begin_array();
  for (size_t i = 0; i < reports.size(); ++i) {
    const Comparison::Row& row = c.rows[i];
    json.begin_object().field("run", row.name).field("cost", row.cost);
    maybe(json, "loss_at_same_cost", row.loss_at_cost);
    maybe(json, "tokens_at_same_cost", row.tokens_at_cost);
    maybe(json, "cost_of_same_loss", row.cost_of_loss);
    write(json.key("report"), reports[i]);
    json.end_object();
  }
  json.end_array().key("different_settings").begin_array();
  for (const Comparison::Setting& s : c.settings) {
    json.begin_object().field("key", s.key).key("values").begin_array();
    for (const std::string& value : s.values) json.value(value);
    json.end_array().end_object();
  }
  json.end_array().end_object();
  return json.text() + "\n";
}

}  // namespace tael
