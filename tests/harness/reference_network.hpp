// The whole model in plain loops over a scalar, composed of the kernels' references: what model/network.cpp means. With
// a recording scalar (oracle.hpp) it yields the exact gradient of the total loss with respect to every parameter.
#pragma once

#include <vector>

#include "kernels/attention_reference.hpp"
#include "kernels/cross_entropy_reference.hpp"
#include "kernels/rms_norm_reference.hpp"
#include "kernels/rope_reference.hpp"
#include "kernels/route_topk_reference.hpp"
#include "kernels/swiglu_reference.hpp"
#include "model/network.hpp"
#include "model/router.hpp"

namespace tael::testing {

template <class T>
struct Numbers {  // an owned matrix
  Numbers(int64_t rows, int64_t cols)
      : values(static_cast<size_t>(rows * cols)), view(mat(values.data(), rows, cols)) {}
  Numbers(const Numbers& other) : values(other.values), view(other.view) { view.data = values.data(); }
  Numbers& operator=(const Numbers& other) {
    values = other.values;
    view = other.view;
    view.data = values.data();
    return *this;
  }
  std::vector<T> values;
  Mat<T> view;
};

template <class T>
class ReferenceNetwork {
 public:
  ReferenceNetwork(const ParamTable& table, MtpHidden mtp_hidden, const std::vector<T>& params,
                   const std::vector<float>& biases)
      : table_(table), shape_(table.shape), mtp_hidden_(mtp_hidden), params_(params), biases_(biases) {}

  struct Losses {
    T main = T(0), balance = T(0), total = T(0);
    std::vector<T> mtp;
  };

  // tokens [B, S + 1 + depth]; coefficients as in model/network.hpp.
  Losses losses(Mat<const int32_t> tokens, int64_t length, Vec<const int32_t> document_start,
                const LossCoefficients& coefficients) {
    sequences_ = {tokens.dim[0], length};
    document_start_ = document_start;
    const int64_t count = sequences_.tokens();
    Losses out;
    Numbers<T> x(count, shape_.hidden_size);
    embed(x, tokens, 0);
    for (size_t l = 0; l < table_.layers.size(); ++l) x = block(table_.layers[l], x, out.balance);
    Numbers<T> hidden = norm(x, table_.final_norm, shape_.rms_norm_eps);
    out.main = head(hidden, tokens, 1, 0);
    out.total = out.main * T(coefficients.main);
    const bool after = mtp_hidden_ == MtpHidden::after_final_norm;
    Numbers<T> previous = after ? hidden : x;
    for (size_t k = 0; k < table_.mtp.size(); ++k) {
      const MtpLayout& mtp = table_.mtp[k];
      Numbers<T> embedding(count, shape_.hidden_size);
      embed(embedding, tokens, static_cast<int64_t>(k) + 1);
      const Numbers<T> e = norm(embedding, mtp.enorm, shape_.rms_norm_eps);
      const Numbers<T> h = norm(previous, mtp.hnorm, shape_.rms_norm_eps);
      Numbers<T> joined(count, 2 * shape_.hidden_size);
      for (int64_t t = 0; t < count; ++t) {
        for (int64_t i = 0; i < shape_.hidden_size; ++i) {
          joined.view(t, i) = e.view(t, i);
          joined.view(t, shape_.hidden_size + i) = h.view(t, i);
        }
      }
      const Numbers<T> output = block(mtp.layer, linear(joined, mtp.eh_proj, shape_.hidden_size), out.balance);
      const Numbers<T> post = norm(output, mtp.head_norm, shape_.rms_norm_eps);
      out.mtp.push_back(head(post, tokens, static_cast<int64_t>(k) + 2, static_cast<int64_t>(k) + 1));
      out.total += out.mtp.back() * T(coefficients.mtp);
      previous = after ? post : output;
    }
    out.total += out.balance * T(coefficients.balance);
    return out;
  }

 private:
  Vec<const T> vector(int64_t offset, int64_t size) const { return vec(params_.data() + offset, size); }

  void embed(Numbers<T>& x, Mat<const int32_t> tokens, int64_t shift) const {
    for (int64_t t = 0; t < x.view.dim[0]; ++t) {
      const int64_t token = tokens(t / sequences_.length, t % sequences_.length + shift);
      for (int64_t i = 0; i < shape_.hidden_size; ++i)
        x.view(t, i) = params_[static_cast<size_t>(table_.embedding + token * shape_.hidden_size + i)];
    }
  }

  Numbers<T> linear(const Numbers<T>& x, int64_t offset, int64_t outputs) const {
    const int64_t inputs = x.view.dim[1];
    Numbers<T> y(x.view.dim[0], outputs);
    for (int64_t t = 0; t < y.view.dim[0]; ++t) {
      for (int64_t n = 0; n < outputs; ++n) {
        T sum = T(0);
        for (int64_t k = 0; k < inputs; ++k)
          sum += x.view(t, k) * params_[static_cast<size_t>(offset + n * inputs + k)];
        y.view(t, n) = sum;
      }
    }
    return y;
  }

  Numbers<T> norm(const Numbers<T>& x, int64_t gain, double eps) const {
    Numbers<T> y(x.view.dim[0], x.view.dim[1]);
    reference::rms_norm_forward<T>(
        {.y_TD = y.view, .r_T = {}, .x_TD = x.view, .gain_D = vector(gain, x.view.dim[1]), .eps = eps});
    return y;
  }

  static Numbers<T> cut(const Numbers<T>& x, int64_t begin, int64_t end) {
    Numbers<T> y(x.view.dim[0], end - begin);
    for (int64_t t = 0; t < y.view.dim[0]; ++t)
      for (int64_t i = begin; i < end; ++i) y.view(t, i - begin) = x.view(t, i);
    return y;
  }

  static void add(Numbers<T>& y, const Numbers<T>& x) {
    for (size_t i = 0; i < y.values.size(); ++i) y.values[i] += x.values[i];
  }

  void rotate(Numbers<T>& x, int64_t heads, int64_t head_dim, int64_t offset) const {
    const std::vector<double> frequency = rotary_frequencies(shape_);
    const double factor = rotary_table_factor(shape_);
    const int64_t pairs = shape_.qk_rope_head_dim / 2;
    Numbers<T> cosine(sequences_.length, pairs), sine(sequences_.length, pairs);
    for (int64_t s = 0; s < sequences_.length; ++s) {
      for (int64_t j = 0; j < pairs; ++j) {
        const double angle = static_cast<double>(s) * frequency[static_cast<size_t>(j)];
        cosine.view(s, j) = T(std::cos(angle) * factor);
        sine.view(s, j) = T(std::sin(angle) * factor);
      }
    }
    reference::rope<T>({.x_TD = x.view,
                        .cos_SJ = cosine.view,
                        .sin_SJ = sine.view,
                        .heads = heads,
                        .head_dim = head_dim,
                        .offset = offset});
  }

  Numbers<T> attention(const AttentionLayout& layout, const Numbers<T>& x) const {
    const int64_t heads = shape_.num_attention_heads, count = x.view.dim[0];
    const int64_t q_width = heads * shape_.qk_head_dim();
    const int64_t kv_width = heads * (shape_.qk_nope_head_dim + shape_.v_head_dim);
    const int64_t query = shape_.q_lora_rank ? *shape_.q_lora_rank : q_width;
    const int64_t latent = shape_.kv_lora_rank, rope = shape_.qk_rope_head_dim;
    const Numbers<T> down = linear(x, layout.down, query + latent + rope);
    Numbers<T> q = cut(down, 0, query);
    if (shape_.q_lora_rank) q = linear(norm(q, layout.q_a_norm, kLatentNormEps), layout.q_b, q_width);
    const Numbers<T> kv =
        linear(norm(cut(down, query, query + latent), layout.kv_a_norm, kLatentNormEps), layout.kv_b, kv_width);
    Numbers<T> k_rope = cut(down, query + latent, query + latent + rope);
    rotate(q, heads, shape_.qk_head_dim(), shape_.qk_nope_head_dim);
    rotate(k_rope, 1, rope, 0);
    Numbers<T> o(count, heads * shape_.v_head_dim), lse(count, heads);
    reference::attention_forward<T>({.o_TX = o.view,
                                     .lse_TH = lse.view,
                                     .q_TX = q.view,
                                     .kv_TX = kv.view,
                                     .k_rope_TR = k_rope.view,
                                     .document_start_T = document_start_,
                                     .shape = {.heads = heads,
                                               .nope = shape_.qk_nope_head_dim,
                                               .rope = rope,
                                               .value = shape_.v_head_dim,
                                               .sequence_length = sequences_.length,
                                               .scale = attention_scale(shape_)}});
    return linear(o, layout.o, shape_.hidden_size);
  }

  Numbers<T> ffn(const FfnLayout& layout, int64_t shift, int64_t width, const Numbers<T>& x) const {
    const Numbers<T> gate_up = linear(x, layout.gate_up + shift, 2 * width);
    Numbers<T> a(x.view.dim[0], width);
    reference::swiglu_forward<T>({.a_TF = a.view, .gu_T2F = gate_up.view, .weight_T = {}});
    return linear(a, layout.down + shift, shape_.hidden_size);
  }

  // Every expert computes every token; a token's weight for an expert it did not choose is zero.
  Numbers<T> moe(const LayerLayout& layout, const Numbers<T>& x, T& balance) const {
    const int64_t count = x.view.dim[0], experts = shape_.n_routed_experts, k = shape_.num_experts_per_tok;
    const Numbers<T> logit = linear(x, layout.gate, experts);
    Numbers<T> weight(count, k), score(count, experts);
    std::vector<int32_t> chosen(static_cast<size_t>(count * k));
    std::vector<int64_t> counts(static_cast<size_t>(experts));
    std::vector<T> bias;
    if (layout.gate_bias >= 0)
      for (int64_t e = 0; e < experts; ++e)
        bias.push_back(T(static_cast<double>(biases_[static_cast<size_t>(layout.gate_bias + e)])));
    const Mat<int32_t> expert = mat(chosen.data(), count, k);
    reference::route_forward<T>({.expert_TK = expert,
                                 .weight_TK = weight.view,
                                 .score_TE = score.view,
                                 .counts_E = vec(counts.data(), experts),
                                 .logit_TE = logit.view,
                                 .bias_E = bias.empty() ? Vec<const T>{} : vec<const T>(bias.data(), experts),
                                 .options = route_options(shape_)});
    for (int64_t b = 0; b < sequences_.count; ++b) {
      const Mat<const T> of_sequence = rows(score.view, b * sequences_.length, (b + 1) * sequences_.length);
      balance += reference::balance_loss<T>(of_sequence, reference::balance_fraction<T>(of_sequence, k));
    }
    Numbers<T> y(count, shape_.hidden_size);
    for (T& v : y.values) v = T(0);
    for (int64_t e = 0; e < experts; ++e) {
      if (counts[static_cast<size_t>(e)] == 0) continue;
      const Numbers<T> out = ffn(layout.experts, e * layout.expert_stride, shape_.moe_intermediate_size, x);
      for (int64_t t = 0; t < count; ++t)
        for (int64_t j = 0; j < k; ++j)
          if (expert(t, j) == e)
            for (int64_t i = 0; i < shape_.hidden_size; ++i) y.view(t, i) += weight.view(t, j) * out.view(t, i);
    }
    if (shape_.n_shared_experts > 0) add(y, ffn(layout.ffn, 0, shape_.shared_width(), x));
    return y;
  }

  Numbers<T> block(const LayerLayout& layout, const Numbers<T>& x, T& balance) const {
    Numbers<T> h = attention(layout.attention, norm(x, layout.input_norm, shape_.rms_norm_eps));
    add(h, x);
    const Numbers<T> h_norm = norm(h, layout.post_attention_norm, shape_.rms_norm_eps);
    Numbers<T> y = layout.moe ? moe(layout, h_norm, balance) : ffn(layout.ffn, 0, shape_.intermediate_size, h_norm);
    add(y, h);
    return y;
  }

  T head(const Numbers<T>& hidden, Mat<const int32_t> tokens, int64_t shift, int64_t unscored) const {
    const Numbers<T> logits = linear(hidden, table_.head, shape_.vocab_size);
    T sum = T(0);
    for (int64_t t = 0; t < logits.view.dim[0]; ++t) {
      const int64_t position = t % sequences_.length;
      if (position >= sequences_.length - unscored) continue;
      sum += reference::loss_of_row<T>(vec<const T>(logits.view.row(t), shape_.vocab_size),
                                       tokens(t / sequences_.length, position + shift));
    }
    return sum;
  }

  const ParamTable& table_;
  const ModelShape& shape_;
  MtpHidden mtp_hidden_;
  const std::vector<T>& params_;
  const std::vector<float>& biases_;
  Sequences sequences_;
  Vec<const int32_t> document_start_;
};

}  // namespace tael::testing
