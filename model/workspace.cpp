#include "model/workspace.hpp"

#include <algorithm>

#include "kernels/attention.hpp"
#include "kernels/gemm.hpp"
#include "kernels/route_topk.hpp"

namespace tael {

int64_t thread_workspace_bytes(const ModelShape& shape) {
  const int64_t attention = attention_workspace_bytes({.heads = shape.num_attention_heads,
                                                       .nope = shape.qk_nope_head_dim,
                                                       .rope = shape.qk_rope_head_dim,
                                                       .value = shape.v_head_dim});
  const int64_t route =
      shape.n_routed_experts > 0 ? route_workspace_bytes(shape.n_routed_experts, shape.num_experts_per_tok) : 0;
  return std::max({kGemmWorkspaceBytes, attention, route});
}

}  // namespace tael
