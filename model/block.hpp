// One transformer layer: h = x + attention(norm(x)), y = h + ffn(norm(h)), the FFN dense or a mixture of experts.
//
// The saved struct is the memory of a layer between forward and backward; the deferred struct holds the gradients
// between the input half and the weight half of backward, which a schedule may put apart.
#pragma once

#include "model/mla.hpp"
#include "model/moe.hpp"

namespace tael {

template <class T>
struct BlockParams {
  bool moe = false;
  Vec<T> input_norm, post_attention_norm;
  MlaParams<T> attention;
  FfnParams<T> ffn;  // of a dense layer
  MoeParams<T> experts;
};

// biases: the array of gate biases (ParamTable), or nullptr where T is a gradient.
template <class T>
BlockParams<T> bind(const LayerLayout& layout, const ModelShape& shape, T* base, const float* biases);

struct BlockSaved {
  Mat<const float> x_TH;  // the layer's input, owned by whoever made it
  Mat<float> x_norm_TH, h_TH, h_norm_TH;
  Vec<float> x_r_T, h_r_T;
  MlaSaved attention;
  FfnSaved ffn;
  MoeSaved moe;
};

struct BlockDeferred {
  Mat<float> dh_TH, dx_norm_TH, dh_norm_TH;
  MlaDeferred attention;
  FfnDeferred ffn;
  MoeDeferred moe;
};

// What every layer of a micro-batch shares.
struct BlockInputs {
  const ModelShape& shape;
  Sequences sequences;
  const RotaryTable& rotary;
  const TokenExchange& exchange;
  Vec<const int32_t> document_start_T;  // may be empty
  double balance_coefficient = 0.0;     // alpha / sequences of the global batch
};

struct Block {
  static BlockSaved plan(Arena& arena, const ModelShape& shape, const Sequences& sequences, bool moe);
  static BlockDeferred plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences, bool moe);

  // counts_E and balance_B are added to; unused in a dense layer.
  static void forward(Context& context, const BlockInputs& in, const BlockParams<const float>& params,
                      BlockSaved& saved, Vec<int64_t> counts_E, Vec<double> balance_B, Mat<const float> x,
                      Mat<float> y);
  // dx overwritten. dy must stay until the weight half has run.
  static void backward_input(Context& context, const BlockInputs& in, const BlockParams<const float>& params,
                             const BlockSaved& saved, BlockDeferred& deferred, Mat<const float> dy, Mat<float> dx);
  static void backward_weight(Context& context, const BlockInputs& in, const BlockSaved& saved,
                              const BlockDeferred& deferred, const BlockParams<float>& grads);
};

}  // namespace tael
