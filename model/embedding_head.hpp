// Both ends of the network: the input table, and norm -> output table -> cross-entropy.
//
// The head never holds all logits: rows go through in chunks, each chunk's logits turned into its losses and, in
// training, at once into the two halves of the derivative. A chunk changes no bit: rows are independent and the table's
// gradient is one chain in token order. The sum over the vocabulary of the hidden state's gradient is split.
#pragma once

#include "model/context.hpp"

namespace tael {

struct HeadTargets {
  Mat<const int32_t> token_BS;  // position s predicts column s + shift
  int64_t shift = 1;
  int64_t unscored = 0;  // the last positions of a sequence that have no target (MTP depth k: k)
};

// loss_B(b) += sum over the scored positions of sequence b, in position order, in double.
void head_loss(Context& context, const Sequences& sequences, const HeadTargets& targets, Mat<const float> hidden_TH,
               Mat<const float> table_VH, Vec<double> loss_B);

// The same, with d_hidden overwritten and d_table added to by coefficient * the gradient of the sum of losses.
void head_loss_and_grad(Context& context, const Sequences& sequences, const HeadTargets& targets,
                        Mat<const float> hidden_TH, Mat<const float> table_VH, Vec<double> loss_B, double coefficient,
                        Mat<float> d_hidden_TH, Mat<float> d_table_VH);

}  // namespace tael
