#include "model/token_exchange.hpp"

#include "kernels/permute_tokens.hpp"

namespace tael {

void LocalTokenExchange::plan_rows(Context& context, const Routing& routing) const {
  sort_tokens(context.stream, {.offset_E1 = routing.offset_E1,
                               .position_TK = routing.position_TK,
                               .token_R = routing.token_R,
                               .expert_TK = routing.expert_TK});
}

void LocalTokenExchange::dispatch(Context& context, const Routing& routing, Mat<float> y_RD,
                                  Mat<const float> x_TD) const {
  dispatch_tokens(context.stream, {.y_RD = y_RD, .x_TD = x_TD, .token_R = routing.token_R});
}

void LocalTokenExchange::combine(Context& context, const Routing& routing, Mat<float> y_TD, Mat<const float> x_RD,
                                 bool accumulate) const {
  combine_tokens(context.stream, {.y_TD = y_TD,
                                  .x_RD = x_RD,
                                  .position_TK = routing.position_TK,
                                  .expert_TK = routing.expert_TK,
                                  .experts = routing.experts,
                                  .groups = routing.groups,
                                  .accumulate = accumulate});
}

}  // namespace tael
