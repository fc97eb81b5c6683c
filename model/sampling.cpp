#include "model/sampling.hpp"

#include <algorithm>
#include <cmath>

#include "base/rng.hpp"

namespace tael {

TokenSampler::TokenSampler(const SamplingRule& rule, int64_t vocabulary) : rule_(rule) {
  CHECK(std::isfinite(rule.temperature) && rule.temperature >= 0 && rule.top_p > 0 && rule.top_p <= 1);
  candidates_.reserve(static_cast<size_t>(vocabulary));
}

int32_t TokenSampler::choose(Vec<const float> logits_V, int64_t position) {
  int64_t best = 0;
  for (int64_t v = 0; v < logits_V.dim[0]; ++v) {
    if (!std::isfinite(logits_V(v))) return -1;
    if (logits_V(v) > logits_V(best)) best = v;
  }
  if (rule_.temperature == 0) return static_cast<int32_t>(best);
  candidates_.clear();
  const double largest = static_cast<double>(logits_V(best));
  double total = 0;
  for (int64_t v = 0; v < logits_V.dim[0]; ++v) {
    const double p = std::exp((static_cast<double>(logits_V(v)) - largest) / rule_.temperature);
    candidates_.push_back({p, static_cast<int32_t>(v)});
    total += p;
  }
  if (rule_.top_p < 1) {
    // All that is below this share adds up to less than 1 - top_p: it lies outside and need not be sorted.
    const double floor = (1 - rule_.top_p) * total / static_cast<double>(logits_V.dim[0]);
    std::erase_if(candidates_, [&](const Candidate& c) { return c.probability < floor; });
    std::ranges::sort(candidates_, [](const Candidate& a, const Candidate& b) {
      return a.probability != b.probability ? a.probability > b.probability : a.token < b.token;
    });
    double sum = 0;
    size_t kept = 0;
    while (kept < candidates_.size() && sum < rule_.top_p * total) sum += candidates_[kept++].probability;
    candidates_.resize(kept);
    total = sum;
  }
  double left = Rng(rule_.seed, "sample").uniform(static_cast<uint64_t>(position)) * total;
  for (const Candidate& c : candidates_) {
    if (left < c.probability) return c.token;
    left -= c.probability;
  }
  // Roundings used up the last one: whatever is likeliest of the end that has a chance at all.
  for (size_t i = candidates_.size(); i-- > 0;)
    if (candidates_[i].probability > 0) return candidates_[i].token;
  return static_cast<int32_t>(best);
}

}  // namespace tael
