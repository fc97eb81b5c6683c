// The whole model: forward and backward of one micro-batch, on whatever memory it is given. Knows nothing of ranks,
// steps or optimizers; what it adds to (gradients, counts) belongs to the caller.
//
// A micro-batch is a number of whole sequences. Losses come back per sequence and gradients are accumulated in token
// order, so nothing depends on how a global batch is cut into micro-batches. All memory comes from two arenas: `saved`
// lives from forward to backward, `scratch` (in the context) inside a layer. Run on Stream::dry with measuring arenas,
// the same functions measure what they will need.
#pragma once

#include <vector>

#include "model/block.hpp"
#include "model/mtp.hpp"
#include "model/param_table.hpp"
#include "model/rotary.hpp"
#include "model/token_exchange.hpp"

namespace tael {

struct Weights {
  const float* params = nullptr;  // ParamTable::size() numbers
  const float* biases = nullptr;  // ParamTable::bias_size() numbers
};

struct MicroBatch {
  Sequences sequences;
  Mat<const int32_t> token_BS;          // at least length + 1 + depth columns; all in the vocabulary
  Vec<const int32_t> document_start_T;  // empty: attention crosses documents
};

struct LossCoefficients {
  double main = 0.0;     // 1 / tokens of the global batch
  double mtp = 0.0;      // lambda / depth / tokens of the global batch
  double balance = 0.0;  // alpha / sequences of the global batch
};

struct MicroBatchLosses {  // overwritten
  Vec<double> main_B;      // sums over a sequence's tokens
  Mat<double> mtp_DB;
  Vec<double> balance_B;  // sum over layers of sum over experts of f P, without alpha
};

class Network {
 public:
  // positions: the longest sequence that will be seen.
  Network(const ModelShape& shape, MtpHidden mtp_hidden, const TokenExchange& exchange, int64_t positions);

  const ParamTable& table() const { return table_; }
  const ModelShape& shape() const { return table_.shape; }

  // grads (ParamTable::gradient_size() numbers) and counts_LE (moe_layers rows) are added to.
  void train(Context& context, Arena& saved, const Weights& weights, const MicroBatch& batch,
             const LossCoefficients& coefficients, float* grads, const MicroBatchLosses& losses,
             Mat<int64_t> counts_LE);

  // Main head only. loss_B(b) overwritten: the sum over the sequence's tokens.
  void evaluate(Context& context, Arena& saved, const Weights& weights, const MicroBatch& batch, Vec<double> loss_B);
  // Needs `length` columns of tokens only. logits_RV gets the rows [first, first + R) of the micro-batch's tokens.
  void logits(Context& context, Arena& saved, const Weights& weights, const MicroBatch& batch, int64_t first,
              Mat<float> logits_RV);

  // After train, until the next call: what each layer kept, and the first layer whose output is not finite
  // (num_hidden_layers + k: MTP module k; kEmbedding: what goes into layer 0 is not; kFinalNorm: the layers' are, but
  // not the final norm's; -1: all are).
  static constexpr int64_t kFinalNorm = -2, kEmbedding = -3;
  const std::vector<BlockSaved>& blocks() const { return blocks_; }
  const std::vector<MtpSaved>& mtp() const { return mtp_; }
  int64_t first_nonfinite_layer() const;

 private:
  BlockInputs inputs(const MicroBatch& batch, double balance_coefficient) const;
  void forward_only(Context& context, Arena& saved, const Weights& weights, const MicroBatch& batch,
                    Mat<float> hidden_TH);

  ParamTable table_;
  MtpHidden mtp_hidden_;
  const TokenExchange& exchange_;
  Arena tables_;
  RotaryTable rotary_;
  std::vector<BlockSaved> blocks_;
  std::vector<MtpSaved> mtp_;
  std::vector<Mat<float>> x_;      // x_[l]: input of layer l; the last: output of the last layer
  std::vector<Mat<float>> dpost_;  // gradient of each MTP depth's post, and
  std::vector<Mat<float>> dout_;   // of its block's output, from the next depth
  Mat<float> hidden_TH_;           // after the final norm
  Vec<float> hidden_r_T_;
};

}  // namespace tael
