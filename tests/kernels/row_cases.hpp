// What every row kernel is tested for: the same bits for any number of threads and any cut of the rows into calls.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/harness/matrix.hpp"
#include "tests/harness/oracle.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"
#include "tests/kernels/isa_cases.hpp"

namespace tael::testing {

// The rows in one call, in three uneven ones, and (few rows) one by one: row numbers, ascending.
inline std::vector<std::vector<int64_t>> cuts_of(int64_t rows) {
  std::vector<std::vector<int64_t>> cuts = {{0, rows}, {0, rows / 3, rows / 3 + rows / 2, rows}};
  std::vector<int64_t> singly;
  for (int64_t t = 0; t <= rows; ++t) singly.push_back(t);
  cuts.push_back(singly);
  return cuts;
}

// run(stream) gives the outputs' bits; they must be the same for 1, 2, 3 and 5 threads.
template <class Run>
void expect_no_trace_of_threads(Isa isa, const Run& run) {
  ThreadPool one(1);
  const auto expected = run(Stream(one, isa));
  for (int threads : {2, 3, 5}) {
    ThreadPool pool(threads);
    EXPECT_TRUE(same_bits(run(Stream(pool, isa)), expected)) << threads << " threads";
  }
}

// run(stream, first_row, end_row) works on some of the rows; read() then gives all outputs' bits.
template <class Run, class Read>
void expect_no_trace_of_cuts(const Stream& stream, int64_t rows, const Run& run, const Read& read) {
  run(stream, 0, rows);
  const auto expected = read();
  for (const std::vector<int64_t>& cut : cuts_of(rows)) {
    for (size_t i = 0; i + 1 < cut.size(); ++i) run(stream, cut[i], cut[i + 1]);
    EXPECT_TRUE(same_bits(read(), expected)) << cut.size() - 1 << " calls";
  }
}

// run(stream) must give the same bits on every instruction set of this machine.
template <class Run>
void expect_no_trace_of_isa(const Run& run) {
  ThreadPool pool(1);
  const auto expected = run(Stream(pool, Isa::portable));
  for (Isa isa : {Isa::avx2, Isa::avx512}) {
    if (!machine_has(isa)) continue;
    EXPECT_TRUE(same_bits(run(Stream(pool, isa)), expected)) << name_of(isa);
  }
}

// run(stream) must give the same bits on avx2 and avx512; skipped where one of them is missing.
template <class Run>
void expect_avx512_like_avx2(const Run& run) {
  for (Isa isa : {Isa::avx2, Isa::avx512})
    if (!machine_has(isa)) GTEST_SKIP() << "no " << name_of(isa) << " on this machine";
  ThreadPool pool(1);
  EXPECT_TRUE(same_bits(run(Stream(pool, Isa::avx512)), run(Stream(pool, Isa::avx2))));
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// The row sum that rms_norm.hpp fixes: sixteen chains by column, then lane i with i + 8, i + 4, i + 2, i + 1.
template <class T>
T row_sum_in_order(const std::vector<T>& terms) {
  T lane[16] = {};
  for (size_t i = 0; i < terms.size(); ++i) lane[i % 16] += terms[i];
  for (int half = 8; half >= 1; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

}  // namespace tael::testing
