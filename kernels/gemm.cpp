#include "kernels/gemm.hpp"

#include "kernels/gemm_pack.hpp"
#include "kernels/gemm_tile.hpp"

namespace tael::TAEL_ISA {
namespace {

// Blocking, after Goto & van de Geijn (ACM TOMS 34, 2008): a panel of B (kInnerBlock x kTileCols) stays in the L1 cache
// while the stripes of a block of A (kRowBlock x kInnerBlock, L2) pass by; the packed block of B lies in L2 and L3.
constexpr int64_t kInnerBlock = 256;
constexpr int64_t kRowBlock = 144;
constexpr int64_t kMaxTaskRows = 1536, kMinTaskRows = 96;  // of c in one task, and so the price of packing B
constexpr int64_t kMaxTaskCols = 1024, kMinTaskCols = 128;
constexpr int64_t kTasksPerThread =
    4;  // at least, while tasks are larger than the minimum: the last ones to finish wait
constexpr int64_t kUnpackedRows = 2 * 12;  // below so many rows packing B costs more than it brings
constexpr int64_t kFewRows = 2;            // up to so many rows of a transposed B are turned in registers

static_assert(kRowBlock % kTileRows == 0 && kMaxTaskCols % kTileCols == 0 && kMinTaskCols % kTileCols == 0);
static_assert((kInnerBlock * kMaxTaskCols + kInnerBlock * kRowBlock) * static_cast<int64_t>(sizeof(float)) <=
              kGemmWorkspaceBytes);
static_assert(kGemmWorkspaceBytes <= static_cast<int64_t>(ThreadPool::kWorkspaceBytes));

TAEL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
TAEL_INLINE int64_t parts(int64_t length, int64_t part) { return (length + part - 1) / part; }
TAEL_INLINE int64_t round_up(int64_t n, int64_t unit) { return parts(n, unit) * unit; }

// c[i, j] (+)= sum over p of a(i, p) b(p, j). How a and b lie in memory is the Form's business.
struct Product {
  float* c;
  int64_t c_pitch;
  const float* a;
  int64_t a_pitch;
  const float* b;
  int64_t b_pitch;
  int64_t rows, cols, inner;
};

template <bool kATransposed, bool kBTransposed>
struct Form {
  // a(i, p) is a[i * pitch + p], transposed a[p * pitch + i]; b(p, j) is b[p * pitch + j], transposed b[j * pitch + p].
  static constexpr bool a_transposed = kATransposed, b_transposed = kBTransposed;
};
using ForwardForm = Form<false, true>;
using InputGradForm = Form<false, false>;
using WeightGradForm = Form<true, false>;

struct Block {
  int64_t row_begin, row_end, col_begin, col_end;
};

void write_zeros(const Product& x, const Block& block) {
  for (int64_t i = block.row_begin; i < block.row_end; ++i)
    for (int64_t j = block.col_begin; j < block.col_end; j += kLanes)
      store(x.c + i * x.c_pitch + j, zero(), smaller(kLanes, block.col_end - j));
}

// Few rows times a transposed B, as decoding has it: B comes from memory once and is worth no packing, so sixteen
// numbers, a line of the cache, of sixteen of its rows are turned at a time, beside the sums of those before.
template <int kRows>
void multiply_few(const Product& x, const Block& block, bool accumulate) {
  constexpr int64_t kDepth = 16;
  alignas(64) float turned[kDepth * kLanes];
  for (int64_t j = block.col_begin; j < block.col_end; j += kLanes) {
    const int64_t cols = smaller(kLanes, block.col_end - j);
    float* c = x.c + block.row_begin * x.c_pitch + j;
    F16 sum[kRows];
    for (int i = 0; i < kRows; ++i) sum[i] = accumulate ? load(c + i * x.c_pitch, cols) : zero();
    for (int64_t p = 0; p < x.inner; p += kDepth) {
      const int64_t depth = smaller(kDepth, x.inner - p);
      const float* b = x.b + j * x.b_pitch + p;
      if (cols == kLanes && depth == kDepth) {
        for (int64_t i = 0; i < kLanes; i += 8)  // all of a line at once: rows a power of two apart share few lines
          for (int64_t q = 0; q < kDepth; q += 8)
            transpose8(turned + q * kLanes + i, kLanes, b + i * x.b_pitch + q, x.b_pitch);
      } else {
        for (int64_t q = 0; q < depth; ++q)
          for (int64_t i = 0; i < kLanes; ++i) turned[q * kLanes + i] = i < cols ? b[i * x.b_pitch + q] : 0.0f;
      }
      const float* a = x.a + block.row_begin * x.a_pitch + p;
      for (int64_t q = 0; q < depth; ++q) {
        const F16 bq = load(turned + q * kLanes);
        for (int i = 0; i < kRows; ++i) sum[i] = fma(set1(a[i * x.a_pitch + q]), bq, sum[i]);
      }
    }
    for (int i = 0; i < kRows; ++i) store(c + i * x.c_pitch, sum[i], cols);
  }
}

// One task: a block of c, the whole summed index.
template <class F>
void multiply_block(const Product& x, const Block& block, bool accumulate, float* workspace) {
  if (x.inner == 0) {
    if (!accumulate) write_zeros(x, block);
    return;
  }
  if constexpr (F::b_transposed) {
    const int64_t rows = block.row_end - block.row_begin;
    if (rows <= kFewRows)
      return rows == 1 ? multiply_few<1>(x, block, accumulate) : multiply_few<2>(x, block, accumulate);
  }
  float* const packed_b = workspace;
  float* const packed_a = workspace + kInnerBlock * kMaxTaskCols;
  const int64_t inner_block = parts(x.inner, parts(x.inner, kInnerBlock));
  const bool unpacked_b = !F::b_transposed && block.row_end - block.row_begin <= kUnpackedRows;
  const int64_t full_cols = (block.col_end - block.col_begin) / kTileCols * kTileCols;  // of whole panels
  for (int64_t p = 0; p < x.inner; p += inner_block) {
    const int64_t k = smaller(inner_block, x.inner - p);
    const auto panel_of = [&](int64_t j) TAEL_INLINE_LAMBDA { return packed_b + (j - block.col_begin) * k; };
    if constexpr (F::b_transposed) {
      for (int64_t j = block.col_begin; j < block.col_end; j += kTileCols)
        pack_panel_transposed(panel_of(j), x.b + j * x.b_pitch + p, x.b_pitch, k,
                              smaller(kTileCols, block.col_end - j));
    } else {
      const int64_t begin = unpacked_b ? block.col_begin + full_cols : block.col_begin;
      pack_panels(panel_of(begin), x.b + p * x.b_pitch + begin, x.b_pitch, k, block.col_end - begin);
    }
    for (int64_t ii = block.row_begin; ii < block.row_end; ii += kRowBlock) {
      const int64_t row_end = smaller(ii + kRowBlock, block.row_end);
      if constexpr (F::a_transposed)
        pack_stripes_transposed(packed_a, x.a + p * x.a_pitch + ii, x.a_pitch, k, row_end - ii);
      for (int64_t j = block.col_begin; j < block.col_end; j += kTileCols) {
        TileArgs t;
        t.k = k;
        t.cols = smaller(kTileCols, block.col_end - j);
        t.from_zero = p == 0 && !accumulate;
        t.c_pitch = x.c_pitch;
        const bool packed = !unpacked_b || t.cols < kTileCols;
        t.b = packed ? panel_of(j) : x.b + p * x.b_pitch + j;
        t.b_step = packed ? kTileCols : x.b_pitch;
        t.a_row = F::a_transposed ? 1 : x.a_pitch;
        t.a_step = F::a_transposed ? kTileRows : 1;
        for (int64_t i = ii; i < row_end; i += kTileRows) {
          t.c = x.c + i * x.c_pitch + j;
          t.a = F::a_transposed ? packed_a + (i - ii) * k : x.a + i * x.a_pitch + p;
          tile_of_rows(smaller(kTileRows, row_end - i), t);
        }
      }
    }
  }
}

struct TaskShape {
  int64_t rows, cols;
};

// Shares out all products, `pieces` of each of `groups` (experts), in blocks. product_of(group, piece) is called often
// and must be cheap. The sizes of the blocks depend on the number of threads; the bits of c do not.
template <class F, class ProductOf>
TAEL_INLINE void multiply(const Stream& stream, int64_t groups, int64_t pieces, bool accumulate,
                          const ProductOf& product_of) {
  const auto blocks_of = [&](int64_t group, const TaskShape& shape) TAEL_INLINE_LAMBDA {
    const Product x = product_of(group, 0);
    return parts(x.rows, shape.rows) * parts(x.cols, shape.cols) * pieces;
  };
  const auto all_blocks = [&](const TaskShape& shape) TAEL_INLINE_LAMBDA {
    int64_t n = 0;
    for (int64_t g = 0; g < groups; ++g) n += blocks_of(g, shape);
    return n;
  };
  const int64_t threads = stream.pool().threads();
  TaskShape shape = {kMaxTaskRows, kMaxTaskCols};
  while (threads > 1 && all_blocks(shape) < kTasksPerThread * threads) {
    if (shape.cols > kMinTaskCols)
      shape.cols /= 2;
    else if (shape.rows > kMinTaskRows)
      shape.rows /= 2;
    else
      break;
  }
  stream.pool().parallel_for(all_blocks(shape), [&](int64_t task, int thread) {
    int64_t group = 0;
    for (int64_t n; task >= (n = blocks_of(group, shape)); ++group) task -= n;
    const Product first = product_of(group, 0);
    const int64_t row_blocks = parts(first.rows, shape.rows), col_blocks = parts(first.cols, shape.cols);
    const int64_t piece = task / (row_blocks * col_blocks), block = task % (row_blocks * col_blocks);
    // Even blocks, so that the last one is no sliver.
    const int64_t rows = round_up(parts(first.rows, row_blocks), kTileRows);
    const int64_t cols = round_up(parts(first.cols, col_blocks), kTileCols);
    const int64_t row = block / col_blocks * rows, col = block % col_blocks * cols;
    if (row >= first.rows || col >= first.cols) return;
    multiply_block<F>(product_of(group, piece),
                      {row, smaller(row + rows, first.rows), col, smaller(col + cols, first.cols)}, accumulate,
                      reinterpret_cast<float*>(stream.pool().workspace(thread)));
  });
}

}  // namespace

void gemm_forward(const Stream& stream, const GemmForward<float>& args) {
  const int64_t pieces = args.y_PMN.dim[0];
  multiply<ForwardForm>(stream, 1, pieces, args.accumulate, [&](int64_t, int64_t piece) TAEL_INLINE_LAMBDA {
    const int64_t begin = piece_begin(args.x_MK.dim[1], pieces, piece);
    const int64_t end = piece_begin(args.x_MK.dim[1], pieces, piece + 1);
    return Product{args.y_PMN.data + piece * args.y_PMN.dim[1] * args.y_PMN.pitch,
                   args.y_PMN.pitch,
                   args.x_MK.data + begin,
                   args.x_MK.pitch,
                   args.w_NK.data + begin,
                   args.w_NK.pitch,
                   args.y_PMN.dim[1],
                   args.y_PMN.dim[2],
                   end - begin};
  });
}

void gemm_input_grad(const Stream& stream, const GemmInputGrad<float>& args) {
  const int64_t pieces = args.dx_PMK.dim[0];
  multiply<InputGradForm>(stream, 1, pieces, args.accumulate, [&](int64_t, int64_t piece) TAEL_INLINE_LAMBDA {
    const int64_t begin = piece_begin(args.dy_MN.dim[1], pieces, piece);
    const int64_t end = piece_begin(args.dy_MN.dim[1], pieces, piece + 1);
    return Product{args.dx_PMK.data + piece * args.dx_PMK.dim[1] * args.dx_PMK.pitch,
                   args.dx_PMK.pitch,
                   args.dy_MN.data + begin,
                   args.dy_MN.pitch,
                   args.w_NK.data + begin * args.w_NK.pitch,
                   args.w_NK.pitch,
                   args.dx_PMK.dim[1],
                   args.dx_PMK.dim[2],
                   end - begin};
  });
}

void gemm_weight_grad(const Stream& stream, const GemmWeightGrad<float>& args) {
  multiply<WeightGradForm>(stream, 1, 1, true, [&](int64_t, int64_t) TAEL_INLINE_LAMBDA {
    return Product{args.dw_NK.data, args.dw_NK.pitch,  args.dy_MN.data,   args.dy_MN.pitch, args.x_MK.data,
                   args.x_MK.pitch, args.dw_NK.dim[0], args.dw_NK.dim[1], args.dy_MN.dim[0]};
  });
}

void grouped_gemm_forward(const Stream& stream, const GroupedGemmForward<float>& args) {
  const int64_t pieces = args.y_PMN.dim[0];
  multiply<ForwardForm>(stream, args.offset_E1.dim[0] - 1, pieces, args.accumulate,
                        [&](int64_t expert, int64_t piece) TAEL_INLINE_LAMBDA {
                          const int64_t row = args.offset_E1(expert), rows = args.offset_E1(expert + 1) - row;
                          const int64_t begin = piece_begin(args.x_MK.dim[1], pieces, piece);
                          const int64_t end = piece_begin(args.x_MK.dim[1], pieces, piece + 1);
                          return Product{args.y_PMN.data + (piece * args.y_PMN.dim[1] + row) * args.y_PMN.pitch,
                                         args.y_PMN.pitch,
                                         args.x_MK.data + row * args.x_MK.pitch + begin,
                                         args.x_MK.pitch,
                                         args.w_NK.data + expert * args.weight_stride + begin,
                                         args.w_NK.pitch,
                                         rows,
                                         args.y_PMN.dim[2],
                                         end - begin};
                        });
}

void grouped_gemm_input_grad(const Stream& stream, const GroupedGemmInputGrad<float>& args) {
  const int64_t pieces = args.dx_PMK.dim[0];
  multiply<InputGradForm>(stream, args.offset_E1.dim[0] - 1, pieces, args.accumulate,
                          [&](int64_t expert, int64_t piece) TAEL_INLINE_LAMBDA {
                            const int64_t row = args.offset_E1(expert), rows = args.offset_E1(expert + 1) - row;
                            const int64_t begin = piece_begin(args.dy_MN.dim[1], pieces, piece);
                            const int64_t end = piece_begin(args.dy_MN.dim[1], pieces, piece + 1);
                            return Product{args.dx_PMK.data + (piece * args.dx_PMK.dim[1] + row) * args.dx_PMK.pitch,
                                           args.dx_PMK.pitch,
                                           args.dy_MN.data + row * args.dy_MN.pitch + begin,
                                           args.dy_MN.pitch,
                                           args.w_NK.data + expert * args.weight_stride + begin * args.w_NK.pitch,
                                           args.w_NK.pitch,
                                           rows,
                                           args.dx_PMK.dim[2],
                                           end - begin};
                          });
}

void grouped_gemm_weight_grad(const Stream& stream, const GroupedGemmWeightGrad<float>& args) {
  multiply<WeightGradForm>(stream, args.offset_E1.dim[0] - 1, 1, true, [&](int64_t expert, int64_t) TAEL_INLINE_LAMBDA {
    const int64_t row = args.offset_E1(expert), rows = args.offset_E1(expert + 1) - row;
    return Product{args.dw_NK.data + expert * args.weight_stride,
                   args.dw_NK.pitch,
                   args.dy_MN.data + row * args.dy_MN.pitch,
                   args.dy_MN.pitch,
                   args.x_MK.data + row * args.x_MK.pitch,
                   args.x_MK.pitch,
                   args.dw_NK.dim[0],
                   args.dw_NK.dim[1],
                   rows};
  });
}

}  // namespace tael::TAEL_ISA

TAEL_KERNEL(gemm_forward, GemmForward<float>)
TAEL_KERNEL(gemm_input_grad, GemmInputGrad<float>)
TAEL_KERNEL(gemm_weight_grad, GemmWeightGrad<float>)
TAEL_KERNEL(grouped_gemm_forward, GroupedGemmForward<float>)
TAEL_KERNEL(grouped_gemm_input_grad, GroupedGemmInputGrad<float>)
TAEL_KERNEL(grouped_gemm_weight_grad, GroupedGemmWeightGrad<float>)
