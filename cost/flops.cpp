#include "cost/flops.hpp"

namespace tael {

namespace {

// Multiply-adds of one layer for one token.
double layer(const ModelShape& s, bool moe, double keys) {
  const double hidden = static_cast<double>(s.hidden_size), heads = static_cast<double>(s.num_attention_heads);
  const double qk = static_cast<double>(s.qk_head_dim()), value = static_cast<double>(s.v_head_dim);
  const double latent = static_cast<double>(s.kv_lora_rank), rope = static_cast<double>(s.qk_rope_head_dim);
  const double nope = static_cast<double>(s.qk_nope_head_dim);
  double sum = 0;
  if (s.q_lora_rank) {
    const double rank = static_cast<double>(*s.q_lora_rank);
    sum += hidden * rank + rank * heads * qk;
  } else {
    sum += hidden * heads * qk;
  }
  sum += hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden;
  sum += keys * heads * (qk + value);
  if (!moe) return sum + 3.0 * hidden * static_cast<double>(s.intermediate_size);
  const double experts = static_cast<double>(s.num_experts_per_tok + s.n_shared_experts);
  return sum + 3.0 * hidden * static_cast<double>(s.moe_intermediate_size) * experts +
         hidden * static_cast<double>(s.n_routed_experts);
}

}  // namespace

double forward_flops_per_token(const ModelShape& s, int64_t sequence_length, AttentionCount count) {
  const double keys = static_cast<double>(sequence_length) * (count == AttentionCount::causal ? 0.5 : 1.0);
  const double hidden = static_cast<double>(s.hidden_size), head = hidden * static_cast<double>(s.vocab_size);
  double sum = head;
  for (int64_t i = 0; i < s.num_hidden_layers; ++i) sum += layer(s, s.is_moe_layer(i), keys);
  sum += static_cast<double>(s.num_nextn_predict_layers) *
         (layer(s, s.is_moe_layer(s.num_hidden_layers - 1), keys) + 2.0 * hidden * hidden + head);
  return 2.0 * sum;
}

}  // namespace tael
