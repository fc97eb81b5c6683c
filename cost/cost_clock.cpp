#include "cost/cost_clock.hpp"

#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "cost/machine.hpp"

namespace tael {

namespace {

constexpr std::array<std::string_view, kCostKinds> kNames = {"compute",
                                                             "exposed_communication",
                                                             "pipeline_bubble",
                                                             "imbalance",
                                                             "data_wait",
                                                             "optimizer",
                                                             "checkpoint",
                                                             "evaluation",
                                                             "startup",
                                                             "lost",
                                                             "idle"};

double seconds_of(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

std::string_view name_of(CostKind kind) { return kNames[static_cast<size_t>(kind)]; }

bool cost_kind_from_name(std::string_view name, CostKind& kind) {
  for (size_t i = 0; i < kCostKinds; ++i) {
    if (kNames[i] != name) continue;
    kind = static_cast<CostKind>(i);
    return true;
  }
  return false;
}

double CostSeconds::sum() const {
  double sum = 0;
  for (const double x : of) sum += x;
  return sum;
}

CostSeconds& CostSeconds::operator+=(const CostSeconds& other) {
  for (size_t i = 0; i < kCostKinds; ++i) of[i] += other.of[i];
  return *this;
}

TimeSource monotonic_time() {
  return [] { return seconds_of(CLOCK_MONOTONIC); };
}

double process_start() {
  const double now = seconds_of(CLOCK_MONOTONIC);
  const double ticks = static_cast<double>(process_start_ticks(getpid()).value_or(0));
  const double age = seconds_of(CLOCK_BOOTTIME) - ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  return ticks > 0 && age > 0 ? now - age : now;
}

double job_start(const std::string& seconds_since_1970) {
  constexpr double kLongest = 86400;  // between the start of a job's script and the program's
  char* end = nullptr;
  const double started = std::strtod(seconds_since_1970.c_str(), &end), process = process_start();
  const double age = seconds_of(CLOCK_REALTIME) - started, at = seconds_of(CLOCK_MONOTONIC) - age;
  return *end == '\0' && age > 0 && at < process && process - at < kLongest ? at : process;
}

CostClock::CostClock(TimeSource now, double since, CostKind kind)
    : now_(std::move(now)), current_(kind), began_(since), since_(since) {}

CostKind CostClock::charge(CostKind kind) {
  const double t = now_();
  const CostKind before = current();
  done_[before] += t - since_;
  since_ = t;
  current_.store(kind, std::memory_order_relaxed);
  return before;
}

CostSeconds CostClock::seconds() const {
  CostSeconds all = done_;
  all[current()] += now_() - since_;
  return all;
}

}  // namespace tael
