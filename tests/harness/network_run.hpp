// A network on memory of its own, measured by a dry run and then allocated: what tests need to run one.
#pragma once

#include <memory>
#include <vector>

#include "model/network.hpp"

namespace tael::testing {

class NetworkRun {
 public:
  NetworkRun(const ModelShape& shape, MtpHidden mtp_hidden, int64_t positions, int threads = 1, Isa isa = best_isa(),
             int64_t segments = 1)
      : pool_(threads),
        isa_(isa),
        segments_(segments),
        network(shape, mtp_hidden, exchange_, positions),
        params(static_cast<size_t>(network.table().size())),
        biases(static_cast<size_t>(network.table().bias_size())),
        grads(static_cast<size_t>(network.table().gradient_size())),
        counts(static_cast<size_t>(network.table().moe_layers * shape.n_routed_experts)) {}

  Weights weights() const { return {params.data(), biases.data()}; }
  Mat<int64_t> counts_LE() { return mat(counts.data(), network.table().moe_layers, network.shape().n_routed_experts); }

  // Adds to grads and counts. Losses are the sums over sequences that model/network.hpp names.
  struct Losses {
    std::vector<double> main, mtp, balance;
    double sum_main() const { return sum(main); }
    double sum_mtp(size_t depth, size_t sequences) const {
      return sum({mtp.begin() + static_cast<long>(depth * sequences),
                  mtp.begin() + static_cast<long>((depth + 1) * sequences)});
    }
    double sum_balance() const { return sum(balance); }
    static double sum(const std::vector<double>& v) {
      double s = 0;
      for (double x : v) s += x;
      return s;
    }
  };
  Losses train(const MicroBatch& batch, const LossCoefficients& coefficients) {
    Losses out;
    const int64_t b = batch.sequences.count, depth = network.shape().num_nextn_predict_layers;
    out.main.resize(static_cast<size_t>(b));
    out.balance.resize(static_cast<size_t>(b));
    out.mtp.resize(static_cast<size_t>(b * depth));
    const MicroBatchLosses losses{vec(out.main.data(), b), mat(out.mtp.data(), depth, b), vec(out.balance.data(), b)};
    run([&](Context& context, Arena& saved) {
      network.train(context, saved, weights(), batch, coefficients, grads.data(), losses, counts_LE());
    });
    return out;
  }

  std::vector<float> logits(const MicroBatch& batch, int64_t first, int64_t count) {
    std::vector<float> out(static_cast<size_t>(count * network.shape().vocab_size));
    run([&](Context& context, Arena& saved) {
      network.logits(context, saved, weights(), batch, first, mat(out.data(), count, network.shape().vocab_size));
    });
    return out;
  }

  std::vector<double> evaluate(const MicroBatch& batch) {
    std::vector<double> out(static_cast<size_t>(batch.sequences.count));
    run([&](Context& context, Arena& saved) {
      network.evaluate(context, saved, weights(), batch, vec(out.data(), batch.sequences.count));
    });
    return out;
  }

 private:
  // Measures, allocates exactly that, runs: asking for one byte more than measured would be an error.
  template <class Work>
  void run(const Work& work) {
    Arena measured_saved = Arena::measuring(), measured_scratch = Arena::measuring();
    Context dry{Stream::dry(pool_), measured_scratch, segments_};
    work(dry, measured_saved);
    saved_ = std::make_unique<Arena>("saved", measured_saved.peak());
    scratch_ = std::make_unique<Arena>("scratch", measured_scratch.peak());
    Context context{Stream(pool_, isa_), *scratch_, segments_};
    work(context, *saved_);
  }

  ThreadPool pool_;
  Isa isa_;
  int64_t segments_;
  LocalTokenExchange exchange_;
  std::unique_ptr<Arena> saved_, scratch_;  // kept, so that what a layer saved can be looked at

 public:
  Network network;
  std::vector<float> params, biases, grads;
  std::vector<int64_t> counts;
};

}  // namespace tael::testing
