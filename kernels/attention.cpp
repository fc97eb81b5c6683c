#include "kernels/attention.hpp"

#include "kernels/attention_block.hpp"

namespace tael::TAEL_ISA {
namespace {

struct ForwardSpace {
  int64_t bytes;
  float *q, *o, *largest, *total, *k, *v, *score;

  ForwardSpace(std::byte* workspace, const AttentionShape& shape) {
    WorkspaceCut cut(workspace);
    q = cut.take(kBlockQueries * (shape.nope + shape.rope));  // [panel][d][lane]
    o = cut.take(kBlockQueries * shape.value);                // [panel][v][lane], not yet divided by the total
    largest = cut.take(kBlockQueries);
    total = cut.take(kBlockQueries);
    k = cut.take(kBlockKeys * (shape.nope + shape.rope));
    v = cut.take(kBlockKeys * shape.value);
    score = cut.take(kBlockKeys * kLanes);
    bytes = cut.bytes();
  }
};

// Positions [begin, end) of one head of the sequence whose first row is `row`.
void forward_block(const AttentionForward<float>& args, const ForwardSpace& space, int64_t row, int64_t head,
                   int64_t begin, int64_t end) {
  const AttentionShape& shape = args.shape;
  const int64_t depth = shape.nope + shape.rope, value = shape.value;
  const auto panel_at = [&](int64_t first) {
    const int32_t* start = args.document_start_T.size() > 0 ? args.document_start_T.data + row + first : nullptr;
    return Panel(first, end, start);
  };
  for (int64_t p = 0; begin + p * kLanes < end; ++p) {
    const int64_t first = begin + p * kLanes;
    rows_to_panel(space.q + p * kLanes * depth, args.q_TX.row(row + first) + head * depth, args.q_TX.pitch,
                  panel_at(first).lanes, depth, static_cast<float>(shape.scale));
    for (int64_t d = 0; d < value; ++d) store(space.o + (p * value + d) * kLanes, zero());
    store(space.largest + p * kLanes, set1(-__FLT_MAX__));
    store(space.total + p * kLanes, zero());
  }
  for (int64_t key = 0; key < end; key += kBlockKeys) {
    const int64_t keys = end - key < kBlockKeys ? end - key : kBlockKeys;
    bool copied = false;
    for (int64_t p = 0; begin + p * kLanes < end; ++p) {
      const Panel panel = panel_at(begin + p * kLanes);
      const int64_t n = panel.visible(key, keys);
      if (n == 0) continue;
      if (!copied) copy_keys(space.k, space.v, args.kv_TX, args.k_rope_TR, shape, row + key, head, keys);
      copied = true;
      rows_times_panel(space.score, space.k, space.q + p * kLanes * depth, n, depth);
      panel.hide(space.score, key, n);
      const F16 shrink = softmax_step(space.score, n, space.largest + p * kLanes, space.total + p * kLanes);
      add_weighted_rows(space.o + p * kLanes * value, shrink, space.v, space.score, n, value, value);
    }
  }
  for (int64_t p = 0; begin + p * kLanes < end; ++p) {
    const Panel panel = panel_at(begin + p * kLanes);
    alignas(64) float inverse[kLanes];
    store(inverse, div(set1(1.0f), load(space.total + p * kLanes)));
    panel_to_rows(args.o_TX.row(row + panel.first) + head * value, args.o_TX.pitch, panel.lanes,
                  space.o + p * kLanes * value, inverse, value);
    for (int64_t i = 0; i < panel.lanes; ++i)
      args.lse_TH(row + panel.first + i, head) =
          static_cast<float>(static_cast<double>(space.largest[p * kLanes + i]) +
                             __builtin_log(static_cast<double>(space.total[p * kLanes + i])));
  }
}

}  // namespace

void attention_forward(const Stream& stream, const AttentionForward<float>& args) {
  const AttentionShape& shape = args.shape;
  check_attention_workspace(ForwardSpace(nullptr, shape).bytes);
  const int64_t length = shape.sequence_length, sequences = args.o_TX.rows() / length;
  const int64_t blocks = (length + kBlockQueries - 1) / kBlockQueries, block_tasks = sequences * shape.heads;
  stream.pool().parallel_for(blocks * block_tasks, [&](int64_t task, int thread) {
    // The last queries see the most keys: they go first, so that no thread is left with a long task at the end.
    const int64_t block = blocks - 1 - task / block_tasks;
    const int64_t sequence = task % block_tasks / shape.heads, head = task % shape.heads;
    const int64_t begin = block * kBlockQueries, end = begin + kBlockQueries < length ? begin + kBlockQueries : length;
    forward_block(args, ForwardSpace(stream.pool().workspace(thread), shape), sequence * length, head, begin, end);
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(attention_forward, AttentionForward<float>)

#ifdef TAEL_ISA_PORTABLE
namespace tael {

void check_attention_workspace(int64_t bytes) {
  CHECK(bytes <= static_cast<int64_t>(ThreadPool::kWorkspaceBytes), "attention heads need {} bytes of a thread", bytes);
}

}  // namespace tael
#endif
