// Dimensions that several tests need: the released DeepSeek-V3, without its MTP module.
#pragma once

#include "model/shape.hpp"

namespace tael::testing {

inline ModelShape deepseek_v3() {
  ModelShape s;
  s.vocab_size = 129280;
  s.hidden_size = 7168;
  s.intermediate_size = 18432;
  s.moe_intermediate_size = 2048;
  s.num_hidden_layers = 61;
  s.num_attention_heads = 128;
  s.q_lora_rank = 1536;
  s.kv_lora_rank = 512;
  s.qk_nope_head_dim = 128;
  s.qk_rope_head_dim = 64;
  s.v_head_dim = 128;
  s.n_routed_experts = 256;
  s.n_shared_experts = 1;
  s.num_experts_per_tok = 8;
  s.n_group = 8;
  s.topk_group = 4;
  s.first_k_dense_replace = 3;
  return s;
}

}  // namespace tael::testing
