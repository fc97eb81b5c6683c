#include "model/decoder.hpp"

#include <algorithm>

#include "kernels/embedding.hpp"
#include "kernels/rms_norm.hpp"
#include "model/linear.hpp"
#include "model/mla_cache.hpp"

namespace tael {

Decoder::Decoder(Arena& memory, const ParamTable& table, const TokenExchange& exchange, int64_t positions)
    : table_(table), exchange_(exchange), rotary_(plan_rotary(memory, table.shape, positions)) {
  const ModelShape& shape = table.shape;
  for (size_t l = 0; l < table.layers.size(); ++l) cache_.push_back(MlaCache::plan(memory, shape, positions));
  head_E1_ = memory.vec<int64_t>(shape.num_attention_heads + 1);
  counts_E_ = memory.vec<int64_t>(std::max<int64_t>(shape.n_routed_experts, 1));
  balance_B_ = memory.vec<double>(1);
  if (memory.is_measuring()) return;
  fill_rotary(rotary_, shape);
  for (int64_t h = 0; h < head_E1_.dim[0]; ++h) head_E1_(h) = h;
}

void Decoder::extend(Context& context, const Weights& weights, Vec<const int32_t> token_T, Mat<float> logits_RV) {
  const ModelShape& shape = table_.shape;
  const int64_t tokens = token_T.dim[0], hidden = shape.hidden_size, scored = logits_RV.dim[0];
  CHECK(tokens >= 1 && tokens <= positions() - length_ && scored <= tokens, "{} tokens at {} of {}", tokens, length_,
        positions());
  ArenaScope scope(context.scratch);
  Arena& scratch = context.scratch;
  const Sequences sequences{1, tokens};
  Mat<float> x = scratch.mat<float>(tokens, hidden), y = scratch.mat<float>(tokens, hidden);
  const Mat<float> h = scratch.mat<float>(tokens, hidden), norm = scratch.mat<float>(tokens, hidden);
  embedding_forward(context.stream, {.y_TD = x,
                                     .table_VD = mat(weights.params + table_.embedding, shape.vocab_size, hidden),
                                     .token_BS = mat(token_T.data, 1, tokens),
                                     .sequence_length = tokens});
  for (size_t l = 0; l < table_.layers.size(); ++l) {
    ArenaScope layer_scope(scratch);
    const BlockParams<const float> params = bind(table_.layers[l], shape, weights.params, weights.biases);
    rms_norm_forward(context.stream,
                     {.y_TD = norm, .r_T = {}, .x_TD = x, .gain_D = params.input_norm, .eps = shape.rms_norm_eps});
    MlaCache::forward(context, shape, rotary_, params.attention, head_E1_, cache_[l], length_, norm, x, h);
    rms_norm_forward(
        context.stream,
        {.y_TD = norm, .r_T = {}, .x_TD = h, .gain_D = params.post_attention_norm, .eps = shape.rms_norm_eps});
    if (params.moe) {
      const MoeSaved saved = Moe::plan(scratch, shape, sequences);
      Moe::forward(context, shape, sequences, exchange_, params.experts, saved, counts_E_, balance_B_, norm, h, y);
    } else {
      const FfnSaved saved = DenseFfn::plan(scratch, shape.intermediate_size, tokens);
      DenseFfn::forward(context, params.ffn, saved, norm, h, y);
    }
    std::swap(x, y);
  }
  if (scored > 0) {
    const Mat<float> last = rows(norm, 0, scored);
    rms_norm_forward(context.stream, {.y_TD = last,
                                      .r_T = {},
                                      .x_TD = rows(x, tokens - scored, tokens),
                                      .gain_D = vec(weights.params + table_.final_norm, hidden),
                                      .eps = shape.rms_norm_eps});
    linear_forward(context, logits_RV, last, mat(weights.params + table_.head, shape.vocab_size, hidden));
  }
  length_ += tokens;
}

}  // namespace tael
