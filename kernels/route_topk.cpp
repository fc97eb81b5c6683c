#include "kernels/route_topk.hpp"

#include "kernels/rows.hpp"

namespace tael {
void check_route_workspace(int64_t experts, int64_t top_k);  // compiled once, unlike everything else here
}

namespace tael::TAEL_ISA {
namespace {

constexpr float kTiny = 1e-20f;
constexpr float kLowest = -__builtin_inff();

// A score that is not a number is chosen before all others; a bias that is not one makes its expert the last. The least
// is finite, so that a group's sum of both is a number.
TAEL_INLINE float choice_of(float score) { return score == score ? score : -kLowest; }
TAEL_INLINE float choice_of(float score, float bias) {
  const float biased = choice_of(score) + bias;
  if (biased >= -__FLT_MAX__) return biased;
  return score == score ? -__FLT_MAX__ : -kLowest;
}

// The K largest so far, best first; among equals the one that came first.
struct Best {
  float* value;
  int32_t* number;
  int64_t capacity;
  int64_t size = 0;

  TAEL_INLINE void offer(float v, int32_t n) {
    if (size == capacity) {
      if (!(v > value[size - 1])) return;
    } else {
      ++size;
    }
    int64_t i = size - 1;
    for (; i > 0 && v > value[i - 1]; --i) {
      value[i] = value[i - 1];
      number[i] = number[i - 1];
    }
    value[i] = v;
    number[i] = n;
  }

  TAEL_INLINE void sort_by_number() {
    for (int64_t i = 1; i < size; ++i) {
      const int32_t n = number[i];
      int64_t j = i;
      for (; j > 0 && number[j - 1] > n; --j) number[j] = number[j - 1];
      number[j] = n;
    }
  }
};

// Cuts a thread's workspace into arrays.
struct Cut {
  std::byte* next;
  template <class T>
  TAEL_INLINE T* take(int64_t n) {
    T* p = reinterpret_cast<T*>(next);
    next += (n * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return p;
  }
};

TAEL_INLINE float row_sum(const float* x, int64_t n) {
  F16 sum = zero();
  along(n, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { sum = add(sum, load(x + j, part)); });
  return reduce_add(sum);
}

TAEL_INLINE void scores_of_row(float* score, const float* logit, int64_t experts, bool softmax) {
  const F16 one = set1(1.0f);
  if (!softmax) {
    along(experts, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
      store(score + j, div(one, add(one, exp(negate(load(logit + j, part))))), part);
    });
    return;
  }
  F16 maximum = set1(kLowest), sum = zero();
  along(experts, [&](int64_t j, auto part)
                     TAEL_INLINE_LAMBDA { maximum = max(keep(load(logit + j, part), set1(kLowest), part), maximum); });
  const F16 shift = set1(reduce_max(maximum));
  along(experts, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
    const F16 e = keep(exp(sub(load(logit + j, part), shift)), zero(), part);
    sum = add(sum, e);
    store(score + j, e, part);
  });
  const F16 all = set1(reduce_add(sum));
  along(experts,
        [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { store(score + j, div(load(score + j, part), all), part); });
}

TAEL_INLINE float score_of_group(const float* choice, int64_t size, GroupScore kind) {
  float first = choice[0], second = kLowest;
  for (int64_t i = 1; i < size; ++i) {
    if (choice[i] > first) {
      second = first;
      first = choice[i];
    } else if (choice[i] > second) {
      second = choice[i];
    }
  }
  return kind == GroupScore::top2_sum && size > 1 ? first + second : first;
}

void route_row(const RouteForward<float>& args, int64_t t, Cut cut) {
  const RouteOptions& options = args.options;
  const int64_t experts = args.logit_TE.cols(), size = experts / options.groups, top_k = options.top_k;
  float* score = args.score_TE.row(t);
  scores_of_row(score, args.logit_TE.row(t), experts, options.softmax);
  float* choice = cut.take<float>(experts);
  for (int64_t e = 0; e < experts; ++e)
    choice[e] = args.bias_E ? choice_of(score[e], args.bias_E(e)) : choice_of(score[e]);

  Best best{cut.take<float>(top_k), cut.take<int32_t>(top_k), top_k};
  if (options.topk_group == options.groups) {
    for (int64_t e = 0; e < experts; ++e) best.offer(choice[e], static_cast<int32_t>(e));
  } else {
    Best kept{cut.take<float>(options.topk_group), cut.take<int32_t>(options.topk_group), options.topk_group};
    for (int64_t g = 0; g < options.groups; ++g)
      kept.offer(score_of_group(choice + g * size, size, options.group_score), static_cast<int32_t>(g));
    kept.sort_by_number();  // ties among experts go to the smaller number, so offer them in order
    for (int64_t i = 0; i < kept.size; ++i)
      for (int64_t e = kept.number[i] * size; e < (kept.number[i] + 1) * size; ++e)
        best.offer(choice[e], static_cast<int32_t>(e));
  }
  best.sort_by_number();

  float sum = 0.0f;
  for (int64_t k = 0; k < top_k; ++k) sum += score[best.number[k]];
  const float divisor = options.normalize ? sum + kTiny : 1.0f, scale = static_cast<float>(options.scale);
  for (int64_t k = 0; k < top_k; ++k) {
    args.expert_TK(t, k) = best.number[k];
    args.weight_TK(t, k) = score[best.number[k]] / divisor * scale;
  }
}

}  // namespace

void route_forward(const Stream& stream, const RouteForward<float>& args) {
  const int64_t experts = args.logit_TE.cols();
  check_route_workspace(experts, args.options.top_k);
  for_row_blocks(stream, args.logit_TE.rows(), 16 * experts, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t t = begin; t < end; ++t) route_row(args, t, Cut{stream.pool().workspace(thread)});
  });
  for (int64_t e = 0; e < experts; ++e) args.counts_E(e) = 0;
  for (int64_t t = 0; t < args.expert_TK.rows(); ++t)
    for (int64_t k = 0; k < args.options.top_k; ++k) ++args.counts_E(args.expert_TK(t, k));
}

void route_backward(const Stream& stream, const RouteBackward<float>& args) {
  const int64_t experts = args.score_TE.cols(), top_k = args.options.top_k;
  const float scale = static_cast<float>(args.options.scale);
  for_row_blocks(stream, args.score_TE.rows(), 8 * experts, [&](int64_t begin, int64_t end, int thread) {
    float* dscore = reinterpret_cast<float*>(stream.pool().workspace(thread));  // of the chosen
    for (int64_t t = begin; t < end; ++t) {
      const float* score = args.score_TE.row(t);
      const int32_t* expert = args.expert_TK.row(t);
      const float* dweight = args.dweight_TK.row(t);
      float* dlogit = args.dlogit_TE.row(t);
      float sum = 0.0f, dot = 0.0f;
      for (int64_t k = 0; k < top_k; ++k) {
        sum += score[expert[k]];
        dot += dweight[k] * score[expert[k]];
      }
      const float divisor = sum + kTiny, mean = dot / divisor;
      for (int64_t k = 0; k < top_k; ++k)
        dscore[k] = args.options.normalize ? scale * ((dweight[k] - mean) / divisor) : scale * dweight[k];
      if (!args.options.softmax) {
        along(experts, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA { store(dlogit + j, zero(), part); });
        for (int64_t k = 0; k < top_k; ++k) {
          const float s = score[expert[k]];
          dlogit[expert[k]] = dscore[k] * (s * (1.0f - s));
        }
        continue;
      }
      float common = 0.0f;  // sum over the chosen of dscore * score
      for (int64_t k = 0; k < top_k; ++k) common += dscore[k] * score[expert[k]];
      const F16 minus_common = set1(-common);
      along(experts, [&](int64_t j, auto part)
                         TAEL_INLINE_LAMBDA { store(dlogit + j, mul(load(score + j, part), minus_common), part); });
      for (int64_t k = 0; k < top_k; ++k) dlogit[expert[k]] = score[expert[k]] * (dscore[k] - common);
    }
  });
}

void balance_forward(const Stream& stream, const BalanceForward<float>& args) {
  const int64_t experts = args.score_TE.cols(), length = args.sequence_length, top_k = args.top_k;
  check_route_workspace(experts, top_k);
  const double share = static_cast<double>(experts) / (static_cast<double>(top_k) * static_cast<double>(length));
  stream.pool().parallel_for(args.loss_B.size(), [&](int64_t b, int thread) {
    Cut cut{stream.pool().workspace(thread)};
    double* probability = cut.take<double>(experts);  // sum over tokens of s / sum(s)
    int64_t* count = cut.take<int64_t>(experts);
    float* value = cut.take<float>(top_k);
    int32_t* number = cut.take<int32_t>(top_k);
    for (int64_t e = 0; e < experts; ++e) probability[e] = 0.0, count[e] = 0;
    for (int64_t t = b * length; t < (b + 1) * length; ++t) {
      const float* score = args.score_TE.row(t);
      const double sum = static_cast<double>(row_sum(score, experts)) + static_cast<double>(kTiny);
      for (int64_t e = 0; e < experts; ++e) probability[e] += static_cast<double>(score[e]) / sum;
      Best best{value, number, top_k};
      for (int64_t e = 0; e < experts; ++e) best.offer(choice_of(score[e]), static_cast<int32_t>(e));
      for (int64_t k = 0; k < top_k; ++k) ++count[number[k]];
    }
    double loss = 0.0;
    for (int64_t e = 0; e < experts; ++e) {
      const double fraction = share * static_cast<double>(count[e]);
      args.fraction_BE(b, e) = static_cast<float>(fraction);
      loss += fraction * (probability[e] / static_cast<double>(length));
    }
    args.loss_B(b) = loss;
  });
}

// With p = s / sum(s): d(sum f P)/ds_e = (f_e - sum_j f_j p_j) / (S sum(s)).
void balance_backward(const Stream& stream, const BalanceBackward<float>& args) {
  const int64_t experts = args.score_TE.cols(), length = args.sequence_length;
  const float factor = static_cast<float>(args.coefficient / static_cast<double>(length));
  for_row_blocks(stream, args.score_TE.rows(), 16 * experts, [&](int64_t begin, int64_t end, int) {
    const F16 one = set1(1.0f);
    for (int64_t t = begin; t < end; ++t) {
      const float *score = args.score_TE.row(t), *fraction = args.fraction_BE.row(t / length);
      float* dlogit = args.dlogit_TE.row(t);
      F16 dot = zero(), all = zero();
      along(experts, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        const F16 s = load(score + j, part);
        all = add(all, s);
        dot = add(dot, mul(load(fraction + j, part), s));
      });
      const float sum = reduce_add(all) + kTiny;
      const F16 mean = set1(reduce_add(dot) / sum), scale = set1(factor / sum);
      F16 common = zero();  // softmax: sum over experts of dscore * score
      if (args.softmax) {
        along(experts, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
          common = add(common, mul(mul(scale, sub(load(fraction + j, part), mean)), load(score + j, part)));
        });
        common = set1(reduce_add(common));
      }
      const bool softmax = args.softmax;
      along(experts, [&](int64_t j, auto part) TAEL_INLINE_LAMBDA {
        const F16 s = load(score + j, part);
        const F16 dscore = mul(scale, sub(load(fraction + j, part), mean));
        const F16 d = softmax ? mul(s, sub(dscore, common)) : mul(dscore, mul(s, sub(one, s)));
        store(dlogit + j, add(load(dlogit + j, part), d), part);
      });
    }
  });
}

}  // namespace tael::TAEL_ISA

#ifdef TAEL_ISA_PORTABLE
namespace tael {

// balance_forward: 16 bytes an expert and 8 a choice, every array on a border of 64. route_forward takes less.
int64_t route_workspace_bytes(int64_t experts, int64_t top_k) { return 16 * experts + 8 * top_k + 5 * 64; }

void check_route_workspace(int64_t experts, int64_t top_k) {
  CHECK(route_workspace_bytes(experts, top_k) <= static_cast<int64_t>(ThreadPool::kWorkspaceBytes), "{} experts",
        experts);
}

}  // namespace tael
#endif

TAEL_KERNEL(route_forward, RouteForward<float>)
TAEL_KERNEL(route_backward, RouteBackward<float>)
TAEL_KERNEL(balance_forward, BalanceForward<float>)
TAEL_KERNEL(balance_backward, BalanceBackward<float>)
