#include "parallel/grad_reduce.hpp"

#include <algorithm>
#include <bit>

#include "parallel/flat_sum.hpp"
#include "parallel/lanes.hpp"

namespace tael {

namespace {

Vec<float> part(Vec<float> v, int64_t begin, int64_t end) { return vec(v.data + begin, end - begin); }

std::span<const std::byte> bytes_of(Vec<float> v) {
  return std::as_bytes(std::span(v.data, static_cast<size_t>(v.size())));
}
std::span<std::byte> writable_bytes_of(Vec<float> v) {
  return std::as_writable_bytes(std::span(v.data, static_cast<size_t>(v.size())));
}

void reduce_piece(const Stream& stream, Comm& comm, Vec<float> received, Vec<float> piece) {
  // What this rank still works on. Its partner at every distance works on the same part: they differ in one bit of the
  // rank, and the part follows from the lower bits.
  int64_t begin = 0, end = piece.size();
  struct Half {
    int64_t begin, end;  // given away at this distance, to be fetched again
  };
  Half given[32];
  int depth = 0;
  for (int distance = 1; distance < comm.size(); distance *= 2) {
    const int64_t middle = begin + (end - begin + 1) / 2;
    const bool lower = (comm.rank() & distance) == 0;
    const Half keep = lower ? Half{begin, middle} : Half{middle, end};
    const Half give = lower ? Half{middle, end} : Half{begin, middle};
    const Vec<float> theirs = vec(received.data, keep.end - keep.begin);
    comm.exchange(bytes_of(part(piece, give.begin, give.end)), writable_bytes_of(theirs), comm.rank() ^ distance);
    const Vec<float> mine = part(piece, keep.begin, keep.end);
    lower ? add_upper(stream, mine, theirs) : add_lower(stream, mine, theirs);
    stream.synchronize();
    given[depth++] = give;
    begin = keep.begin;
    end = keep.end;
  }
  for (int distance = comm.size() / 2; distance >= 1; distance /= 2) {
    const Half back = given[--depth];
    comm.exchange(bytes_of(part(piece, begin, end)), writable_bytes_of(part(piece, back.begin, back.end)),
                  comm.rank() ^ distance);
    begin = std::min(begin, back.begin);
    end = std::max(end, back.end);
  }
}

}  // namespace

std::string_view name_of(SumOrder order) { return order == SumOrder::canonical ? "canonical" : "fast"; }

GradReduceScratch plan_grad_reduce(Arena& arena, SumOrder order, int64_t elements, int ranks, int64_t piece) {
  CHECK(piece >= 2 && elements >= 0, "pieces of {}, {} elements", piece, elements);
  if (order == SumOrder::fast || ranks == 1) return {};
  return {.received = arena.vec<float>((std::min(elements, piece) + 1) / 2)};
}

void reduce_gradients(const Stream& stream, Comm& comm, SumOrder order, const GradReduceScratch& scratch,
                      Vec<float> grads) {
  stream.synchronize();
  if (comm.size() == 1) return;
  if (order == SumOrder::fast) {
    // In pieces, because a backend's own buffers grow with what it is given, and the memory plan does not know them.
    for (int64_t begin = 0; begin < grads.size(); begin += kGradReducePiece) {
      const int64_t count = std::min(kGradReducePiece, grads.size() - begin);
      comm.all_reduce_sum(std::span(grads.data + begin, static_cast<size_t>(count)));
    }
    return;
  }
  CHECK(std::has_single_bit(static_cast<unsigned>(comm.size())), "canonical sums over {} ranks", comm.size());
  const int64_t length = 2 * scratch.received.size();
  CHECK(length > 0 || grads.size() == 0, "no scratch for {} elements", grads.size());
  for (int64_t begin = 0; begin < grads.size(); begin += length)
    reduce_piece(stream, comm, scratch.received, part(grads, begin, std::min(grads.size(), begin + length)));
}

void sum_lane_values(Comm& comm, Mat<const double> lane_values_LV, Mat<double> all_LV, Vec<double> sums_V) {
  const int64_t values = lane_values_LV.cols();
  CHECK(lane_values_LV.contiguous() && all_LV.contiguous() && all_LV.cols() == values && sums_V.size() == values &&
            all_LV.rows() == lane_values_LV.rows() * comm.size(),
        "{} x {} values of {} ranks into {} x {}", lane_values_LV.rows(), values, comm.size(), all_LV.rows(),
        all_LV.cols());
  comm.all_gather(std::as_bytes(std::span(lane_values_LV.data, static_cast<size_t>(lane_values_LV.size()))),
                  std::as_writable_bytes(std::span(all_LV.data, static_cast<size_t>(all_LV.size()))));
  for (int64_t v = 0; v < values; ++v) sums_V(v) = tree_sum(all_LV.data + v, all_LV.rows(), values);
}

void sum_counts(Comm& comm, Vec<int64_t> counts) {
  comm.all_reduce(std::span(counts.data, static_cast<size_t>(counts.size())), ReduceOp::sum);
}

}  // namespace tael
