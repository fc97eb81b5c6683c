// Schedule: a value that changes at given numbers of tokens, constant in between. Written in a configuration as a
// number or as [[from tokens, value], ...]; read at the tokens consumed before the step.
//
// Plain data: points are in ascending order of from_tokens and the first starts at 0 (the loader refuses anything
// else).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tael {

struct Schedule {
  struct Point {
    int64_t from_tokens = 0;
    double value = 0.0;
    bool operator==(const Point&) const = default;
  };
  std::vector<Point> points;

  static Schedule constant(double value) { return {{{0, value}}}; }
  double at(int64_t tokens) const;  // the value of the last point at or before `tokens`; REQUIRES a point at 0
  double largest() const;
  bool is_constant() const { return points.size() == 1; }
  bool operator==(const Schedule&) const = default;
};

// Sequences per optimizer step: a schedule of whole numbers, or Megatron's ramp: from `start` to `end` in equal parts
// of `over_tokens` tokens, each `increment` sequences larger than the one before (V3: 3072 to 15360 over 469B).
struct BatchRamp {
  int64_t start = 0, end = 0, over_tokens = 0, increment = 0;
  bool operator==(const BatchRamp&) const = default;
};

struct BatchSize {
  Schedule steps = Schedule::constant(32);  // ignored when there is a ramp
  std::optional<BatchRamp> ramp;

  int64_t at(int64_t tokens) const;  // sequences of the step that starts after `tokens` tokens
  int64_t next_change(
      int64_t tokens) const;         // the first number of tokens after these with another size; no more: the maximum
  std::vector<int64_t> all() const;  // every size that occurs, in order; at most 1 + (end - start) / increment
  bool operator==(const BatchSize&) const = default;
};

// Further steps until `train_tokens` are consumed, the last one perhaps beyond, when `tokens` are. REQUIRES positive
// sizes whose products fit.
int64_t steps_to_consume(const BatchSize& batch, int64_t seq_length, int64_t train_tokens, int64_t tokens = 0);
// Tokens that are consumed after `steps` further steps, when `tokens` are.
int64_t tokens_after_steps(const BatchSize& batch, int64_t seq_length, int64_t steps, int64_t tokens = 0);

}  // namespace tael
