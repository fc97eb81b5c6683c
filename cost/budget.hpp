// How much a run may still spend, and whether the next thing fits. Device-seconds, over all attempts of the run.
//
// The rule: nothing is begun that could not be ended, and saved, inside the budget. A thing usually costs what the
// median of the last twenty cost, or the last one, and at most what the dearest of them cost and up to a quarter more,
// by how far they lay apart; both more by a quarter while one is known, an eighth with two, an eightieth with twenty.
// Of things that follow each other one may surprise: all of them cost what they usually do, and the most doubtful one
// what it does at most. So a machine that stalled once does not end a run that has room for one more such stall. Before
// the first of a kind an estimate stands for one. Steps have a size, their tokens: those of that size count; a larger
// one than all that are known is taken to cost as much more than the largest.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "cost/ledger.hpp"

namespace tael {

// Device-seconds of something, or of several things that follow each other.
struct CostRange {
  double usual = 0, most = 0;

  static CostRange exactly(double device_seconds) { return {device_seconds, device_seconds}; }
  CostRange operator+(const CostRange& other) const {
    const double both = usual + other.usual;
    return {both, both + std::max(most - usual, other.most - other.usual)};
  }
  CostRange operator*(double times) const { return {times * usual, times * most}; }
};

class Budget {
 public:
  struct Estimates {
    // Device-seconds, until the first of each was measured; `step` of one of size 1. An evaluation is expected to take
    // as many times a step as said here, however long steps turn out to be.
    double step = 0, save = 0, evaluation = 0;
  };
  // `limit`: nothing means that there is no limit.
  Budget(std::optional<double> limit, const Estimates& estimates)
      : limit_(limit), whole_(limit.value_or(0)), estimates_(estimates) {}

  // `left` device-seconds of a budget that is `whole` are left after `spent`: of money, at the present price.
  void set_left(double spent, double left, double whole);
  // What steps, saves, evaluations, beginnings, weights and closings took in earlier attempts: steps on as many ranks
  // and with as much work a token as `now`, evaluations of the same tokens. The machine may be another: until this
  // attempt has measured one itself, its estimate counts too.
  void learn(const std::vector<LedgerLine>& lines, int64_t ranks, const AttemptConditions& now);
  void step_took(double device_seconds, double size = 1) { steps_.measured(device_seconds, size); }
  void save_took(double device_seconds) {
    saves_.measured(device_seconds, 1);
    saves_of_others_ = {};
    save_so_far_ = 0;
  }
  // What the save that goes on has taken until now: no other will take less. 0: none goes on.
  void save_goes_on(double device_seconds) { save_so_far_ = device_seconds; }
  void evaluation_took(double device_seconds) { evaluations_.measured(device_seconds, 1); }
  void status_took(double device_seconds) { statuses_.measured(device_seconds, 1); }
  void lines_took(double device_seconds) { lines_.measured(device_seconds, 1); }
  void loads_took(double device_seconds) { loads_.measured(device_seconds, 1); }
  // What the next one is expected to cost.
  double expected_step(double size = 1) const { return steps_.expected(estimates_.step, size); }
  double expected_save() const;
  // The same with its doubt, and what it may cost.
  CostRange step(double size = 1) const { return steps_.range(estimates_.step, size); }
  CostRange save() const;
  // From the look at the budget to the first step, at least so much as is said here. A checkpoint is read about as fast
  // as it is written.
  CostRange beginning(double least, bool reads) const;
  CostRange status() const { return statuses_.range(0, 1); }  // to replace status.json
  // What follows the last look at the budget, at least so much as is said here: the lines of what was done last, about
  // as many at the end, and a line of experts.jsonl.
  CostRange closing(double least) const;
  // The final weights: a third of a checkpoint, which one of `ranks` writes alone, unless it is known to take longer.
  CostRange weights(double ranks) const;
  CostRange evaluation() const { return evaluations_.range(evaluation_estimate(), 1); }

  // Device-seconds that all attempts together may take.
  std::optional<double> limit() const { return limit_; }
  // Whether work fits into what is left after `spent`; and with a save behind it.
  bool pays(double spent, const CostRange& work) const { return !limit_ || spent + work.most <= *limit_; }
  bool fits(double spent, const CostRange& work) const;
  std::optional<double> left_fraction(double spent) const;  // 0 to 1
  // 80 or 95 when `spent` has passed that part of the budget, each once; 0 otherwise.
  int warning(double spent);

 private:
  // The last of one kind.
  class Costs {
   public:
    void add(double device_seconds, double size);
    void measured(double device_seconds, double size) {  // by this attempt
      add(device_seconds, size);
      measured_ = true;
    }
    double expected(double estimate, double size) const;
    CostRange range(double estimate, double size) const;
    bool none() const { return last_.empty(); }
    std::optional<double> of_size_1() const;  // expected, by those that this attempt measured; nothing: none yet

   private:
    // Of those of that size; where there are none, of the next larger, as they are, since what does not depend on the
    // size is not known; where there are none either, of the largest, the median scaled up. Not empty, in their order.
    std::vector<double> known(double size) const;

    struct Cost {
      double device_seconds, size;
    };
    std::deque<Cost> last_;
    bool measured_ = false;
  };

  double evaluation_estimate() const;
  std::optional<double> limit_;
  double whole_ = 0;  // of which left_fraction is a part
  Estimates estimates_;
  Costs steps_, saves_, beginnings_, weights_, evaluations_, statuses_, lines_, loads_, closings_;
  Costs saves_of_others_;  // on another number of ranks, since the last on as many
  double save_so_far_ = 0;
  int warned_ = 0;
};

}  // namespace tael
