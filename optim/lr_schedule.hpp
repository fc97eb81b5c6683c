// The learning rate of a step. Pure: nothing is remembered, so a resumed run reads what the first would have read.
//
//   warm-up   the rate below x min(1, s / warmup_steps) at step s, counted from 1
//   constant  lr
//   cosine    from lr at the end of warm-up to min_lr at the last step, by steps
//   phases    by the tokens consumed before the step; a phase is [until tokens, shape, lr at its end]. A constant phase
//   has
//             that lr throughout; a cosine phase goes to it from where the phase before it ended (the first: from lr).
//             After the last phase its lr stays.
//
// Source: DeepSeek-V3 report 4.2 (its schedule is four phases).
#pragma once

#include <cstdint>
#include <vector>

namespace tael {

enum class LrShape : uint8_t { constant, cosine };

struct LrPhase {
  int64_t until_tokens = 0;  // ascending
  LrShape shape = LrShape::constant;
  double lr = 0;  // at its end
};

struct LrSchedule {
  double lr = 0;  // the peak
  int64_t warmup_steps = 0;
  LrShape shape = LrShape::constant;  // without phases
  double min_lr = 0;                  // of the cosine
  int64_t train_steps = 0;            // the last step; the cosine needs it
  std::vector<LrPhase> phases = {};

  // REQUIRES step >= 1. tokens: consumed before the step.
  double at(int64_t step, int64_t tokens) const;
};

}  // namespace tael
