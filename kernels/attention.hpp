// Causal multi-head latent attention's core: softmax(q k^T * scale) v per sequence and head, in blocks of keys with a
// running maximum, so the full score matrix never exists. The rotary part of the keys is one vector for all heads.
//
// Row t of the matrices is position t % S of sequence t / S. Head h: q has N nope then R rope numbers, kv has N nope
// then V value numbers. Keys of position j are seen by positions i >= j of the same sequence and, with documents, by
// those with document_start[i] <= j. Numerics: blocks of keys are counted from the sequence's first position, so a
// row's bits depend on its keys only: not on other rows, other sequences, threads. log-sum-exp kept per row and head
// for backward. Every position sees at least itself. A head's block of queries and keys must fit a thread's workspace
// (attention_workspace_bytes). Source: arXiv 2205.14135; DeepSeek-V2 report section 2.1.
//
// Backward: dq, and dkv with the values' and the nope keys' gradients, are per head. dk_rope is a sum over heads, which
// tensor parallelism splits: P pieces of consecutive heads (piece_begin), one chain in head order each, joined by the
// tree.
#pragma once

#include "kernels/isa.hpp"

namespace tael {

struct AttentionShape {
  int64_t heads = 0, nope = 0, rope = 0, value = 0, sequence_length = 0;
  double scale = 1.0;
};

template <class T>
struct AttentionForward {
  Mat<T> o_TX;                          // [T, heads * value]
  Mat<acc_t<T>> lse_TH;                 // [T, heads]
  Mat<const T> q_TX;                    // [T, heads * (nope + rope)], rotated
  Mat<const T> kv_TX;                   // [T, heads * (nope + value)]
  Mat<const T> k_rope_TR;               // [T, rope], rotated
  Vec<const int32_t> document_start_T;  // may be empty; position inside the sequence
  AttentionShape shape;
};

template <class T>
struct AttentionBackward {
  Mat<T> dq_TX, dkv_TX, dk_rope_TR;  // overwritten
  Mat<T> scratch;                    // attention_backward_scratch(...) numbers
  Mat<const T> do_TX, o_TX, q_TX, kv_TX, k_rope_TR;
  Mat<const acc_t<T>> lse_TH;
  Vec<const int32_t> document_start_T;
  AttentionShape shape;
  int64_t pieces = 1;
};

// Rows and columns of AttentionBackward::scratch for T rows: room for per-head rope gradients before they are joined.
struct AttentionScratch {
  int64_t rows, cols;
};
AttentionScratch attention_backward_scratch(int64_t rows, const AttentionShape& shape);

// Of a thread's workspace (ThreadPool::kWorkspaceBytes), by the direction that takes more.
int64_t attention_workspace_bytes(const AttentionShape& shape);

void attention_forward(const Stream& stream, const AttentionForward<float>& args);
void attention_backward(const Stream& stream, const AttentionBackward<float>& args);

}  // namespace tael
