// Every tensor of a model: one row per tensor under its Hugging Face name, in the order in which the numbers lie in
// memory. Allocation, initialisation, counts, optimizer, norms, checkpoints and exports all walk this table; nothing
// else knows which tensors a model has.
//
// Numbers are dense: a tensor starts where the one before it ends, so that tensors which one GEMM uses together (query
// and KV latent projections, gate and up, the matrices of consecutive experts) are one matrix in memory. Gate biases
// are not trained by gradients and live in an array of their own, [bias rows, experts].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/view.hpp"
#include "model/shape.hpp"

namespace tael {

enum class Init : uint8_t { normal, ones };  // normal: mean 0, deviation ModelShape::initializer_range

struct ParamSpec {
  std::string name;
  int64_t rows = 1, cols = 0;  // a matrix is [out, in]; a vector has one row and dims = 1
  int dims = 2;
  int64_t offset = 0;  // in numbers, from the start of the parameters
  Init init = Init::normal;

  int64_t size() const { return rows * cols; }
  bool decays() const { return dims >= 2; }  // weight decay applies to tensors of two or more dimensions
};

struct GateBiasSpec {
  std::string name;
  int64_t experts = 0;
  int64_t offset = 0;  // in numbers, from the start of the gate biases
};

// Offsets of the tensors of one layer; -1: the layer has no such tensor. Fused matrices start at their first part.
struct AttentionLayout {
  int64_t down = -1;       // [q_a_proj or q_proj ; kv_a_proj_with_mqa] as one matrix [Q + C + R, H]
  int64_t q_a_norm = -1;   // [Q]
  int64_t q_b = -1;        // [heads * (nope + rope), Q]
  int64_t kv_a_norm = -1;  // [C]
  int64_t kv_b = -1;       // [heads * (nope + value), C]
  int64_t o = -1;          // [H, heads * value]
};
struct FfnLayout {
  int64_t gate_up = -1;  // [gate ; up] as one matrix [2F, H]
  int64_t down = -1;     // [H, F]
};
struct LayerLayout {
  bool moe = false;
  int64_t input_norm = -1, post_attention_norm = -1;
  AttentionLayout attention;
  FfnLayout ffn;           // dense FFN, or the shared experts as one (offsets -1: none)
  int64_t gate = -1;       // [E, H]
  int64_t gate_bias = -1;  // offset in the array of biases
  FfnLayout experts;       // of expert 0; expert e lies e * expert_stride later
  int64_t expert_stride = 0;
  int64_t moe_index = -1;  // number of this MoE layer among all MoE layers, MTP included
};
struct MtpLayout {
  int64_t enorm = -1, hnorm = -1, eh_proj = -1, head_norm = -1;
  LayerLayout layer;
};

// A second use of a tensor (tied tables; MTP's shared embedding and head) accumulates its gradient apart, because
// between micro-batches the uses would mix; the sum is formed in list order at the end of a lane.
struct ExtraUse {
  int64_t destination = 0;  // offset of the tensor
  int64_t offset = 0;       // of this accumulator, from the start of the gradients (>= ParamTable::size())
  int64_t size = 0;
};

struct ParamTable {
  ModelShape shape;
  std::vector<ParamSpec> params;
  std::vector<GateBiasSpec> gate_biases;
  int64_t size() const { return size_; }  // numbers trained by gradients
  int64_t bias_size() const { return bias_size_; }
  int64_t gradient_size() const { return gradient_size_; }  // size() and the extra uses

  int64_t embedding = -1, final_norm = -1, head = -1;  // head: the embedding's offset when tied
  std::vector<LayerLayout> layers;
  std::vector<MtpLayout> mtp;
  int64_t moe_layers = 0;
  std::vector<int64_t> moe_layer_numbers() const;  // of the whole network, MTP modules behind the last layer
  std::vector<ExtraUse> extra_uses;
  int64_t head_gradient = -1;                   // where the main head's gradient goes
  std::vector<int64_t> mtp_embedding_gradient;  // per depth
  std::vector<int64_t> mtp_head_gradient;

  int64_t size_ = 0, bias_size_ = 0, gradient_size_ = 0;
};

// REQUIRES: a shape that passed the config rules. Error(bad_config) if the sizes overflow.
ParamTable make_param_table(const ModelShape& shape);

// Counted from the table. Source of the conventions: DeepSeek-V3 report 4.2 and README_WEIGHTS.
struct ParamCounts {
  int64_t total = 0;   // gate biases included, MTP not
  int64_t active = 0;  // at work for one token: both tables and gate biases counted, MTP not
  int64_t active_without_input_table = 0;
  int64_t mtp = 0;          // MTP modules without their copies of the shared tables, gate biases included
  int64_t gate_biases = 0;  // without MTP's
};
ParamCounts count_parameters(const ModelShape& shape);

}  // namespace tael
