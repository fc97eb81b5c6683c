#include "model/network.hpp"

#include <cmath>

#include "kernels/embedding.hpp"
#include "kernels/rms_norm.hpp"
#include "model/embedding_head.hpp"
#include "model/linear.hpp"

namespace tael {

namespace {

size_t index(int64_t i) { return static_cast<size_t>(i); }

void zero(Context& context, Vec<double> v) {
  context.stream.enqueue([&] {
    for (int64_t i = 0; i < v.dim[0]; ++i) v(i) = 0.0;
  });
}

void zero(Context& context, Mat<float> m) {
  context.stream.enqueue([&] {
    context.stream.pool().parallel_for(m.dim[0], [&](int64_t row, int) {
      for (int64_t i = 0; i < m.dim[1]; ++i) m(row, i) = 0.0f;
    });
  });
}

Vec<int64_t> counts_of(const LayerLayout& layer, Mat<int64_t> counts_LE) {
  return layer.moe ? vec(counts_LE.row(layer.moe_index), counts_LE.dim[1]) : Vec<int64_t>{};
}

bool all_finite(Mat<const float> m) {
  for (int64_t r = 0; r < m.dim[0]; ++r) {
    for (int64_t c = 0; c < m.dim[1]; ++c) {
      if (!std::isfinite(m(r, c))) return false;
    }
  }
  return true;
}

}  // namespace

Network::Network(const ModelShape& shape, MtpHidden mtp_hidden, const TokenExchange& exchange, int64_t positions)
    : table_(make_param_table(shape)),
      mtp_hidden_(mtp_hidden),
      exchange_(exchange),
      tables_([&] {
        Arena measuring = Arena::measuring();
        plan_rotary(measuring, shape, positions);
        return Arena("rotary tables", measuring.used());
      }()),
      rotary_(plan_rotary(tables_, shape, positions)),
      blocks_(index(shape.num_hidden_layers)),
      mtp_(index(shape.num_nextn_predict_layers)),
      x_(index(shape.num_hidden_layers + 1)),
      dpost_(mtp_.size()),
      dout_(mtp_.size()) {
  fill_rotary(rotary_, shape);
}

BlockInputs Network::inputs(const MicroBatch& batch, double balance_coefficient) const {
  CHECK(batch.sequences.length <= rotary_.cos_SJ.dim[0], "a sequence of {} tokens", batch.sequences.length);
  return {table_.shape, batch.sequences, rotary_, exchange_, batch.document_start_T, balance_coefficient};
}

void Network::train(Context& context, Arena& saved, const Weights& weights, const MicroBatch& batch,
                    const LossCoefficients& coefficients, float* grads, const MicroBatchLosses& losses,
                    Mat<int64_t> counts_LE) {
  ArenaScope saved_scope(saved), scratch_scope(context.scratch);
  const ModelShape& shape = table_.shape;
  const BlockInputs in = inputs(batch, coefficients.balance);
  const int64_t tokens = batch.sequences.tokens(), hidden = shape.hidden_size, vocabulary = shape.vocab_size;
  const int64_t layers = shape.num_hidden_layers, depths = shape.num_nextn_predict_layers;
  const Mat<const float> embedding = mat(weights.params + table_.embedding, vocabulary, hidden);
  const Mat<const float> head = mat(weights.params + table_.head, vocabulary, hidden);
  const Vec<const float> final_norm = vec(weights.params + table_.final_norm, hidden);

  zero(context, losses.main_B);
  zero(context, losses.balance_B);
  for (int64_t k = 0; k < depths; ++k) zero(context, vec(losses.mtp_DB.row(k), losses.mtp_DB.dim[1]));

  // Forward.
  x_[0] = saved.mat<float>(tokens, hidden);
  embedding_forward(
      context.stream,
      {.y_TD = x_[0], .table_VD = embedding, .token_BS = batch.token_BS, .sequence_length = batch.sequences.length});
  for (int64_t l = 0; l < layers; ++l) {
    const LayerLayout& layout = table_.layers[index(l)];
    blocks_[index(l)] = Block::plan(saved, shape, batch.sequences, layout.moe);
    x_[index(l + 1)] = saved.mat<float>(tokens, hidden);
    Block::forward(context, in, bind(layout, shape, weights.params, weights.biases), blocks_[index(l)],
                   counts_of(layout, counts_LE), losses.balance_B, x_[index(l)], x_[index(l + 1)]);
  }
  const Mat<float> last = x_[index(layers)];
  hidden_TH_ = saved.mat<float>(tokens, hidden);
  hidden_r_T_ = saved.vec<float>(tokens);
  rms_norm_forward(
      context.stream,
      {.y_TD = hidden_TH_, .r_T = hidden_r_T_, .x_TD = last, .gain_D = final_norm, .eps = shape.rms_norm_eps});
  const bool after = mtp_hidden_ == MtpHidden::after_final_norm;
  for (int64_t k = 0; k < depths; ++k) {
    const MtpLayout& layout = table_.mtp[index(k)];
    mtp_[index(k)] = Mtp::plan(saved, shape, batch.sequences, layout.layer.moe);
    const Mat<float> first = after ? hidden_TH_ : last;
    const Mat<float> previous = k == 0 ? first : (after ? mtp_[index(k - 1)].post_TH : mtp_[index(k - 1)].out_TH);
    Mtp::forward(context, in, bind(layout, shape, weights.params, weights.biases), embedding, mtp_[index(k)],
                 batch.token_BS, k + 1, counts_of(layout.layer, counts_LE), losses.balance_B, previous);
  }

  // Heads: losses and the gradients of what they read.
  const Mat<float> dhidden = saved.mat<float>(tokens, hidden);
  head_loss_and_grad(context, batch.sequences, {.token_BS = batch.token_BS, .shift = 1, .unscored = 0}, hidden_TH_,
                     head, losses.main_B, coefficients.main, dhidden,
                     mat(grads + table_.head_gradient, vocabulary, hidden));
  for (int64_t k = 0; k < depths; ++k) {
    dpost_[index(k)] = saved.mat<float>(tokens, hidden);
    head_loss_and_grad(context, batch.sequences, {.token_BS = batch.token_BS, .shift = k + 2, .unscored = k + 1},
                       mtp_[index(k)].post_TH, head, vec(losses.mtp_DB.row(k), losses.mtp_DB.dim[1]), coefficients.mtp,
                       dpost_[index(k)], mat(grads + table_.mtp_head_gradient[index(k)], vocabulary, hidden));
  }

  // Backward: MTP from the deepest, then the layers from the last. dx and dy change places from layer to layer.
  Mat<float> dy = saved.mat<float>(tokens, hidden), dx = saved.mat<float>(tokens, hidden);
  const Mat<float> dlast_extra = depths > 0 && !after ? saved.mat<float>(tokens, hidden) : Mat<float>{};
  if (dlast_extra) zero(context, dlast_extra);
  for (int64_t k = depths - 1; k >= 0; --k) {
    ArenaScope scope(context.scratch);
    const MtpLayout& layout = table_.mtp[index(k)];
    const bool has_next = k + 1 < depths;
    if (k > 0 && !after) {
      dout_[index(k - 1)] = context.scratch.mat<float>(tokens, hidden);
      zero(context, dout_[index(k - 1)]);
    }
    const Mat<float> dprevious =
        k == 0 ? (after ? dhidden : dlast_extra) : (after ? dpost_[index(k - 1)] : dout_[index(k - 1)]);
    MtpDeferred deferred = Mtp::plan_deferred(context.scratch, shape, batch.sequences, layout.layer.moe);
    Mtp::backward_input(context, in, bind(layout, shape, weights.params, weights.biases), mtp_[index(k)], deferred,
                        dpost_[index(k)], has_next && !after ? dout_[index(k)] : Mat<float>{}, dprevious);
    Mtp::backward_weight(context, in, mtp_[index(k)], deferred, batch.token_BS, k + 1,
                         bind(layout, shape, grads, nullptr),
                         mat(grads + table_.mtp_embedding_gradient[index(k)], vocabulary, hidden));
  }
  if (dlast_extra) copy_rows(context.stream, {.y_MN = dy, .x_MN = dlast_extra});
  rms_norm_input_grad(context.stream, {.dx_TD = dy,
                                       .dy_TD = dhidden,
                                       .x_TD = last,
                                       .r_T = hidden_r_T_,
                                       .gain_D = final_norm,
                                       .accumulate = static_cast<bool>(dlast_extra)});
  rms_norm_weight_grad(context.stream, {.dgain_D = vec(grads + table_.final_norm, hidden),
                                        .dy_TD = dhidden,
                                        .x_TD = last,
                                        .r_T = hidden_r_T_,
                                        .sequence_length = batch.sequences.length,
                                        .pieces = context.segments});
  for (int64_t l = layers - 1; l >= 0; --l) {
    ArenaScope scope(context.scratch);
    const LayerLayout& layout = table_.layers[index(l)];
    BlockDeferred deferred = Block::plan_deferred(context.scratch, shape, batch.sequences, layout.moe);
    Block::backward_input(context, in, bind(layout, shape, weights.params, weights.biases), blocks_[index(l)], deferred,
                          dy, dx);
    Block::backward_weight(context, in, blocks_[index(l)], deferred, bind(layout, shape, grads, nullptr));
    std::swap(dx, dy);
  }
  embedding_grad(context.stream, {.dtable_VD = mat(grads + table_.embedding, vocabulary, hidden),
                                  .dy_TD = dy,
                                  .token_BS = batch.token_BS,
                                  .sequence_length = batch.sequences.length});
}

void Network::forward_only(Context& context, Arena& saved, const Weights& weights, const MicroBatch& batch,
                           Mat<float> hidden_TH) {
  const ModelShape& shape = table_.shape;
  const BlockInputs in = inputs(batch, 0.0);
  const int64_t tokens = batch.sequences.tokens(), hidden = shape.hidden_size;
  // Nothing is kept for backward: two residual streams change places, and every layer takes the same memory.
  Mat<float> x = saved.mat<float>(tokens, hidden), y = saved.mat<float>(tokens, hidden);
  const Vec<int64_t> counts = saved.vec<int64_t>(std::max<int64_t>(shape.n_routed_experts, 1));
  const Vec<double> balance = saved.vec<double>(batch.sequences.count);
  const Vec<float> r_T = saved.vec<float>(tokens);
  embedding_forward(context.stream, {.y_TD = x,
                                     .table_VD = mat(weights.params + table_.embedding, shape.vocab_size, hidden),
                                     .token_BS = batch.token_BS,
                                     .sequence_length = batch.sequences.length});
  for (const LayerLayout& layout : table_.layers) {
    ArenaScope scope(saved);
    BlockSaved block = Block::plan(saved, shape, batch.sequences, layout.moe);
    Block::forward(context, in, bind(layout, shape, weights.params, weights.biases), block, counts, balance, x, y);
    std::swap(x, y);
  }
  rms_norm_forward(context.stream, {.y_TD = hidden_TH,
                                    .r_T = r_T,
                                    .x_TD = x,
                                    .gain_D = vec(weights.params + table_.final_norm, hidden),
                                    .eps = shape.rms_norm_eps});
}

void Network::evaluate(Context& context, Arena& saved, const Weights& weights, const MicroBatch& batch,
                       Vec<double> loss_B) {
  ArenaScope saved_scope(saved), scratch_scope(context.scratch);
  const int64_t hidden = table_.shape.hidden_size;
  const Mat<float> hidden_TH = saved.mat<float>(batch.sequences.tokens(), hidden);
  forward_only(context, saved, weights, batch, hidden_TH);
  zero(context, loss_B);
  head_loss(context, batch.sequences, {.token_BS = batch.token_BS, .shift = 1, .unscored = 0}, hidden_TH,
            mat(weights.params + table_.head, table_.shape.vocab_size, hidden), loss_B);
}

void Network::logits(Context& context, Arena& saved, const Weights& weights, const MicroBatch& batch, int64_t first,
                     Mat<float> logits_RV) {
  ArenaScope saved_scope(saved), scratch_scope(context.scratch);
  const int64_t hidden = table_.shape.hidden_size;
  const Mat<float> hidden_TH = saved.mat<float>(batch.sequences.tokens(), hidden);
  forward_only(context, saved, weights, batch, hidden_TH);
  linear_forward(context, logits_RV, rows(hidden_TH, first, first + logits_RV.dim[0]),
                 mat(weights.params + table_.head, table_.shape.vocab_size, hidden));
}

int64_t Network::first_nonfinite_layer() const {
  if (!all_finite(x_[0])) return kEmbedding;
  for (size_t l = 0; l + 1 < x_.size(); ++l) {
    if (!all_finite(x_[l + 1])) return static_cast<int64_t>(l);
  }
  if (!all_finite(hidden_TH_)) return kFinalNorm;
  for (size_t k = 0; k < mtp_.size(); ++k) {
    if (!all_finite(mtp_[k].out_TH)) return static_cast<int64_t>(blocks_.size() + k);
  }
  return -1;
}

}  // namespace tael
