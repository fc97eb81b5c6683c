#include "cost/ledger.hpp"

#include <chrono>
#include <map>
#include <utility>

#include "base/iso_time.hpp"
#include "base/json_lines.hpp"

namespace tael {

namespace {

// Steps, and what belongs to a step: thrown away with it.
constexpr bool goes_with_steps(CostKind kind) { return kind != CostKind::startup && kind != CostKind::lost; }

LedgerLine read_line(const Json& json) {
  LedgerLine line;
  line.time = json.at("t").as_string();
  line.attempt = json.at("attempt").as_int();
  line.step = json.at("step").as_int();
  line.tokens = json.at("tokens").as_int();
  line.kind = json.at("kind").as_string();
  line.ranks = json.at("ranks").as_int();
  line.wall_seconds = json.at("wall_s").as_double();
  for (const JsonMember& entry : json.at("device_s").members()) {
    CostKind kind{};
    if (!cost_kind_from_name(entry.key, kind)) entry.value.fail_here("{} is no kind of cost", entry.key);
    line.device_seconds[kind] = entry.value.as_double();
  }
  line.unaccounted_seconds = json.at("unaccounted_s").as_double();
  if (const Json* predicted = json.find("predicted_s")) line.predicted_seconds = predicted->as_double();
  if (const Json* save = json.find("save_s")) line.save_seconds = save->as_double();
  if (const Json* beginning = json.find("beginning_s")) line.beginning_seconds = beginning->as_double();
  if (const Json* weights = json.find("weights_s")) line.weights_seconds = weights->as_double();
  if (const Json* flops = json.find("flops_per_token")) {
    AttemptConditions& c = line.conditions.emplace();
    c.flops_per_token = flops->as_double();
    if (const Json* price = json.find("price_per_device_hour"))
      for (const JsonMember& entry : price->members())
        c.price_per_device_hour = Money{entry.key, entry.value.as_double()};
    const auto text = [&](const char* name, std::string& value) {
      if (const Json* found = json.find(name)) value = found->as_string();
    };
    text("device", c.device);
    if (const Json* length = json.find("seq_length")) c.seq_length = length->as_int();
    text("data", c.data);
    text("valid_data", c.valid_data);
    text("initial_weights", c.initial_weights);
  }
  return line;
}

// Puts beats together with what they were the beginning of.
class BeatsJoined {
 public:
  explicit BeatsJoined(std::vector<LedgerLine>& lines) : lines_(lines) {}

  void take(LedgerLine line) {
    if (begun_ && begun_->attempt != line.attempt) end();  // it was killed
    if (begun_ && line.kind != "restart") {                // which moves what was, and has no beginning
      line.device_seconds += begun_->device_seconds;
      line.unaccounted_seconds += begun_->unaccounted_seconds;
      if (!line.conditions) line.conditions = begun_->conditions;
      begun_.reset();
    }
    if (line.kind == "beat") {
      begun_ = std::move(line);
    } else {
      lines_.push_back(std::move(line));
    }
  }
  void end() {
    if (begun_) lines_.push_back(*std::exchange(begun_, std::nullopt));
  }

 private:
  std::vector<LedgerLine>& lines_;
  std::optional<LedgerLine> begun_;
};

}  // namespace

std::optional<double> AttemptConditions::price_in(const std::string& currency) const {
  if (!price_per_device_hour || price_per_device_hour->currency != currency) return std::nullopt;
  return price_per_device_hour->amount;
}

std::vector<LedgerLine> read_ledger(const std::string& path) {
  std::vector<LedgerLine> lines;
  constexpr uint64_t kBytes = 300;  // of the text of a line, or more
  if (path_exists(path)) lines.reserve(File::open(path, Exit::bad_data).size() / kBytes);  // grows once at most
  BeatsJoined joined(lines);
  read_json_lines(path, "unaccounted_s", [&](const Json& json) { joined.take(read_line(json)); });
  joined.end();
  return lines;
}

LedgerTotals totals_of(const std::vector<LedgerLine>& lines) {
  LedgerTotals totals;
  for (const LedgerLine& line : lines) {
    totals.device_seconds += line.device_seconds;
    totals.unaccounted_seconds += line.unaccounted_seconds;
  }
  return totals;
}

std::map<int64_t, AttemptConditions> conditions_of_attempts(const std::vector<LedgerLine>& lines) {
  std::map<int64_t, AttemptConditions> conditions;
  for (const LedgerLine& line : lines)
    if (line.conditions) conditions.insert_or_assign(line.attempt, *line.conditions);
  return conditions;
}

double paid(const std::vector<LedgerLine>& lines, const Money& now) {
  const std::map<int64_t, AttemptConditions> conditions = conditions_of_attempts(lines);
  double amount = 0;
  for (const LedgerLine& line : lines) {
    const auto found = conditions.find(line.attempt);
    const auto price = found == conditions.end() ? std::nullopt : found->second.price_in(now.currency);
    amount += line.sum() / 3600 * price.value_or(now.amount);
  }
  return amount;
}

CostSeconds lost_by_restart(const std::vector<LedgerLine>& lines, int64_t step) {
  std::vector<const LedgerLine*> standing;
  for (const LedgerLine& line : lines) {
    if (line.kind == "restart") {
      std::erase_if(standing, [&](const LedgerLine* earlier) { return earlier->step > line.step; });
    } else {
      standing.push_back(&line);
    }
  }
  CostSeconds move;
  for (const LedgerLine* line : standing) {
    if (line->step <= step) continue;
    for (size_t k = 0; k < kCostKinds; ++k) {
      if (!goes_with_steps(static_cast<CostKind>(k))) continue;
      move.of[k] -= line->device_seconds.of[k];
      move[CostKind::lost] += line->device_seconds.of[k];
    }
  }
  return move;
}

Ledger::Ledger(const std::string& path, const Attempt& attempt, const CostClock& clock)
    : attempt_(attempt), clock_(clock), earlier_(read_ledger(path)), before_(totals_of(earlier_)) {
  last_line_ = attempt.began;
  file_ = open_to_append(path, size_);
}

LedgerLine Ledger::line(const std::string& kind, int64_t step, double now) const {
  return {.time = iso_time(std::chrono::system_clock::now()),
          .attempt = attempt_.number,
          .step = step,
          .tokens = tokens_,
          .kind = kind,
          .ranks = attempt_.ranks,
          .wall_seconds = now - attempt_.began,
          .device_seconds = {},
          .unaccounted_seconds = 0,
          .predicted_seconds = std::nullopt,
          .save_seconds = std::nullopt,
          .beginning_seconds = std::nullopt,
          .weights_seconds = std::nullopt,
          .conditions = std::nullopt};
}

void Ledger::append(LedgerLine line) {
  if (first_) line.conditions = attempt_.conditions;
  JsonWriter json;
  json.begin_object().field("t", line.time).field("attempt", line.attempt).field("step", line.step);
  json.field("tokens", line.tokens).field("kind", line.kind).field("ranks", line.ranks);
  json.field("wall_s", line.wall_seconds).key("device_s").begin_object();
  for (size_t k = 0; k < kCostKinds; ++k)
    if (line.device_seconds.of[k] != 0) json.field(name_of(static_cast<CostKind>(k)), line.device_seconds.of[k]);
  json.end_object().field("unaccounted_s", line.unaccounted_seconds);
  if (line.predicted_seconds) json.field("predicted_s", *line.predicted_seconds);
  if (line.save_seconds) json.field("save_s", *line.save_seconds);
  if (line.beginning_seconds) json.field("beginning_s", *line.beginning_seconds);
  if (line.weights_seconds) json.field("weights_s", *line.weights_seconds);
  if (line.conditions) {
    if (const std::optional<Money>& price = line.conditions->price_per_device_hour)
      json.key("price_per_device_hour").begin_object().field(price->currency, price->amount).end_object();
    const AttemptConditions& c = *line.conditions;
    json.field("flops_per_token", c.flops_per_token).field("device", c.device).field("seq_length", c.seq_length);
    json.field("data", c.data);
    if (!c.valid_data.empty()) json.field("valid_data", c.valid_data);
    if (!c.initial_weights.empty()) json.field("initial_weights", c.initial_weights);
  }
  const std::string text = json.end_object().text() + "\n";
  file_.write_at(size_, text.data(), text.size());
  // Nothing of a line that could not be written is booked: the next one, written over it, has it all.
  size_ += text.size();
  first_ = false;
}

void Ledger::book(const std::string& kind, int64_t step, int64_t tokens, const CostSeconds& spent,
                  const LineNotes& notes) {
  const std::lock_guard lock(mutex_);
  const double now = notes.at.value_or(clock_.now());
  LedgerLine booked = line(kind, step, now);
  booked.tokens = tokens;
  const double unaccounted = attempt_.ranks * booked.wall_seconds - spent.sum();
  booked.device_seconds = spent - booked_;
  booked.unaccounted_seconds = unaccounted - unaccounted_;
  booked.predicted_seconds = notes.predicted;
  booked.save_seconds = notes.save;
  booked.beginning_seconds = notes.beginning;
  booked.weights_seconds = notes.weights;
  append(std::move(booked));
  booked_ = spent;
  unaccounted_ = unaccounted;
  last_line_ = now;
  step_ = step;
  tokens_ = tokens;
}

double Ledger::restart_at(int64_t step, int64_t tokens) {
  const std::lock_guard lock(mutex_);
  const CostSeconds move = lost_by_restart(std::exchange(earlier_, {}), step);
  if (move[CostKind::lost] <= 0) return 0;
  LedgerLine moved = line("restart", step, last_line_);
  moved.tokens = tokens;
  moved.device_seconds = move;
  append(std::move(moved));
  moved_ += move;
  return move[CostKind::lost];
}

void Ledger::beat(double seconds) {
  const std::lock_guard lock(mutex_);
  const double now = clock_.now();
  if (now - last_line_ < seconds) return;
  LedgerLine sign = line("beat", step_ + 1, now);  // the step that is worked on
  sign.device_seconds[clock_.current()] = attempt_.ranks * (now - last_line_);
  append(sign);
  booked_ += sign.device_seconds;
  last_line_ = now;
}

LedgerTotals Ledger::totals() const {
  const std::lock_guard lock(mutex_);
  LedgerTotals all = before_;
  all.device_seconds += booked_;
  all.device_seconds += moved_;
  all.unaccounted_seconds += unaccounted_;
  return all;
}

}  // namespace tael
