#include "cost/report.hpp"

#include <algorithm>
#include <cmath>
#include <map>

namespace tael {

namespace {

constexpr double kHour = 3600;

constexpr Definition kDefinitions[] = {
    {"device-hours",
     "Ranks times wall time, from the start of the job to its last line in the ledger, summed over all attempts. On "
     "the CPU a device is a rank."},
    {"where they went",
     "The ledger's kinds. Each rank charges every moment to one kind, so they add up to ranks times wall time; what "
     "does not is unaccounted."},
    {"compute", "Forward and backward passes."},
    {"exposed communication", "Waiting for bytes of other ranks that no work hides."},
    {"pipeline bubble", "Waiting for other stages of a pipeline."},
    {"imbalance", "Waiting for slower ranks before gradients are summed."},
    {"data wait", "Waiting for the next batch."},
    {"optimizer", "Norm of the gradient, AdamW, gate biases."},
    {"checkpoint", "What the steps wait for saves, and loading one. Writing goes on beside the steps."},
    {"evaluation", "Held-out loss."},
    {"start-up", "From the start of the job to the first step, and from the last step to the end."},
    {"lost",
     "Steps that a restart threw away, with all that belonged to them; the start-up of an attempt stays start-up."},
    {"idle", "Between two steps, while what is known of the one before is written down and the ranks agree to go on."},
    {"goodput",
     "The part of all device-hours in steps that stand: compute, exposed communication, pipeline bubble, imbalance, "
     "data wait and optimizer, without what was lost."},
    {"branch",
     "A run that began from a checkpoint of another one. Its steps and tokens count on from there; its device-hours, "
     "its money and whatever is per token are of what it trained itself."},
    {"money",
     "Device-hours of each attempt times the price of one that its configuration gave; where it gave none, or one in "
     "another currency, times the present one."},
    {"training loss", "Nats a token, of the main head, mean over the last fiftieth of the steps."},
    {"validation loss", "Nats a token of all held-out text, each token scored once; perplexity is its exponential."},
    {"bits per byte", "Nats of all held-out tokens / ln 2 / bytes of text that they stand for."},
    {"tokens/s", "Tokens of the steps that stand over the seconds that they took; saves and evaluations are not in."},
    {"MFU",
     "Model FLOPs (GEMMs and causal attention, three times the forward pass, nothing recomputed) over the seconds of "
     "the steps, as a part of the multiply-adds in float32 that the same ranks measured at start."},
    {"max violation",
     "(Largest number of tokens of an expert - mean) / mean, of one step's global batch; 0 is perfect balance."},
    {"forecast",
     "What is spent, and the tokens that are left at the pace of the last half of the steps, with their saves and "
     "evaluations, without restarts; the range is the pace of the cheapest and of the dearest tenth of them."},
    {"memory",
     "The largest resident size of any rank in the steps of the last attempt, beside what rank 0 planned before its "
     "first step."},
    {"prediction of a step",
     "In device-seconds, made before the first step: from its FLOPs and the measured peak or, where there is a budget, "
     "from trying a part of it."},
};

constexpr bool is_step_work(CostKind kind) {
  switch (kind) {
    case CostKind::compute:
    case CostKind::exposed_communication:
    case CostKind::pipeline_bubble:
    case CostKind::imbalance:
    case CostKind::data_wait:
    case CostKind::optimizer: return true;
    default: return false;
  }
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void add_hours(Report& r) {
  LedgerTotals totals;
  CostSeconds in_steps;  // but for one that is not done, or never was
  const int64_t last = r.history.steps.empty() ? 0 : r.history.steps.back().step;
  for (const BookedLine& booked : r.history.ledger) {
    const CostSeconds seconds = standing_seconds(booked);
    totals.device_seconds += seconds;
    totals.unaccounted_seconds += booked.line.unaccounted_seconds;
    if (booked.line.step <= last) in_steps += seconds;
  }
  for (size_t k = 0; k < kCostKinds; ++k) {
    r.by_kind.of[k] = totals.device_seconds.of[k] / kHour;
    if (is_step_work(static_cast<CostKind>(k))) r.productive += in_steps.of[k] / kHour;
  }
  r.unaccounted = totals.unaccounted_seconds / kHour;
  r.device_hours = totals.sum() / kHour;
  if (r.device_hours > 0) r.goodput = r.productive / r.device_hours;
}

// Each attempt's device-seconds at the price that it had.
void add_money(Report& r) {
  if (r.facts.budget_device_hours) r.budget_left = *r.facts.budget_device_hours - r.device_hours;
  const std::optional<Money>& now = r.facts.price_per_device_hour;
  if (!now) return;
  std::map<int64_t, double> prices;
  for (const AttemptCost& attempt : r.attempts) prices[attempt.start.number] = attempt.price;
  for (const BookedLine& booked : r.history.ledger) {
    const double price = prices.at(booked.line.attempt) / kHour;
    const CostSeconds seconds = standing_seconds(booked);
    for (size_t k = 0; k < kCostKinds; ++k) r.paid_by_kind.of[k] += seconds.of[k] * price;
    r.paid_unaccounted += booked.line.unaccounted_seconds * price;
  }
  r.money = Money{now->currency, r.paid_by_kind.sum() + r.paid_unaccounted};
  if (r.facts.budget_money) r.budget_left = r.facts.budget_money->amount - r.money->amount;
}

void add_attempts(Report& r) {
  std::map<int64_t, AttemptCost> by_number;
  const double price = r.facts.price_per_device_hour ? r.facts.price_per_device_hour->amount : 0;
  for (const ReportFacts::Attempt& start : r.facts.attempts)
    by_number.emplace(start.number, AttemptCost{.start = start, .price = price});
  std::map<int64_t, std::vector<int64_t>> done;  // steps of an attempt, as its ledger has them
  for (const BookedLine& booked : r.history.ledger) {
    AttemptCost& attempt =
        by_number.try_emplace(booked.line.attempt, AttemptCost{.start = {}, .price = price}).first->second;
    attempt.start.number = booked.line.attempt;
    attempt.start.ranks = booked.line.ranks;
    attempt.device_hours += booked.line.sum() / kHour;
    if (const std::optional<Money>& now = r.facts.price_per_device_hour; now && booked.line.conditions)
      attempt.price = booked.line.conditions->price_in(now->currency).value_or(attempt.price);
    if (booked.line.kind != "step") continue;
    if (attempt.first_step == 0) attempt.first_step = booked.line.step;
    attempt.last_step = booked.line.step;
    if (booked.lost) ++attempt.lost_steps;
  }
  for (auto& [number, attempt] : by_number) r.attempts.push_back(std::move(attempt));
}

void add_learning(Report& r) {
  const RunHistory& h = r.history;
  r.steps = h.begin_step;
  r.tokens = h.begin_tokens;
  if (!h.steps.empty()) {
    const StepPoint& last = h.steps.back();
    r.steps = last.step;
    r.tokens = last.tokens;
    r.train_loss = smoothed_losses(h).back();
    r.worst_violation = last.max_violation;
  }
  r.own_tokens = r.tokens - h.begin_tokens;
  for (const EvalPoint& eval : h.evals) {
    r.valid_loss = eval.loss;
    r.valid_ppl = eval.ppl;
    r.bits_per_byte = eval.bits_per_byte;
  }
  for (const EvalPoint& eval : comparable_evals(h))
    if (std::isfinite(eval.loss)) r.best_valid_loss = std::min(eval.loss, r.best_valid_loss.value_or(eval.loss));
}

void add_speed(Report& r) {
  const RunHistory& h = r.history;
  double seconds = 0, mfu_seconds = 0, used = 0, tokens = 0;
  for (const StepPoint& step : h.steps) {
    seconds += step.step_ms * 1e-3;
    tokens += step.tokens_per_s * step.step_ms * 1e-3;
    r.model_flops += step.model_flops;
    r.peak_gib = std::max(r.peak_gib, step.peak_gib);
    if (step.attempt == h.described_attempt) r.planned_peak_gib = std::max(r.planned_peak_gib, step.peak_gib);
    if (!step.mfu) continue;
    used += *step.mfu * step.step_ms * 1e-3;
    mfu_seconds += step.step_ms * 1e-3;
  }
  if (seconds > 0) r.tokens_per_s = tokens / seconds;
  if (mfu_seconds > 0) r.mfu = used / mfu_seconds;
  if (r.device_hours > 0) r.tokens_per_device_hour = static_cast<double>(r.own_tokens) / r.device_hours;
  if (r.own_tokens > 0) r.device_hours_per_trillion_tokens = r.device_hours / static_cast<double>(r.own_tokens) * 1e12;
  for (const SavePoint& save : h.saves) r.saves_stall_seconds += save.stall_ms * 1e-3;
  std::vector<double> measured;
  for (const BookedLine& booked : h.ledger) {
    if (booked.line.kind != "step") continue;
    if (!r.first_step_predicted) r.first_step_predicted = booked.line.predicted_seconds;
    double work = 0;
    for (size_t k = 0; k < kCostKinds; ++k)
      if (is_step_work(static_cast<CostKind>(k))) work += booked.line.device_seconds.of[k];
    measured.push_back(work);
  }
  if (!measured.empty()) r.median_step = median(std::move(measured));
}

// What is left at the pace of the last half of the steps, and at the pace of its cheapest and dearest tenth. The pace
// is of everything that steps bring with them: saves and evaluations too; not of what belongs to a restart, the load of
// its checkpoint and the last save of the attempt before.
void add_forecast(Report& r) {
  if (r.over() || r.history.steps.size() < 10 || r.facts.total_tokens <= r.tokens) return;
  struct Piece {
    double seconds = 0, tokens = 0;
  };
  std::vector<Piece> per_step;
  double carried = 0;
  int64_t tokens_before = r.history.begin_tokens;
  for (const BookedLine& booked : r.history.ledger) {
    const std::string& kind = booked.line.kind;
    if (booked.lost || (kind != "step" && kind != "evaluation" && kind != "checkpoint")) continue;
    const CostSeconds& s = booked.line.device_seconds;
    carried += s.sum() - s[CostKind::startup] - s[CostKind::lost];
    if (kind != "step") continue;
    per_step.push_back({carried, static_cast<double>(booked.line.tokens - tokens_before)});
    tokens_before = booked.line.tokens;
    carried = 0;
  }
  const size_t first = per_step.size() / 2, count = per_step.size() - first;
  if (count < 5) return;
  const size_t pieces = std::min<size_t>(10, count);
  const double left = static_cast<double>(r.facts.total_tokens - r.tokens);
  Piece all;
  double cheapest = 0, dearest = 0;
  for (size_t p = 0; p < pieces; ++p) {
    Piece piece;
    for (size_t i = first + count * p / pieces; i < first + count * (p + 1) / pieces; ++i) {
      piece.seconds += per_step[i].seconds;
      piece.tokens += per_step[i].tokens;
    }
    const double pace = piece.seconds / piece.tokens;
    cheapest = p == 0 ? pace : std::min(cheapest, pace);
    dearest = std::max(dearest, pace);
    all.seconds += piece.seconds;
    all.tokens += piece.tokens;
  }
  const double pace = all.seconds / all.tokens;
  const double ranks = static_cast<double>(std::max<int64_t>(1, r.attempts.back().start.ranks));
  Forecast f{.device_hours = r.device_hours + left * pace / kHour,
             .low = r.device_hours + left * cheapest / kHour,
             .high = r.device_hours + left * dearest / kHour,
             .seconds = left * pace / ranks,
             .fits_budget = std::nullopt};
  if (r.facts.budget_device_hours) f.fits_budget = f.device_hours <= *r.facts.budget_device_hours;
  if (r.facts.budget_money && r.money) f.fits_budget = *r.paid_until(f.device_hours) <= r.facts.budget_money->amount;
  r.forecast = f;
}

}  // namespace

std::string Report::name() const {
  const size_t end = facts.directory.find_last_not_of('/');
  return end == std::string::npos ? facts.directory : facts.directory.substr(0, end + 1);
}

double Report::mean_price() const {
  return device_hours > 0 ? money->amount / device_hours : facts.price_per_device_hour->amount;
}

std::optional<double> Report::paid_until(double hours) const {
  if (!money) return std::nullopt;
  const double now = facts.price_per_device_hour->amount;
  double amount = 0, until = 0;
  for (const AttemptCost& attempt : attempts) {
    const double part = std::min(attempt.device_hours, hours - until);
    if (part <= 0) break;
    amount += part * attempt.price;
    until += part;
  }
  return amount + std::max(0.0, hours - until) * now;
}

std::vector<double> smoothed_losses(const RunHistory& history) {
  std::vector<double> losses;
  for (const StepPoint& step : history.steps) losses.push_back(step.loss);
  return smoothed(losses);
}

CostSeconds standing_seconds(const BookedLine& booked) {
  if (!booked.lost) return booked.line.device_seconds;
  CostSeconds s;
  s[CostKind::startup] = booked.line.device_seconds[CostKind::startup];
  s[CostKind::lost] = booked.line.device_seconds.sum() - s[CostKind::startup];
  return s;
}

Report make_report(RunHistory history, ReportFacts facts) {
  Report r;
  r.facts = std::move(facts);
  r.history = std::move(history);
  add_hours(r);
  add_attempts(r);
  add_money(r);
  add_learning(r);
  add_speed(r);
  add_forecast(r);
  return r;
}

std::span<const Definition> definitions() { return kDefinitions; }

}  // namespace tael
