// The choice of the next token from logits: the largest, or one drawn after temperature and nucleus (top-p).
//
// Probabilities are softmax(logits / temperature); the nucleus is the smallest set of most probable tokens whose
// probabilities reach top_p (ties: the smaller number first), and a token of it is drawn in proportion. The random
// number is a pure function of (seed, position), so nothing but these and the logits decides. Source of the nucleus:
// Holtzman et al., arXiv 1904.09751.
#pragma once

#include <cstdint>
#include <vector>

#include "base/view.hpp"

namespace tael {

struct SamplingRule {
  double temperature = 1.0;  // at least 0; 0: the most probable token
  double top_p = 1.0;        // above 0, at most 1
  uint64_t seed = 0;
};

class TokenSampler {
 public:
  TokenSampler(const SamplingRule& rule, int64_t vocabulary);

  // The token for `position` of the text; -1: a logit is not finite. Allocates nothing.
  int32_t choose(Vec<const float> logits_V, int64_t position);

 private:
  struct Candidate {
    double probability;  // not yet divided by the sum of all
    int32_t token;
  };
  SamplingRule rule_;
  std::vector<Candidate> candidates_;
};

}  // namespace tael
