#include "kernels/latent_attention.hpp"

#include "kernels/attention_block.hpp"

namespace tael::TAEL_ISA {
namespace {

constexpr int64_t kSegment = 256;  // positions
static_assert(kSegment % kBlockKeys == 0);

// Sixteen heads' softmax over some positions: weights are relative to `largest`, `total` is their sum, o their sum of
// latents, [latent][16].
struct Partial {
  float *largest, *total, *o;

  TAEL_INLINE static int64_t floats(int64_t latent) { return (latent + 2) * kLanes; }
  TAEL_INLINE explicit Partial(float* memory) : largest(memory), total(memory + kLanes), o(memory + 2 * kLanes) {}
  TAEL_INLINE void clear(int64_t latent) const {
    store(largest, set1(-__FLT_MAX__));
    store(total, zero());
    for (int64_t c = 0; c < latent; ++c) store(o + c * kLanes, zero());
  }
};

struct Space {
  int64_t bytes;
  float *q, *score, *segment, *sum;

  Space(std::byte* workspace, const LatentAttentionShape& shape) {
    WorkspaceCut cut(workspace);
    q = cut.take(kLanes * (shape.latent + shape.rope));
    score = cut.take(kBlockKeys * kLanes);
    segment = cut.take(Partial::floats(shape.latent));
    sum = cut.take(Partial::floats(shape.latent));
    bytes = cut.bytes();
  }
};

// The lanes are heads of one row.
struct HeadPanel {
  int64_t row, head, lanes;
};

TAEL_INLINE int64_t panels_of(int64_t heads) { return (heads + kLanes - 1) / kLanes; }
TAEL_INLINE int64_t segments_of(int64_t positions) { return (positions + kSegment - 1) / kSegment; }
TAEL_INLINE HeadPanel panel_of(const LatentAttentionShape& shape, int64_t row, int64_t panel) {
  const int64_t head = panel * kLanes, left = shape.heads - head;
  return {row, head, left < kLanes ? left : kLanes};
}

void fill_queries(const LatentAttention<float>& args, const HeadPanel& panel, float* q) {
  const int64_t depth = args.shape.latent + args.shape.rope;
  rows_to_panel(q, args.q_TX.row(panel.row) + panel.head * depth, depth, panel.lanes, depth,
                static_cast<float>(args.shape.scale));
}

// Positions [begin, end) into `partial`, from nothing.
void attend(const LatentAttention<float>& args, const float* q, float* score, int64_t begin, int64_t end,
            const Partial& partial) {
  const int64_t latent = args.shape.latent, depth = latent + args.shape.rope;
  partial.clear(latent);
  for (int64_t key = begin; key < end; key += kBlockKeys) {
    const int64_t keys = end - key < kBlockKeys ? end - key : kBlockKeys;
    const float* rows = args.cache_SX.row(key);
    rows_times_panel(score, rows, q, keys, depth);
    const F16 shrink = softmax_step(score, keys, partial.largest, partial.total);
    add_weighted_rows(partial.o, shrink, rows, score, keys, latent, depth);
  }
}

// sum = sum and part together.
void join(const Partial& sum, const Partial& part, int64_t latent) {
  const F16 before = load(sum.largest), added = load(part.largest), m = max(before, added);
  const F16 a = exp(sub(before, m)), b = exp(sub(added, m));
  store(sum.largest, m);
  store(sum.total, fma(load(part.total), b, mul(load(sum.total), a)));
  for (int64_t c = 0; c < latent; ++c)
    store(sum.o + c * kLanes, fma(load(part.o + c * kLanes), b, mul(load(sum.o + c * kLanes), a)));
}

void write_out(const LatentAttention<float>& args, const HeadPanel& panel, const Partial& sum) {
  alignas(64) float inverse[kLanes];
  store(inverse, div(set1(1.0f), load(sum.total)));
  const int64_t latent = args.shape.latent;
  panel_to_rows(args.o_TX.row(panel.row) + panel.head * latent, latent, panel.lanes, sum.o, inverse, latent);
}

// One row: every segment of every panel is a task of its own, then panels join theirs.
void attend_one_row(const Stream& stream, const LatentAttention<float>& args) {
  const LatentAttentionShape& shape = args.shape;
  const int64_t seen = args.cache_SX.rows(), panels = panels_of(shape.heads), segments = segments_of(seen);
  stream.pool().parallel_for(panels * segments, [&](int64_t task, int thread) {
    const Space space(stream.pool().workspace(thread), shape);
    const int64_t begin = task % segments * kSegment, end = begin + kSegment < seen ? begin + kSegment : seen;
    fill_queries(args, panel_of(shape, 0, task / segments), space.q);
    attend(args, space.q, space.score, begin, end, Partial(args.scratch.row(task)));
  });
  stream.pool().parallel_for(panels, [&](int64_t task, int thread) {
    const Partial sum(Space(stream.pool().workspace(thread), shape).sum);
    sum.clear(shape.latent);
    for (int64_t s = 0; s < segments; ++s) join(sum, Partial(args.scratch.row(task * segments + s)), shape.latent);
    write_out(args, panel_of(shape, 0, task), sum);
  });
}

}  // namespace

void latent_attention(const Stream& stream, const LatentAttention<float>& args) {
  const LatentAttentionShape& shape = args.shape;
  check_attention_workspace(Space(nullptr, shape).bytes);
  const int64_t rows = args.o_TX.rows(), panels = panels_of(shape.heads);
  if (rows == 1) return attend_one_row(stream, args);
  stream.pool().parallel_for(rows * panels, [&](int64_t task, int thread) {
    // The last rows see the most positions: they go first, so that no thread is left with a long task at the end.
    const HeadPanel panel = panel_of(shape, rows - 1 - task / panels, task % panels);
    const int64_t seen = args.cache_SX.rows() - rows + panel.row + 1;
    const Space space(stream.pool().workspace(thread), shape);
    const Partial segment(space.segment), sum(space.sum);
    fill_queries(args, panel, space.q);
    sum.clear(shape.latent);
    for (int64_t begin = 0; begin < seen; begin += kSegment) {
      attend(args, space.q, space.score, begin, begin + kSegment < seen ? begin + kSegment : seen, segment);
      join(sum, segment, shape.latent);
    }
    write_out(args, panel, sum);
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(latent_attention, LatentAttention<float>)

#ifdef TAEL_ISA_PORTABLE
namespace tael {

LatentAttentionScratch latent_attention_scratch(int64_t rows, int64_t positions, const LatentAttentionShape& shape) {
  if (rows != 1) return {0, 0};
  return {portable::panels_of(shape.heads) * portable::segments_of(positions), portable::Partial::floats(shape.latent)};
}

int64_t latent_attention_workspace_bytes(const LatentAttentionShape& shape) {
  return portable::Space(nullptr, shape).bytes;
}

}  // namespace tael
#endif
