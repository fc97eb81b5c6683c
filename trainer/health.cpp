#include "trainer/health.hpp"

#include <cmath>
#include <vector>

#include "parallel/agree.hpp"

namespace tael {

namespace {

std::string layer_name(const ModelShape& shape, int64_t layer) {
  if (layer == Network::kEmbedding) return "the embedding";
  if (layer == Network::kFinalNorm) return "the final norm";
  if (layer < 0) return "the output head";
  if (layer < shape.num_hidden_layers) return fmt::format("layer {}", layer);
  return fmt::format("MTP module {} (layer {})", layer - shape.num_hidden_layers + 1, layer);
}

// The first tensor of the table that holds a number that is not finite; nullptr: none does.
const ParamSpec* first_non_finite(const ParamTable& table, Vec<const float> numbers) {
  for (const ParamSpec& spec : table.params)
    for (int64_t i = 0; i < spec.size(); ++i)
      if (!std::isfinite(numbers(spec.offset + i))) return &spec;
  return nullptr;
}

}  // namespace

void watch_losses(NonFinite& seen, const Network& network, const MicroBatchLosses& losses) {
  if (seen.found) return;
  double main = 0, balance = 0;
  for (int64_t b = 0; b < losses.main_B.size(); ++b) {
    main += losses.main_B(b);
    balance += losses.balance_B(b);
  }
  int64_t module = -1;  // the first whose loss is not finite
  for (int64_t k = 0; k < losses.mtp_DB.dim[0] && module < 0; ++k) {
    double sum = 0;
    for (int64_t b = 0; b < losses.main_B.size(); ++b) sum += losses.mtp_DB(k, b);
    if (!std::isfinite(sum)) module = k;
  }
  if (std::isfinite(main) && std::isfinite(balance) && module < 0) return;
  seen = {true, network.first_nonfinite_layer()};
  // Every hidden state is well and so is the main head: then it is the module's own norm before it.
  if (seen.layer == -1 && std::isfinite(main) && module >= 0)
    seen.layer = network.table().shape.num_hidden_layers + module;
}

void fail_non_finite_loss(Comm& comm, const ModelShape& shape, int64_t step, const NonFinite& mine) {
  // The lowest rank that saw one speaks for all.
  int64_t first = mine.found ? comm.rank() : comm.size();
  comm.all_reduce({&first, 1}, ReduceOp::min);
  int64_t layer = comm.rank() == first ? mine.layer : INT64_MIN;
  comm.all_reduce({&layer, 1}, ReduceOp::max);
  const int64_t rank = first < comm.size() ? first : 0;
  throw AgreedError(Exit::run_failed,
                    fmt::format("step {}: the loss is not finite: rank {}, first in {}; nothing was updated", step,
                                rank, layer_name(shape, layer)));
}

void fail_non_finite_evaluation(const ParamTable& table, int64_t step, Vec<const float> params) {
  if (const ParamSpec* first = first_non_finite(table, params))
    throw AgreedError(Exit::run_failed,
                      fmt::format("step {}: the validation loss is not finite, and on every rank {} is the first "
                                  "tensor that holds a number that is not",
                                  step, first->name));
  throw AgreedError(Exit::run_failed,
                    fmt::format("step {}: the validation loss is not finite, though every weight is", step));
}

void fail_non_finite_gradient(Comm&, const ParamTable& table, int64_t step, Vec<const float> grads) {
  if (const ParamSpec* first = first_non_finite(table, grads))
    throw AgreedError(Exit::run_failed, fmt::format("step {}: the loss is finite, but the gradient of {} summed over "
                                                    "all ranks is not; nothing was updated",
                                                    step, first->name));
  throw AgreedError(Exit::run_failed,
                    fmt::format("step {}: the norm of the gradient overflows; nothing was updated", step));
}

}  // namespace tael
