// What one training step, and one evaluation, has to say: the names of the run's metrics, once.
//
// metrics.jsonl, the TensorBoard files and the console read a report through visit(), so a new metric is one member and
// one line here. Names are the contract with the outside: metrics.jsonl fields and TensorBoard tags are equal.
#pragma once

#include <cstdint>
#include <optional>

namespace tael {

struct StepReport {
  int64_t step = 0;    // counted from 1
  int64_t tokens = 0;  // consumed by the run, this step's included

  double loss = 0;  // nats per token over the step's global batch, before its update; main head only
  std::optional<double> mtp_loss = std::nullopt;      // mean over depths, without lambda; only with MTP
  std::optional<double> balance_loss = std::nullopt;  // with alpha; only where there is such a loss
  double grad_norm = 0;                               // of the total loss, before clipping
  double lr = 0;
  double tokens_per_s = 0, tokens_per_s_per_rank = 0;
  double step_ms = 0;
  double tflops_per_rank = 0;                // model FLOPs, recomputation not counted
  std::optional<double> mfu = std::nullopt;  // of the measured peak, 0 to 1
  double peak_gib = 0;                       // largest resident size of any rank so far
  std::optional<double> max_violation =
      std::nullopt;  // (largest - mean) / mean tokens of an expert, worst layer; only with experts
  std::optional<double> bias_abs_max = std::nullopt;       // of the gate biases; only where the gate has one
  int64_t bytes_between_hosts = 0, bytes_within_host = 0;  // sent by all ranks in this step
  double gpu_hours = 0;                                    // rank-hours on the CPU, since the run began
  std::optional<double> money = std::nullopt;              // in the currency of the price; only with a price
  std::optional<double> budget_left = std::nullopt;        // 0 to 1; only with a budget

  // visit(name, value) for each that there is, in the order in which a file shows them; value is a double, or an
  // int64_t for what is counted.
  template <class Visit>
  void visit(Visit&& visit) const {
    const auto maybe = [&](const char* name, const std::optional<double>& value) {
      if (value) visit(name, *value);
    };
    visit("train/loss", loss);
    maybe("train/mtp_loss", mtp_loss);
    maybe("train/balance_loss", balance_loss);
    visit("train/grad_norm", grad_norm);
    visit("train/lr", lr);
    visit("perf/tokens_per_s", tokens_per_s);
    visit("perf/tokens_per_s_per_gpu", tokens_per_s_per_rank);
    visit("perf/step_ms", step_ms);
    visit("perf/tflops_per_gpu", tflops_per_rank);
    maybe("perf/mfu", mfu);
    visit("mem/peak_gib", peak_gib);
    maybe("moe/max_violation", max_violation);
    maybe("moe/bias_abs_max", bias_abs_max);
    visit("comm/bytes_between_hosts", bytes_between_hosts);
    visit("comm/bytes_within_host", bytes_within_host);
    visit("cost/gpu_hours", gpu_hours);
    maybe("cost/money", money);
    maybe("cost/budget_left_frac", budget_left);
  }
};

struct EvalReport {
  int64_t step = 0;    // after which it was made; 0: before the first
  int64_t tokens = 0;  // consumed by the run until then

  double loss = 0;  // nats per target
  double ppl = 0;
  std::optional<double> bits_per_byte = std::nullopt;  // only where the shards say what their tokens stand for
  int64_t targets = 0;

  template <class Visit>
  void visit(Visit&& visit) const {
    visit("valid/loss", loss);
    visit("valid/ppl", ppl);
    if (bits_per_byte) visit("valid/bits_per_byte", *bits_per_byte);
  }
};

struct CheckpointReport {
  int64_t step = 0, tokens = 0;  // of the checkpoint

  int64_t bytes = 0;    // of all its shards
  double stall_ms = 0;  // that the steps waited
  double seconds = 0;   // until it was published

  template <class Visit>
  void visit(Visit&& visit) const {
    visit("checkpoint/bytes", bytes);
    visit("checkpoint/stall_ms", stall_ms);
    visit("checkpoint/seconds", seconds);
  }
};

}  // namespace tael
