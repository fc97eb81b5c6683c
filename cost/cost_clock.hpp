// Where a rank's time goes: a clock that charges every moment to exactly one kind, so that the kinds of all ranks add
// up to ranks x wall time by construction. Kinds are those of the contract's ledger.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tael {

enum class CostKind : uint8_t {
  compute,                // forward and backward
  exposed_communication,  // waiting for bytes that nothing hides
  pipeline_bubble,
  imbalance,   // waiting for slower ranks
  data_wait,   // waiting for the next batch
  optimizer,   // norm, AdamW, gate biases
  checkpoint,  // what the steps wait for a save, and loading
  evaluation,
  startup,  // from the start of the job to the first step, and the end after the last
  lost,     // work thrown away by a restart
  idle,     // between steps: their lines in the run's files, and what the ranks agree on
};
inline constexpr size_t kCostKinds = 11;
std::string_view name_of(CostKind kind);
bool cost_kind_from_name(std::string_view name, CostKind& kind);

// Seconds by kind.
struct CostSeconds {
  std::array<double, kCostKinds> of{};

  double& operator[](CostKind kind) { return of[static_cast<size_t>(kind)]; }
  double operator[](CostKind kind) const { return of[static_cast<size_t>(kind)]; }
  double sum() const;
  CostSeconds& operator+=(const CostSeconds& other);
  friend CostSeconds operator-(CostSeconds a, const CostSeconds& b) {
    for (size_t i = 0; i < kCostKinds; ++i) a.of[i] -= b.of[i];
    return a;
  }
};

// Seconds on a scale that never jumps. Tests bring their own.
using TimeSource = std::function<double()>;
TimeSource monotonic_time();
// When this process began, on that scale (to a hundredth of a second).
double process_start();
// When the job began that this process belongs to, from what its script wrote down: seconds since 1970. The process's
// start where that makes no sense (a clock that was set, another day).
double job_start(const std::string& seconds_since_1970);

// Of one rank. `current` may be asked by another thread; all else by the rank's own.
class CostClock {
 public:
  // Charges to `kind` from `since` on.
  CostClock(TimeSource now, double since, CostKind kind);

  double now() const { return now_(); }
  double began() const { return began_; }
  // The job began before this rank did: what lies between is start-up.
  void begin_earlier(double at) {
    done_[CostKind::startup] += began_ - at;
    began_ = at;
  }
  CostKind current() const { return current_.load(std::memory_order_relaxed); }
  // What passed goes to the kind before, what comes to `kind`. Returns the kind before.
  CostKind charge(CostKind kind);
  // All so far, the moment included.
  CostSeconds seconds() const;

 private:
  TimeSource now_;
  std::atomic<CostKind> current_;
  double began_, since_;
  CostSeconds done_;
};

// Charges to a kind while it lives.
class Charged {
 public:
  Charged(CostClock& clock, CostKind kind) : clock_(clock), before_(clock.charge(kind)) {}
  ~Charged() { clock_.charge(before_); }
  Charged(const Charged&) = delete;

 private:
  CostClock& clock_;
  CostKind before_;
};

}  // namespace tael
