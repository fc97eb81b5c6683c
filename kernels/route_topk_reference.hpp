// What route_topk.hpp means, in the plainest loops; with a recording scalar, the source of exact gradients (the choice
// is held fixed, since comparisons look at values).
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/route_topk.hpp"

namespace tael::reference {

// The numbers of the k largest of value[0, n), ascending; ties go to the smaller number.
template <class T>
std::vector<int64_t> largest(const std::vector<T>& value, const std::vector<bool>& eligible, int64_t k) {
  std::vector<int64_t> order;
  for (size_t i = 0; i < value.size(); ++i)
    if (eligible[i]) order.push_back(static_cast<int64_t>(i));
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return value[static_cast<size_t>(a)] > value[static_cast<size_t>(b)]; });
  order.resize(static_cast<size_t>(k));
  std::sort(order.begin(), order.end());
  return order;
}

template <class T>
void scores_of_row(T* score, const T* logit, int64_t experts, bool softmax) {
  using std::exp;
  if (!softmax) {
    for (int64_t e = 0; e < experts; ++e) score[e] = T(1) / (T(1) + exp(-logit[e]));
    return;
  }
  T maximum = logit[0], sum = 0;
  for (int64_t e = 1; e < experts; ++e)
    if (maximum < logit[e]) maximum = logit[e];
  for (int64_t e = 0; e < experts; ++e) sum += score[e] = exp(logit[e] - maximum);
  for (int64_t e = 0; e < experts; ++e) score[e] = score[e] / sum;
}

template <class T>
void route_forward(const RouteForward<T>& args) {
  const RouteOptions& options = args.options;
  const int64_t experts = args.logit_TE.cols(), group_size = experts / options.groups;
  for (int64_t e = 0; e < experts; ++e) args.counts_E(e) = 0;
  for (int64_t t = 0; t < args.logit_TE.rows(); ++t) {
    T* score = args.score_TE.row(t);
    scores_of_row(score, args.logit_TE.row(t), experts, options.softmax);
    std::vector<T> choice(score, score + experts);
    if (args.bias_E)
      for (int64_t e = 0; e < experts; ++e) choice[static_cast<size_t>(e)] = score[e] + args.bias_E(e);

    std::vector<T> group_score;
    for (int64_t g = 0; g < options.groups; ++g) {
      std::vector<T> member(choice.begin() + g * group_size, choice.begin() + (g + 1) * group_size);
      std::stable_sort(member.begin(), member.end(), [](const T& a, const T& b) { return a > b; });
      const bool two = options.group_score == GroupScore::top2_sum && group_size > 1;
      group_score.push_back(two ? member[0] + member[1] : member[0]);
    }
    std::vector<bool> eligible(static_cast<size_t>(experts), false);
    for (int64_t g : largest(group_score, std::vector<bool>(group_score.size(), true), options.topk_group))
      for (int64_t e = g * group_size; e < (g + 1) * group_size; ++e) eligible[static_cast<size_t>(e)] = true;

    T sum = 0;
    int64_t k = 0;
    for (int64_t e : largest(choice, eligible, options.top_k)) {
      args.expert_TK(t, k) = static_cast<int32_t>(e);
      args.weight_TK(t, k++) = score[e];
      sum += score[e];
      ++args.counts_E(e);
    }
    for (k = 0; k < options.top_k; ++k) {
      if (options.normalize) args.weight_TK(t, k) = args.weight_TK(t, k) / (sum + T(1e-20));
      args.weight_TK(t, k) = args.weight_TK(t, k) * T(options.scale);
    }
  }
}

// f of one sequence of scores [S, E].
template <class T>
std::vector<double> balance_fraction(Mat<const T> score_SE, int64_t top_k) {
  const int64_t experts = score_SE.cols();
  std::vector<double> fraction(static_cast<size_t>(experts), 0.0);
  const double share = static_cast<double>(experts) / static_cast<double>(top_k * score_SE.rows());
  for (int64_t s = 0; s < score_SE.rows(); ++s) {
    const std::vector<T> row(score_SE.row(s), score_SE.row(s) + experts);
    for (int64_t e : largest(row, std::vector<bool>(row.size(), true), top_k))
      fraction[static_cast<size_t>(e)] += share;
  }
  return fraction;
}

// sum over experts of f P of one sequence, f given.
template <class T>
T balance_loss(Mat<const T> score_SE, const std::vector<double>& fraction) {
  T loss = 0;
  for (int64_t s = 0; s < score_SE.rows(); ++s) {
    T sum = 0;
    for (int64_t e = 0; e < score_SE.cols(); ++e) sum += score_SE(s, e);
    for (int64_t e = 0; e < score_SE.cols(); ++e)
      loss += T(fraction[static_cast<size_t>(e)]) * score_SE(s, e) / (sum + T(1e-20));
  }
  return loss / T(static_cast<double>(score_SE.rows()));
}

}  // namespace tael::reference
