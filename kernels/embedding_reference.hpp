// What embedding.hpp means, in the plainest loops.
#pragma once

#include "kernels/embedding.hpp"

namespace tael::reference {

template <class T>
void embedding_forward(const EmbeddingForward<T>& args) {
  for (int64_t t = 0; t < args.y_TD.rows(); ++t) {
    const int32_t token = args.token_BS(t / args.sequence_length, t % args.sequence_length + args.shift);
    for (int64_t d = 0; d < args.y_TD.cols(); ++d) args.y_TD(t, d) = args.table_VD(token, d);
  }
}

template <class T>
void embedding_grad(const EmbeddingGrad<T>& args) {
  for (int64_t t = 0; t < args.dy_TD.rows(); ++t) {
    const int32_t token = args.token_BS(t / args.sequence_length, t % args.sequence_length + args.shift);
    for (int64_t d = 0; d < args.dy_TD.cols(); ++d) args.dtable_VD(token, d) += acc_t<T>(args.dy_TD(t, d));
  }
}

}  // namespace tael::reference
