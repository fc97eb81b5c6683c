// The door through which experts receive tokens and give results back. A MoE layer knows only this: who computes an
// expert, and how a token gets there, is not its business. Dropless for any skew.
#pragma once

#include "model/context.hpp"

namespace tael {

// Where the tokens of one MoE layer and micro-batch go. R = T K rows, sorted by expert, then by token.
struct Routing {
  int64_t experts = 0, groups = 1;
  Mat<const int32_t> expert_TK;
  Mat<int32_t> position_TK;
  Vec<int32_t> token_R;
  Vec<int64_t> offset_E1;
};

class TokenExchange {
 public:
  virtual ~TokenExchange() = default;
  // Fills position, token and offset from expert_TK.
  virtual void plan_rows(Context& context, const Routing& routing) const = 0;
  // y_RD = the tokens' rows at their experts; also the derivative of combine.
  virtual void dispatch(Context& context, const Routing& routing, Mat<float> y_RD, Mat<const float> x_TD) const = 0;
  // y_TD = (accumulate ? y : 0) + sum over a token's experts, in the order of kernels/permute_tokens.hpp.
  virtual void combine(Context& context, const Routing& routing, Mat<float> y_TD, Mat<const float> x_RD,
                       bool accumulate) const = 0;
};

// All experts on this rank.
class LocalTokenExchange final : public TokenExchange {
 public:
  void plan_rows(Context& context, const Routing& routing) const override;
  void dispatch(Context& context, const Routing& routing, Mat<float> y_RD, Mat<const float> x_TD) const override;
  void combine(Context& context, const Routing& routing, Mat<float> y_TD, Mat<const float> x_RD,
               bool accumulate) const override;
};

}  // namespace tael
