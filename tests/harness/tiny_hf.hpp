// A model of two layers and one MTP module with 4 columns: a Hugging Face directory small enough to spoil by hand.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

#include "checkpoint/hf_export.hpp"
#include "model/shape_fields.hpp"

namespace tael::testing {

inline constexpr const char* kTinyConfig =
    R"({"model_type": "deepseek_v3", "vocab_size": 5, "hidden_size": 4, "intermediate_size": 6,
 "moe_intermediate_size": 2, "num_hidden_layers": 2, "num_attention_heads": 1, "num_key_value_heads": 1,
 "q_lora_rank": null, "kv_lora_rank": 3, "qk_nope_head_dim": 2, "qk_rope_head_dim": 2, "v_head_dim": 2,
 "n_routed_experts": 2, "n_shared_experts": 1, "num_experts_per_tok": 1, "n_group": 1, "topk_group": 1,
 "first_k_dense_replace": 1, "max_position_embeddings": 16, "num_nextn_predict_layers": 1, "torch_dtype": "float32"})";

inline ModelShape tiny_shape() {
  Reading reading;
  return read_model_json(kTinyConfig, "config.json", reading).shape;
}

// Number i of every tensor: small positive floats that bfloat16 holds exactly; copies of a table equal it.
inline float tiny_number(const std::string& name, int64_t i) {
  const bool head = name.ends_with("shared_head.head.weight") || name == "lm_head.weight";
  const size_t key = head ? 3 : name.ends_with("embed_tokens.weight") ? 5 : name.size();
  return static_cast<float>((static_cast<size_t>(i) * 7 + key) % 61) / 64.0f + 1.0f;
}

inline void tiny_source(const TensorSpec& tensor, uint64_t begin, void* out, size_t bytes) {
  const size_t width = size_of(tensor.dtype);
  for (size_t i = 0; i < bytes / width; ++i) {
    const float x = tiny_number(tensor.name, static_cast<int64_t>(begin / width + i));
    const bf16 narrow = to_bf16(x);
    if (tensor.dtype == DType::f32) std::memcpy(static_cast<char*>(out) + i * width, &x, width);
    if (tensor.dtype == DType::bf16) std::memcpy(static_cast<char*>(out) + i * width, &narrow, width);
    if (width != 4 && tensor.dtype != DType::bf16) std::memset(static_cast<char*>(out) + i * width, 0, width);
  }
}

struct Tiny {
  HfContent content;
  explicit Tiny(DType dtype = DType::f32) {
    content.texts.emplace_back("config.json", kTinyConfig);
    content.tensors = hf_tensors(make_param_table(tiny_shape()), dtype);
  }
  TensorSpec& tensor(const std::string& name) {
    for (TensorSpec& t : content.tensors)
      if (t.name == name) return t;
    throw std::runtime_error(name);
  }
  void drop(const std::string& name) {
    std::erase_if(content.tensors, [&](const TensorSpec& t) { return t.name == name; });
  }
  void write(const std::string& path, const TensorSource& source = tiny_source) const {
    write_hf_directory(path, content, source);
  }
};

}  // namespace tael::testing
