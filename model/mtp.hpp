// Multi-token prediction, depth k (DeepSeek-V3 report 2.2, eq. 21-23): a whole layer on top of the model's hidden state
// and the embedding of the token k places ahead.
//
//   x = [ norm_e(embedding(t + k)) | norm_h(previous hidden) ] eh_proj^T     (embedding half first, as released)
//   out = block(x);  post = shared_head.norm(out);  logits = post head^T
//
// The next depth reads `post` (MtpHidden::after_final_norm) or `out` (before_final_norm), just as depth 1 reads the
// main model's hidden state after or before its final norm. Positions are not shifted with the tokens.
#pragma once

#include "model/block.hpp"

namespace tael {

template <class T>
struct MtpParams {
  Vec<T> enorm, hnorm, head_norm;
  Mat<T> eh_proj;  // [H, 2H]
  BlockParams<T> block;
};

template <class T>
MtpParams<T> bind(const MtpLayout& layout, const ModelShape& shape, T* base, const float* biases);

struct MtpSaved {
  Mat<const float> hidden_TH;  // of the previous depth, owned by it
  Mat<float> embedding_TH, joined_T2H, x_TH, out_TH, post_TH;
  Vec<float> embedding_r_T, hidden_r_T, out_r_T;
  BlockSaved block;
};

struct MtpDeferred {
  Mat<const float> dpost_TH;
  Mat<float> dout_TH, dx_TH, djoined_T2H, dembedding_TH;
  BlockDeferred block;
};

struct Mtp {
  static MtpSaved plan(Arena& arena, const ModelShape& shape, const Sequences& sequences, bool moe);
  static MtpDeferred plan_deferred(Arena& arena, const ModelShape& shape, const Sequences& sequences, bool moe);

  static void forward(Context& context, const BlockInputs& in, const MtpParams<const float>& params,
                      Mat<const float> embedding_VH, MtpSaved& saved, Mat<const int32_t> token_BS, int64_t depth,
                      Vec<int64_t> counts_E, Vec<double> balance_B, Mat<const float> hidden);
  // dpost: gradient of `post`. dout_extra: gradient of `out` from the next depth, or empty. dhidden += the gradient of
  // the previous hidden state. dpost must stay until the weight half has run.
  static void backward_input(Context& context, const BlockInputs& in, const MtpParams<const float>& params,
                             const MtpSaved& saved, MtpDeferred& deferred, Mat<const float> dpost,
                             Mat<const float> dout_extra, Mat<float> dhidden);
  static void backward_weight(Context& context, const BlockInputs& in, const MtpSaved& saved,
                              const MtpDeferred& deferred, Mat<const int32_t> token_BS, int64_t depth,
                              const MtpParams<float>& grads, Mat<float> dembedding_VH);
};

}  // namespace tael
