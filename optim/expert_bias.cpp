#include "optim/expert_bias.hpp"

#include <algorithm>

namespace tael {

namespace {

int64_t total(Vec<const int64_t> counts_E) {
  int64_t sum = 0;
  for (int64_t e = 0; e < counts_E.size(); ++e) sum += counts_E(e);
  return sum;
}

}  // namespace

void update_expert_bias(Mat<float> bias_LE, Mat<const int64_t> counts_LE, double rate) {
  CHECK(bias_LE.rows() == counts_LE.rows() && bias_LE.cols() == counts_LE.cols(), "{} x {} biases, {} x {} counts",
        bias_LE.rows(), bias_LE.cols(), counts_LE.rows(), counts_LE.cols());
  const float step = static_cast<float>(rate);
  const int64_t experts = bias_LE.cols();
  for (int64_t l = 0; l < bias_LE.rows(); ++l) {
    const __int128 mean_times_experts = total(vec(counts_LE.row(l), experts));
    for (int64_t e = 0; e < experts; ++e) {
      const __int128 count_times_experts = static_cast<__int128>(counts_LE(l, e)) * experts;
      if (count_times_experts < mean_times_experts) bias_LE(l, e) += step;
      if (count_times_experts > mean_times_experts) bias_LE(l, e) -= step;
    }
  }
}

double max_violation(Vec<const int64_t> counts_E) {
  const int64_t sum = total(counts_E);
  if (sum == 0) return 0.0;
  const int64_t most = *std::max_element(counts_E.data, counts_E.data + counts_E.size());
  return static_cast<double>(most) * static_cast<double>(counts_E.size()) / static_cast<double>(sum) - 1.0;
}

}  // namespace tael
