#include "model/param_table.hpp"

#include <fmt/format.h>

#include "base/check.hpp"

namespace tael {

namespace {

class Builder {
 public:
  explicit Builder(ParamTable& table) : table_(table), shape_(table.shape) {}

  int64_t matrix(std::string name, int64_t rows, int64_t cols) {
    return add({std::move(name), rows, cols, 2, 0, Init::normal});
  }
  int64_t norm(std::string name, int64_t size) { return add({std::move(name), 1, size, 1, 0, Init::ones}); }

  AttentionLayout attention(const std::string& prefix) {
    const int64_t hidden = shape_.hidden_size, heads = shape_.num_attention_heads;
    AttentionLayout at;
    if (shape_.q_lora_rank) {
      at.down = matrix(prefix + "q_a_proj.weight", *shape_.q_lora_rank, hidden);
    } else {
      at.down = matrix(prefix + "q_proj.weight", heads * shape_.qk_head_dim(), hidden);
    }
    matrix(prefix + "kv_a_proj_with_mqa.weight", shape_.kv_lora_rank + shape_.qk_rope_head_dim, hidden);
    if (shape_.q_lora_rank) {
      at.q_a_norm = norm(prefix + "q_a_layernorm.weight", *shape_.q_lora_rank);
      at.q_b = matrix(prefix + "q_b_proj.weight", heads * shape_.qk_head_dim(), *shape_.q_lora_rank);
    }
    at.kv_a_norm = norm(prefix + "kv_a_layernorm.weight", shape_.kv_lora_rank);
    at.kv_b =
        matrix(prefix + "kv_b_proj.weight", heads * (shape_.qk_nope_head_dim + shape_.v_head_dim), shape_.kv_lora_rank);
    at.o = matrix(prefix + "o_proj.weight", hidden, heads * shape_.v_head_dim);
    return at;
  }

  FfnLayout ffn(const std::string& prefix, int64_t width) {
    FfnLayout ffn;
    ffn.gate_up = matrix(prefix + "gate_proj.weight", width, shape_.hidden_size);
    matrix(prefix + "up_proj.weight", width, shape_.hidden_size);
    ffn.down = matrix(prefix + "down_proj.weight", shape_.hidden_size, width);
    return ffn;
  }

  LayerLayout layer(int64_t index, bool moe) {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    LayerLayout layer;
    layer.moe = moe;
    layer.input_norm = norm(prefix + "input_layernorm.weight", shape_.hidden_size);
    layer.attention = attention(prefix + "self_attn.");
    layer.post_attention_norm = norm(prefix + "post_attention_layernorm.weight", shape_.hidden_size);
    if (!moe) {
      layer.ffn = ffn(prefix + "mlp.", shape_.intermediate_size);
      return layer;
    }
    layer.moe_index = table_.moe_layers++;
    layer.gate = matrix(prefix + "mlp.gate.weight", shape_.n_routed_experts, shape_.hidden_size);
    if (shape_.has_gate_bias()) {
      layer.gate_bias = table_.bias_size_;
      table_.gate_biases.push_back(
          {prefix + "mlp.gate.e_score_correction_bias", shape_.n_routed_experts, table_.bias_size_});
      table_.bias_size_ += shape_.n_routed_experts;
    }
    for (int64_t e = 0; e < shape_.n_routed_experts; ++e) {
      const FfnLayout expert = ffn(fmt::format("{}mlp.experts.{}.", prefix, e), shape_.moe_intermediate_size);
      if (e == 0) layer.experts = expert;
      if (e == 1) layer.expert_stride = expert.gate_up - layer.experts.gate_up;
    }
    if (shape_.n_shared_experts > 0) layer.ffn = ffn(prefix + "mlp.shared_experts.", shape_.shared_width());
    return layer;
  }

 private:
  int64_t add(ParamSpec spec) {
    int64_t size = 0, end = 0;
    if (__builtin_mul_overflow(spec.rows, spec.cols, &size) || __builtin_add_overflow(table_.size_, size, &end) ||
        end > INT64_MAX / 64)
      fail(Exit::bad_config, "the model's sizes overflow at {}: {} x {} numbers", spec.name, spec.rows, spec.cols);
    spec.offset = table_.size_;
    table_.size_ = end;
    table_.params.push_back(std::move(spec));
    return table_.params.back().offset;
  }

  ParamTable& table_;
  const ModelShape& shape_;
};

int64_t add_extra_use(ParamTable& table, int64_t destination, int64_t size) {
  const int64_t offset = table.gradient_size_;
  table.extra_uses.push_back({destination, offset, size});
  table.gradient_size_ += size;
  return offset;
}

}  // namespace

std::vector<int64_t> ParamTable::moe_layer_numbers() const {
  std::vector<int64_t> numbers;
  for (size_t i = 0; i < layers.size(); ++i)
    if (layers[i].moe) numbers.push_back(static_cast<int64_t>(i));
  for (size_t k = 0; k < mtp.size(); ++k)
    if (mtp[k].layer.moe) numbers.push_back(static_cast<int64_t>(layers.size() + k));
  return numbers;
}

ParamTable make_param_table(const ModelShape& shape) {
  ParamTable table;
  table.shape = shape;
  Builder build(table);
  table.embedding = build.matrix("model.embed_tokens.weight", shape.vocab_size, shape.hidden_size);
  for (int64_t i = 0; i < shape.num_hidden_layers; ++i) table.layers.push_back(build.layer(i, shape.is_moe_layer(i)));
  table.final_norm = build.norm("model.norm.weight", shape.hidden_size);
  table.head =
      shape.tie_word_embeddings ? table.embedding : build.matrix("lm_head.weight", shape.vocab_size, shape.hidden_size);
  // An MTP module's block is of the last layer's kind (Hugging Face MtpLayer; V3 report section 2.2).
  const bool mtp_moe = shape.is_moe_layer(shape.num_hidden_layers - 1);
  for (int64_t k = 0; k < shape.num_nextn_predict_layers; ++k) {
    const int64_t index = shape.num_hidden_layers + k;
    const std::string prefix = fmt::format("model.layers.{}.", index);
    MtpLayout mtp;
    mtp.enorm = build.norm(prefix + "enorm.weight", shape.hidden_size);
    mtp.hnorm = build.norm(prefix + "hnorm.weight", shape.hidden_size);
    mtp.eh_proj = build.matrix(prefix + "eh_proj.weight", shape.hidden_size, 2 * shape.hidden_size);
    mtp.layer = build.layer(index, mtp_moe);
    mtp.head_norm = build.norm(prefix + "shared_head.norm.weight", shape.hidden_size);
    table.mtp.push_back(mtp);
  }
  table.gradient_size_ = table.size_;
  const int64_t table_size = shape.vocab_size * shape.hidden_size;
  table.head_gradient = shape.tie_word_embeddings ? add_extra_use(table, table.embedding, table_size) : table.head;
  for (int64_t k = 0; k < shape.num_nextn_predict_layers; ++k) {
    table.mtp_embedding_gradient.push_back(add_extra_use(table, table.embedding, table_size));
    table.mtp_head_gradient.push_back(add_extra_use(table, table.head, table_size));
  }
  return table;
}

ParamCounts count_parameters(const ModelShape& shape) {
  const ParamTable table = make_param_table(shape);
  const int64_t mtp_begin = table.mtp.empty() ? table.size() : table.mtp.front().enorm;
  const int64_t expert_size = shape.n_routed_experts > 0 ? 3 * shape.hidden_size * shape.moe_intermediate_size : 0;
  int64_t moe_layers = 0;
  for (const LayerLayout& layer : table.layers) moe_layers += layer.moe ? 1 : 0;
  ParamCounts counts;
  for (const ParamSpec& param : table.params) {
    (param.offset < mtp_begin ? counts.total : counts.mtp) += param.size();
  }
  for (size_t i = 0; i < table.gate_biases.size(); ++i) {
    const bool main = static_cast<int64_t>(i) < moe_layers;
    (main ? counts.gate_biases : counts.mtp) += table.gate_biases[i].experts;
  }
  counts.total += counts.gate_biases;
  counts.active = counts.total - moe_layers * (shape.n_routed_experts - shape.num_experts_per_tok) * expert_size;
  const int64_t input_table = shape.tie_word_embeddings ? 0 : shape.vocab_size * shape.hidden_size;
  counts.active_without_input_table = counts.active - input_table;
  return counts;
}

}  // namespace tael
