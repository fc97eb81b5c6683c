#include "model/embedding_head.hpp"

#include <algorithm>

#include "kernels/cross_entropy.hpp"
#include "model/linear.hpp"

namespace tael {

namespace {

// Logits of a chunk stay near the caches, and memory stays small for large vocabularies.
constexpr int64_t kChunkBytes = int64_t{16} << 20;

int64_t chunk_rows(int64_t vocabulary, int64_t tokens) {
  const int64_t rows = kChunkBytes / (vocabulary * static_cast<int64_t>(sizeof(float)));
  return std::clamp<int64_t>(rows / 64 * 64, 64, std::max<int64_t>(tokens, 64));
}

struct Gradient {
  double coefficient = 0.0;
  Mat<float> d_hidden_TH, d_table_VH;
};

void run(Context& context, const Sequences& sequences, const HeadTargets& targets, Mat<const float> hidden_TH,
         Mat<const float> table_VH, Vec<double> loss_B, const Gradient* gradient) {
  ArenaScope scope(context.scratch);
  const int64_t tokens = sequences.tokens(), vocabulary = table_VH.dim[0];
  const int64_t chunk = std::min(chunk_rows(vocabulary, tokens), tokens);
  const Vec<double> loss_T = context.scratch.vec<double>(tokens);
  const Mat<float> logits = context.scratch.mat<float>(chunk, vocabulary);
  for (int64_t begin = 0; begin < tokens; begin += chunk) {
    const int64_t end = std::min(begin + chunk, tokens);
    const Mat<float> logit_TV = rows(logits, 0, end - begin);
    const Mat<const float> hidden = rows(hidden_TH, begin, end);
    linear_forward(context, logit_TV, hidden, table_VH);
    cross_entropy(context.stream, {.loss_T = vec(loss_T.data + begin, end - begin),
                                   .logit_TV = logit_TV,
                                   .token_BS = targets.token_BS,
                                   .first_row = begin,
                                   .sequence_length = sequences.length,
                                   .shift = targets.shift,
                                   .unscored = targets.unscored,
                                   .pieces = context.segments,
                                   .backward = gradient != nullptr,
                                   .coefficient = gradient != nullptr ? gradient->coefficient : 0.0});
    if (gradient == nullptr) continue;
    split_linear_input_grad(context, rows(gradient->d_hidden_TH, begin, end), {}, logit_TV, table_VH);
    linear_weight_grad(context, gradient->d_table_VH, logit_TV, hidden);
  }
  context.stream.enqueue([&] {
    for (int64_t t = 0; t < tokens; ++t) loss_B(t / sequences.length) += loss_T(t);
  });
}

}  // namespace

void head_loss(Context& context, const Sequences& sequences, const HeadTargets& targets, Mat<const float> hidden_TH,
               Mat<const float> table_VH, Vec<double> loss_B) {
  run(context, sequences, targets, hidden_TH, table_VH, loss_B, nullptr);
}

void head_loss_and_grad(Context& context, const Sequences& sequences, const HeadTargets& targets,
                        Mat<const float> hidden_TH, Mat<const float> table_VH, Vec<double> loss_B, double coefficient,
                        Mat<float> d_hidden_TH, Mat<float> d_table_VH) {
  const Gradient gradient{coefficient, d_hidden_TH, d_table_VH};
  run(context, sequences, targets, hidden_TH, table_VH, loss_B, &gradient);
}

}  // namespace tael
