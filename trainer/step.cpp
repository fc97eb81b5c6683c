#include "trainer/step.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/rng.hpp"
#include "optim/expert_bias.hpp"
#include "parallel/agree.hpp"
#include "trainer/health.hpp"

namespace tael {

namespace {

// Column numbers of the values that are summed over lanes.
constexpr int64_t kMain = 0, kBalance = 1, kMtp = 2;

// One micro-batch of `count` sequences from row `first` of the rank's batch, its losses added to the lane's.
void run_micro_batch(Run& run, const Batch& batch, int64_t first, int64_t count, const LossCoefficients& coefficients,
                     Vec<float> grads, int64_t lane, NonFinite& non_finite) {
  StepBuffers& buffers = run.buffers;
  const int64_t length = run.config.training.seq_length;
  const Mat<const int32_t> tokens = rows(batch.tokens, first, first + count);
  Vec<const int32_t> document_start_T;
  if (buffers.document_start_BT) {
    const Mat<int32_t> starts = rows(buffers.document_start_BT, 0, count);
    fill_document_starts(starts, tokens, run.separator);
    document_start_T = flat(starts);
  }
  const MicroBatchLosses losses{vec(buffers.main_B.data, count), mat(buffers.mtp_DB.data, buffers.mtp_DB.dim[0], count),
                                vec(buffers.balance_B.data, count)};
  Context context = run.context();
  run.network.train(context, *run.saved_arena, run.weights(), {{count, length}, tokens, document_start_T}, coefficients,
                    grads.data, losses, buffers.counts_LE);
  run.stream.synchronize();
  watch_losses(non_finite, run.network, losses);
  const Mat<double> values = buffers.lane_values_LV;
  for (int64_t b = 0; b < count; ++b) {  // a lane's losses are one chain over its sequences
    values(lane, kMain) += losses.main_B(b);
    values(lane, kBalance) += losses.balance_B(b);
    for (int64_t k = 0; k < losses.mtp_DB.dim[0]; ++k) values(lane, kMtp + k) += losses.mtp_DB(k, b);
  }
}

}  // namespace

StepReport train_step(Run& run, Progress& progress) {
  const Config& config = run.config;
  const ModelShape& shape = config.model.shape;
  StepBuffers& buffers = run.buffers;
  const int64_t step = progress.step + 1, tokens_before = progress.tokens;
  const int64_t length = config.training.seq_length, depth = shape.num_nextn_predict_layers;
  const int64_t sequences = config.training.global_batch_size.at(tokens_before);
  const double step_tokens = static_cast<double>(sequences * length);
  const double alpha = shape.n_routed_experts > 0 ? config.router.aux_coeff(tokens_before) : 0.0;
  const LossCoefficients coefficients{
      .main = 1.0 / step_tokens,
      .mtp =
          depth > 0 ? config.mtp.loss_scaling_factor.at(tokens_before) / static_cast<double>(depth) / step_tokens : 0.0,
      .balance = alpha / static_cast<double>(sequences)};

  // This rank's samples, and the next step's while this one runs.
  const Progress after{
      .step = step, .samples = progress.samples + sequences, .tokens = tokens_before + sequences * length};
  const int64_t next_sequences = config.training.global_batch_size.at(after.tokens);
  const auto range = [&](int64_t first, int64_t count) {
    return rank_range(first, count, run.division.rank, run.division.ranks);
  };
  run.clock.charge(CostKind::data_wait);
  // A shard may be damaged where only one rank reads: then all leave with its message, and rank 0 writes it down.
  const Batch batch = agreed(run.comm, [&] {
    return run.loader->next(range(progress.samples, sequences),
                            step < run.steps ? range(after.samples, next_sequences) : SampleRange{});
  });

  // Forward and backward, lane by lane in micro-batches.
  run.clock.charge(CostKind::compute);
  std::fill_n(buffers.counts_LE.data, buffers.counts_LE.size(), int64_t{0});
  std::fill_n(buffers.lane_values_LV.data, buffers.lane_values_LV.size(), 0.0);
  NonFinite non_finite;
  const int64_t lane_size = run.division.lane_sequences(sequences);
  for (int64_t lane = 0; lane < run.division.lanes; ++lane) {
    const Vec<float> grads = run.lanes->begin_lane(run.stream);
    for (int64_t done = 0; done < lane_size; done += run.division.micro_batch) {
      run_micro_batch(run, batch, lane * lane_size + done, std::min(run.division.micro_batch, lane_size - done),
                      coefficients, grads, lane, non_finite);
    }
    run.lanes->end_lane(run.stream);
  }

  // Sums over lanes and ranks.
  const Vec<float> grads = run.lanes->finish();
  if (run.division.ranks > 1) {
    run.clock.charge(CostKind::imbalance);
    run.comm.barrier();
    run.clock.charge(CostKind::exposed_communication);
  }
  reduce_gradients(run.stream, run.comm, run.division.order, run.wire, grads);
  sum_lane_values(run.comm, buffers.lane_values_LV, buffers.all_values_LV, buffers.sums_V);
  sum_counts(run.comm, flat(buffers.counts_LE));
  StepReport report;
  report.step = step;
  report.tokens = after.tokens;
  report.loss = buffers.sums_V(kMain) / step_tokens;
  double all_losses = report.loss + buffers.sums_V(kBalance);
  if (depth > 0) {
    double mtp = 0;
    for (int64_t k = 0; k < depth; ++k) mtp += buffers.sums_V(kMtp + k) / step_tokens;
    report.mtp_loss = mtp / static_cast<double>(depth);
    all_losses += mtp;
  }
  if (alpha > 0) report.balance_loss = coefficients.balance * buffers.sums_V(kBalance);
  if (!std::isfinite(all_losses)) fail_non_finite_loss(run.comm, shape, step, non_finite);

  // Update.
  run.clock.charge(CostKind::optimizer);
  report.grad_norm = global_norm(run.stream, run.spans, grads, run.norm_rows);
  if (!std::isfinite(report.grad_norm)) fail_non_finite_gradient(run.comm, run.network.table(), step, grads);
  report.lr = run.lr.at(step, tokens_before);
  adamw_step(run.stream,
             {.beta1 = config.optimizer.betas[0],
              .beta2 = config.optimizer.betas[1],
              .eps = config.optimizer.eps,
              .weight_decay = config.optimizer.weight_decay},
             run.spans,
             {.weights = run.params,
              .state = run.adamw,
              .grads = grads,
              .lr = report.lr,
              .clip = clip_factor(report.grad_norm, config.optimizer.clip_grad),
              .step = step});
  if (run.network.table().moe_layers > 0) {
    double worst = 0, largest = 0;
    for (int64_t l = 0; l < buffers.counts_LE.dim[0]; ++l)
      worst = std::max(worst, max_violation(vec(buffers.counts_LE.row(l), buffers.counts_LE.dim[1])));
    report.max_violation = worst;
    if (const Mat<float> bias = run.bias_LE()) {
      update_expert_bias(bias, buffers.counts_LE, config.router.bias_update_rate.at(tokens_before));
      for (int64_t i = 0; i < bias.size(); ++i) {
        const double size = std::abs(static_cast<double>(bias.data[i]));
        largest = std::isnan(size) || size > largest ? size : largest;  // a NaN is not passed over
        if (std::isnan(largest)) break;
      }
      report.bias_abs_max = largest;
    }
  }
  progress = after;
  return report;
}

double trial_step(Run& run, int64_t sequences) {
  const ModelShape& shape = run.config.model.shape;
  const int64_t lane_size = run.division.lane_sequences(sequences),
                count = std::min(run.division.micro_batch, lane_size),
                micro_batches = run.division.lanes * ((lane_size + count - 1) / count),
                columns = run.config.training.seq_length + 1 + shape.num_nextn_predict_layers;
  const Rng random(0, "tokens of a trial");
  std::vector<int32_t> numbers(static_cast<size_t>(count * columns));
  const Batch batch{.tokens = mat(static_cast<const int32_t*>(numbers.data()), count, columns)};
  const LossCoefficients coefficients{.main = 1e-3, .mtp = 1e-3, .balance = 1e-3};
  uint64_t drawn = 0;
  const auto micro_batch = [&](Vec<float> grads) {
    NonFinite ignored;
    for (int32_t& token : numbers)
      token = static_cast<int32_t>(random.below(drawn++, static_cast<uint64_t>(shape.vocab_size)));
    const double begin = run.clock.now();
    run_micro_batch(run, batch, 0, count, coefficients, grads, 0, ignored);
    return run.clock.now() - begin;
  };
  // The first round touches memory for the first time; where it is long that matters little. Of two the shorter counts:
  // the machine may have stalled in the other.
  constexpr double kEnough = 0.25, kLong = 5;                // seconds
  double seconds = std::numeric_limits<double>::infinity();  // of this rank
  for (const bool warm : {false, true}) {
    run.comm.barrier();
    const double begin = run.clock.now();
    double computed = 0;
    int64_t runs = 0;
    for (int64_t lane = 0; lane < run.division.lanes; ++lane) {
      const Vec<float> grads = run.lanes->begin_lane(run.stream);
      while (lane == 0 && (runs == 0 || (warm && computed < kEnough && runs < micro_batches))) {
        computed += micro_batch(grads);
        ++runs;
      }
      run.lanes->end_lane(run.stream);
    }
    const Vec<float> grads = run.lanes->finish();
    const double summed = run.clock.now();
    run.comm.barrier();
    reduce_gradients(run.stream, run.comm, run.division.order, run.wire, grads);
    const double reduced = run.clock.now();
    global_norm(run.stream, run.spans, grads, run.norm_rows);
    const double norm = run.clock.now() - reduced, rest = summed - begin - computed + 9 * norm;
    seconds = std::min(seconds, rest + computed / static_cast<double>(runs) * static_cast<double>(micro_batches));
    if (longest_of(run.comm, reduced - begin) > kLong) break;
  }
  return longest_of(run.comm, seconds);
}

}  // namespace tael
