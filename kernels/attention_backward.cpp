#include "kernels/attention.hpp"
#include "kernels/attention_block.hpp"
#include "kernels/gemm.hpp"

namespace tael::TAEL_ISA {
namespace {

constexpr int64_t kRowsPerTask = 16;  // of the rope gradient's sum over heads

struct BackwardSpace {
  int64_t bytes;
  float *q, *q_rows, *grad, *grad_rows, *dq, *lse, *delta, *k, *v, *weight, *dscore;

  BackwardSpace(std::byte* workspace, const AttentionShape& shape) {
    const int64_t depth = shape.nope + shape.rope;
    WorkspaceCut cut(workspace);
    q = cut.take(kBlockQueries * depth);  // scaled; [panel][d][lane]
    q_rows = cut.take(kBlockQueries * (round_up_lanes(shape.nope) + round_up_lanes(shape.rope)));
    grad = cut.take(kBlockQueries * shape.value);  // of the output; [panel][v][lane]
    grad_rows = cut.take(kBlockQueries * round_up_lanes(shape.value));
    dq = cut.take(kBlockQueries * depth);  // [panel][d][lane]
    lse = cut.take(kBlockQueries);
    delta = cut.take(kBlockQueries);
    k = cut.take(kBlockKeys * depth);
    v = cut.take(kBlockKeys * shape.value);
    weight = cut.take(kBlockQueries * kBlockKeys);  // softmax; [panel][key][lane]
    dscore = cut.take(kBlockQueries * kBlockKeys);
    bytes = cut.bytes();
  }
};

// The queries of one block and how many keys of the current block each panel looks at.
struct QueryBlock {
  int64_t begin, end, panels;
  int64_t visible[kBlockPanels] = {};

  TAEL_INLINE int64_t lanes(int64_t p) const {
    const int64_t rest = end - begin - p * kLanes;
    return rest < kLanes ? rest : kLanes;
  }
};

// out[j][c] += sum over the block's queries, ascending, of coefficient[j][query] * rows[query][c], for columns c <
// width.
TAEL_INLINE void add_to_keys(float* out, int64_t out_pitch, const float* coefficient, const float* rows,
                             int64_t rows_pitch, const QueryBlock& block, int64_t keys, int64_t width) {
  for (int64_t c0 = 0; c0 < width; c0 += kLanes) {
    const int64_t columns = width - c0 < kLanes ? width - c0 : kLanes;
    for_tiles(keys, [&]<class Tile>(Tile, int64_t r) TAEL_INLINE_LAMBDA {
      F16 c[Tile::kRows];
      float* to = out + r * out_pitch + c0;
      if (columns == kLanes) {
        for (int i = 0; i < Tile::kRows; ++i) c[i] = load(to + i * out_pitch);
      } else {
        for (int i = 0; i < Tile::kRows; ++i) c[i] = load(to + i * out_pitch, columns);
      }
      for (int64_t p = 0; p < block.panels; ++p) {
        if (block.visible[p] <= r) continue;  // visible ends on a whole tile, or with the block
        multiply(c, coefficient + (p * kBlockKeys + r) * kLanes, kLanes, 1, rows + p * kLanes * rows_pitch + c0,
                 rows_pitch, block.lanes(p));
      }
      if (columns == kLanes) {
        for (int i = 0; i < Tile::kRows; ++i) store(to + i * out_pitch, c[i]);
      } else {
        for (int i = 0; i < Tile::kRows; ++i) store(to + i * out_pitch, c[i], columns);
      }
    });
  }
}

// Queries, output gradients, log-sum-exp and delta of a block into the workspace.
void prepare_queries(const AttentionBackward<float>& args, const BackwardSpace& space, const QueryBlock& block,
                     int64_t row, int64_t head) {
  const AttentionShape& shape = args.shape;
  const int64_t depth = shape.nope + shape.rope, value = shape.value;
  const int64_t nope_pitch = round_up_lanes(shape.nope), q_pitch = nope_pitch + round_up_lanes(shape.rope);
  const int64_t grad_pitch = round_up_lanes(value);
  const float scale = static_cast<float>(shape.scale);
  for (int64_t p = 0; p < block.panels; ++p) {
    const int64_t first = row + block.begin + p * kLanes, lanes = block.lanes(p);
    const float* q = args.q_TX.row(first) + head * depth;
    const float* grad = args.do_TX.row(first) + head * value;
    rows_to_panel(space.q + p * kLanes * depth, q, args.q_TX.pitch, lanes, depth, scale);
    rows_to_panel(space.grad + p * kLanes * value, grad, args.do_TX.pitch, lanes, value, 1.0f);
    for (int64_t d = 0; d < depth; ++d) store(space.dq + (p * depth + d) * kLanes, zero());
    for (int64_t i = 0; i < kLanes; ++i) {
      float& delta = space.delta[p * kLanes + i];
      float& lse = space.lse[p * kLanes + i];
      delta = lse = 0.0f;  // with zeros for q and the gradient, a lane without a query adds nothing
      if (i >= lanes) continue;
      float* q_row = space.q_rows + (p * kLanes + i) * q_pitch;
      for (int64_t d = 0; d < shape.nope; ++d) q_row[d] = scale * q[i * args.q_TX.pitch + d];
      for (int64_t d = shape.nope; d < nope_pitch; ++d) q_row[d] = 0.0f;
      for (int64_t d = 0; d < shape.rope; ++d) q_row[nope_pitch + d] = scale * q[i * args.q_TX.pitch + shape.nope + d];
      for (int64_t d = nope_pitch + shape.rope; d < q_pitch; ++d) q_row[d] = 0.0f;
      float* grad_row = space.grad_rows + (p * kLanes + i) * grad_pitch;
      copy_row(grad_row, grad + i * args.do_TX.pitch, value);
      for (int64_t d = value; d < grad_pitch; ++d) grad_row[d] = 0.0f;
      const float* o = args.o_TX.row(first + i) + head * value;
      F16 sum = zero();
      for (int64_t d = 0; d < value; d += kLanes)
        sum = fma(load(grad_row + d), d + kLanes <= value ? load(o + d) : load(o + d, value - d), sum);
      delta = reduce_add(sum);
      lse = args.lse_TH(first + i, head);
    }
  }
}

// One head of one sequence: blocks of queries ascending, inside them blocks of keys ascending. A query's gradient is
// a chain over keys, a key's a chain over queries, neither cut by the blocks; the softmax is made again from lse.
void backward_head(const AttentionBackward<float>& args, const BackwardSpace& space, int64_t row, int64_t head) {
  const AttentionShape& shape = args.shape;
  const int64_t depth = shape.nope + shape.rope, value = shape.value, length = shape.sequence_length;
  const int64_t nope_pitch = round_up_lanes(shape.nope), q_pitch = nope_pitch + round_up_lanes(shape.rope);
  float* const dkv = args.dkv_TX.row(row) + head * (shape.nope + value);
  float* const dk_rope = shape.rope > 0 ? args.scratch.row(row) + head * shape.rope : nullptr;
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t d = 0; d < shape.nope + value; ++d) dkv[t * args.dkv_TX.pitch + d] = 0.0f;
    for (int64_t d = 0; d < shape.rope; ++d) dk_rope[t * args.scratch.pitch + d] = 0.0f;
  }
  for (int64_t begin = 0; begin < length; begin += kBlockQueries) {
    QueryBlock block{begin, begin + kBlockQueries < length ? begin + kBlockQueries : length, 0};
    block.panels = (block.end - begin + kLanes - 1) / kLanes;
    prepare_queries(args, space, block, row, head);
    for (int64_t key = 0; key < block.end; key += kBlockKeys) {
      const int64_t keys = block.end - key < kBlockKeys ? block.end - key : kBlockKeys;
      bool any_visible = false;
      for (int64_t p = 0; p < block.panels; ++p) {
        const int64_t first = begin + p * kLanes;
        const Panel panel(first, block.end,
                          args.document_start_T.size() > 0 ? args.document_start_T.data + row + first : nullptr);
        const int64_t n = block.visible[p] = panel.visible(key, keys);
        if (n == 0) continue;
        if (!any_visible) copy_keys(space.k, space.v, args.kv_TX, args.k_rope_TR, shape, row + key, head, keys);
        any_visible = true;
        float* weight = space.weight + p * kBlockKeys * kLanes;
        float* dscore = space.dscore + p * kBlockKeys * kLanes;
        rows_times_panel(weight, space.k, space.q + p * kLanes * depth, n, depth);
        rows_times_panel(dscore, space.v, space.grad + p * kLanes * value, n, value);
        panel.hide(weight, key, n);
        const F16 lse = load(space.lse + p * kLanes), delta = load(space.delta + p * kLanes);
        for (int64_t j = 0; j < n; ++j) {
          const F16 w = exp(sub(load(weight + j * kLanes), lse));
          store(weight + j * kLanes, w);
          store(dscore + j * kLanes, mul(w, sub(load(dscore + j * kLanes), delta)));
        }
        add_weighted_rows(space.dq + p * kLanes * depth, set1(1.0f), space.k, dscore, n, depth, depth);
      }
      if (!any_visible) continue;
      float* const out = dkv + key * args.dkv_TX.pitch;
      add_to_keys(out, args.dkv_TX.pitch, space.dscore, space.q_rows, q_pitch, block, keys, shape.nope);
      add_to_keys(out + shape.nope, args.dkv_TX.pitch, space.weight, space.grad_rows, round_up_lanes(value), block,
                  keys, value);
      if (shape.rope > 0)
        add_to_keys(dk_rope + key * args.scratch.pitch, args.scratch.pitch, space.dscore, space.q_rows + nope_pitch,
                    q_pitch, block, keys, shape.rope);
    }
    alignas(64) float scale[kLanes];
    store(scale, set1(static_cast<float>(shape.scale)));
    for (int64_t p = 0; p < block.panels; ++p)
      panel_to_rows(args.dq_TX.row(row + begin + p * kLanes) + head * depth, args.dq_TX.pitch, block.lanes(p),
                    space.dq + p * kLanes * depth, scale, depth);
  }
}

// The rope gradient of sixteen columns of one row: the tree over pieces [begin, end) of chains over their heads.
F16 join_heads(const float* per_head, const AttentionBackward<float>& args, int64_t begin, int64_t end,
               int64_t columns) {
  if (end - begin > 1) {
    const int64_t middle = begin + piece_begin(end - begin, 2, 1);
    return add(join_heads(per_head, args, begin, middle, columns), join_heads(per_head, args, middle, end, columns));
  }
  const int64_t heads = args.shape.heads;
  F16 sum = zero();
  for (int64_t h = piece_begin(heads, args.pieces, begin); h < piece_begin(heads, args.pieces, begin + 1); ++h)
    sum = add(sum, load(per_head + h * args.shape.rope, columns));
  return sum;
}

}  // namespace

void attention_backward(const Stream& stream, const AttentionBackward<float>& args) {
  const AttentionShape& shape = args.shape;
  check_attention_workspace(BackwardSpace(nullptr, shape).bytes);
  const int64_t rows = args.dq_TX.rows();
  stream.pool().parallel_for(rows / shape.sequence_length * shape.heads, [&](int64_t task, int thread) {
    backward_head(args, BackwardSpace(stream.pool().workspace(thread), shape),
                  task / shape.heads * shape.sequence_length, task % shape.heads);
  });
  stream.pool().parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t end = rows < (task + 1) * kRowsPerTask ? rows : (task + 1) * kRowsPerTask;
    for (int64_t t = task * kRowsPerTask; t < end; ++t)
      for (int64_t d = 0; d < shape.rope; d += kLanes) {
        const int64_t columns = shape.rope - d < kLanes ? shape.rope - d : kLanes;
        store(args.dk_rope_TR.row(t) + d, join_heads(args.scratch.row(t) + d, args, 0, args.pieces, columns), columns);
      }
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(attention_backward, AttentionBackward<float>)

#ifdef TAEL_ISA_PORTABLE
namespace tael {

AttentionScratch attention_backward_scratch(int64_t rows, const AttentionShape& shape) {
  return {rows, shape.heads * shape.rope};
}

int64_t attention_workspace_bytes(const AttentionShape& shape) {
  return portable::BackwardSpace(nullptr, shape).bytes;  // it has all that forward has, and more
}

}  // namespace tael
#endif
