#include "tests/parallel/comm_checks.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <vector>

#include "base/rng.hpp"
#include "base/stream.hpp"
#include "parallel/grad_reduce.hpp"
#include "parallel/lanes.hpp"

namespace tael::testing {

namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& v) {
  return std::as_bytes(std::span(v));
}
template <class T>
std::span<std::byte> writable_bytes_of(std::vector<T>& v) {
  return std::as_writable_bytes(std::span(v));
}

// Exponents differ widely, so that another order of summation gives other bits almost everywhere. (SplitMix64: the
// numbers of eight lanes are made again on every rank.)
std::vector<float> numbers(int64_t n, int who) {
  std::vector<float> v(static_cast<size_t>(n));
  uint64_t state = static_cast<uint64_t>(who) << 32;
  for (float& x : v) {
    uint64_t bits = state += 0x9e3779b97f4a7c15u;
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebu;
    bits ^= bits >> 31;
    x = std::bit_cast<float>(static_cast<uint32_t>((bits & 0x807fffffu) | (120 + (bits >> 40) % 12) << 23));
  }
  return v;
}

// The tree of neighbours over whole vectors, written as the definition reads.
std::vector<float> serial_tree(std::vector<std::vector<float>> level) {
  while (level.size() > 1) {
    std::vector<std::vector<float>> next(level.size() / 2);
    for (size_t p = 0; p < next.size(); ++p) {
      next[p].resize(level[0].size());
      for (size_t i = 0; i < next[p].size(); ++i) next[p][i] = level[2 * p][i] + level[2 * p + 1][i];
    }
    level = std::move(next);
  }
  return level[0];
}

bool same_bits(const float* a, const float* b, size_t n) { return n == 0 || std::memcmp(a, b, n * sizeof(float)) == 0; }

void check_operations_of_size(Comm& comm, size_t n) {
  const int size = comm.size(), rank = comm.rank();
  for (int root = 0; root < size; ++root) {
    std::vector<uint8_t> data(n, static_cast<uint8_t>(rank + 1));
    comm.broadcast(writable_bytes_of(data), root);
    EXPECT_EQ(data, std::vector<uint8_t>(n, static_cast<uint8_t>(root + 1)));
  }
  std::vector<uint8_t> mine(n, static_cast<uint8_t>(rank + 1)), all(n * static_cast<size_t>(size)), expected;
  for (int r = 0; r < size; ++r) expected.insert(expected.end(), n, static_cast<uint8_t>(r + 1));
  comm.all_gather(bytes_of(mine), writable_bytes_of(all));
  EXPECT_EQ(all, expected);

  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
    std::vector<int64_t> values(n), result(n);
    const int64_t far = int64_t{1} << 53;  // a double would lose the last digits
    for (size_t i = 0; i < n; ++i) {
      values[i] = far + static_cast<int64_t>(i) * 3 + rank;
      const int64_t first = far + static_cast<int64_t>(i) * 3;
      result[i] = op == ReduceOp::sum   ? size * first + size * (size - 1) / 2
                  : op == ReduceOp::max ? first + size - 1
                                        : first;
    }
    comm.all_reduce(values, op);
    EXPECT_EQ(values, result);
  }
  // Integers that floats hold exactly: any order gives the same.
  std::vector<float> sums(n), expected_sums(n);
  for (size_t i = 0; i < n; ++i) {
    sums[i] = static_cast<float>(i % 1000) + static_cast<float>(rank);
    expected_sums[i] = static_cast<float>(size * static_cast<int>(i % 1000) + size * (size - 1) / 2);
  }
  comm.all_reduce_sum(sums);
  EXPECT_EQ(sums, expected_sums);

  if (size % 2 == 0) {
    const int partner = rank ^ 1;
    // Both directions at once, of different length.
    std::vector<float> out(n + static_cast<size_t>(rank), static_cast<float>(rank));
    std::vector<float> in(n + static_cast<size_t>(partner), -1.0f);
    comm.exchange(bytes_of(out), writable_bytes_of(in), partner);
    EXPECT_EQ(in, std::vector<float>(n + static_cast<size_t>(partner), static_cast<float>(partner)));
  }
}

}  // namespace

void check_operations(Comm& comm) {
  comm.barrier();
  for (const size_t n : {size_t{0}, size_t{1}, size_t{7}, size_t{4096}, size_t{262147}})
    check_operations_of_size(comm, n);
  std::vector<std::string> expected;
  for (int r = 0; r < comm.size(); ++r) expected.push_back(std::string(static_cast<size_t>(r) * 5, 'a' + char(r)));
  EXPECT_EQ(comm.all_gather_text(expected[static_cast<size_t>(comm.rank())]), expected);
  EXPECT_EQ(comm.all_gather_text(""), std::vector<std::string>(static_cast<size_t>(comm.size())));
  const bool first = comm.rank() == 0;
  EXPECT_EQ(comm.gather_text(expected[static_cast<size_t>(comm.rank())]),
            first ? expected : std::vector<std::string>());
  EXPECT_EQ(comm.gather_text(""), std::vector<std::string>(first ? static_cast<size_t>(comm.size()) : 0));
  comm.barrier();
}

uint64_t check_canonical_sums(Comm& comm) {
  constexpr int kLanes = 8;
  constexpr int64_t kPiece = 300001;  // several pieces, the last one short
  ThreadPool pool(1);
  const Stream stream(pool, Isa::portable);
  const LaneRange mine = lanes_of(comm.rank(), comm.size(), kLanes);
  uint64_t digest = 0xcbf29ce484222325u;
  const auto mix = [&digest](const void* data, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) digest = (digest ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3u;
  };
  for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{7}, int64_t{1000003}}) {
    const auto plan = [&](Arena& arena) {
      LaneAccumulator lanes(arena, {.elements = n, .gradient_size = n, .lanes = mine.count(), .extra_uses = {}});
      return std::pair(std::move(lanes), plan_grad_reduce(arena, SumOrder::canonical, n, comm.size(), kPiece));
    };
    Arena measure = Arena::measuring();
    plan(measure);
    Arena arena("gradients", measure.peak());
    auto [lanes, scratch] = plan(arena);
    EXPECT_EQ(arena.peak(), measure.peak());
    for (int l = mine.begin; l < mine.end; ++l) {
      const Vec<float> grads = lanes.begin_lane(stream);
      const std::vector<float> values = numbers(n, l);
      for (int64_t i = 0; i < n; ++i) grads(i) += values[static_cast<size_t>(i)];
      lanes.end_lane(stream);
    }
    const Vec<float> total = lanes.finish();
    reduce_gradients(stream, comm, SumOrder::canonical, scratch, total);
    std::vector<std::vector<float>> all_lanes;
    for (int l = 0; l < kLanes; ++l) all_lanes.push_back(numbers(n, l));
    const std::vector<float> expected = serial_tree(std::move(all_lanes));
    EXPECT_TRUE(same_bits(total.data, expected.data(), expected.size())) << n << " floats, " << comm.size() << " ranks";
    mix(total.data, static_cast<size_t>(n) * sizeof(float));
  }
  // Losses: two quantities a lane.
  std::vector<double> values, all(kLanes * 2), sums(2), expected(2);
  for (int l = 0; l < kLanes; ++l)
    for (int v = 0; v < 2; ++v) {
      const double x = (Rng(7, "losses").uniform(static_cast<uint64_t>(2 * l + v)) - 0.5) * (v == 0 ? 1.0 : 1e9);
      all[static_cast<size_t>(2 * l + v)] = x;
      if (l >= mine.begin && l < mine.end) values.push_back(x);
    }
  for (size_t v = 0; v < 2; ++v)
    expected[v] = ((all[v] + all[2 + v]) + (all[4 + v] + all[6 + v])) +
                  ((all[8 + v] + all[10 + v]) + (all[12 + v] + all[14 + v]));
  std::vector<double> gathered(kLanes * 2);
  sum_lane_values(comm, mat<const double>(values.data(), mine.count(), 2), mat(gathered.data(), kLanes, 2),
                  vec(sums.data(), 2));
  EXPECT_EQ(sums, expected);
  mix(sums.data(), sums.size() * sizeof(double));
  return digest;
}

}  // namespace tael::testing
