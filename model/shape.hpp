// The dimensions of a DeepSeek-V3 or V2 model: plain data under Hugging Face's config.json names, filled by
// model/shape_fields.cpp, constant for ever after. What is derived is a function.
//
// Source: DeepSeek-V3 report section 2.1 and 4.2, DeepSeek-V2 report section 2; the released config.json files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tael {

enum class ModelType { deepseek_v3, deepseek_v2 };
enum class ScoringFunc { sigmoid, softmax };
// noaux_tc: bias for the choice, a group's score is the sum of its two best (V3). group_limited_greedy: a group's score
// is its maximum (V2). greedy: no groups.
enum class TopkMethod { noaux_tc, group_limited_greedy, greedy };

// Which hidden state an MTP module reads: after or before the (main model's, or the previous module's) final norm. The
// report does not say, and released codes differ (DeepSeek-V3 issue 839).
enum class MtpHidden : uint8_t { after_final_norm, before_final_norm };

// YaRN (arXiv 2309.00071) as the released modelling code applies it. Belongs to the model, never to a run's length.
struct RopeScaling {
  double factor = 1.0;
  int64_t original_max_position_embeddings = 4096;
  double beta_fast = 32.0, beta_slow = 1.0;
  double mscale = 1.0, mscale_all_dim = 0.0;

  bool operator==(const RopeScaling&) const = default;
};

struct ModelShape {
  ModelType model_type = ModelType::deepseek_v3;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;      // dense FFN width
  int64_t moe_intermediate_size = 0;  // width of one expert
  int64_t num_hidden_layers = 0;
  int64_t num_nextn_predict_layers = 0;  // MTP depth, 0 to 2 here
  int64_t num_attention_heads = 0;
  std::optional<int64_t> q_lora_rank;  // nothing: a plain q_proj
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;
  int64_t n_routed_experts = 0;  // 0: every layer is dense
  int64_t n_shared_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t n_group = 1, topk_group = 1;
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1.0;
  ScoringFunc scoring_func = ScoringFunc::sigmoid;
  TopkMethod topk_method = TopkMethod::noaux_tc;
  int64_t first_k_dense_replace = 0;
  int64_t moe_layer_freq = 1;  // layer i is MoE if i >= first_k_dense_replace and i % moe_layer_freq == 0
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  std::optional<RopeScaling> rope_scaling;
  int64_t max_position_embeddings = 4096;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  int64_t bos_token_id = 0, eos_token_id = 1;  // carried to exported config.json, not used in training

  bool is_moe_layer(int64_t layer) const {  // an MTP module is a MoE layer like any other
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
  int64_t total_layers() const { return num_hidden_layers + num_nextn_predict_layers; }
  int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  int64_t shared_width() const { return n_shared_experts * moe_intermediate_size; }
  bool has_gate_bias() const { return topk_method == TopkMethod::noaux_tc; }
};

// The norms of the two latents keep this epsilon whatever rms_norm_eps says, as in the released modelling code.
inline constexpr double kLatentNormEps = 1e-6;

}  // namespace tael
