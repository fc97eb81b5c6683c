// Attention forward and backward by sequence length and head size, with the share of the multiply-add peak reached.
// Only what a causal mask leaves is counted: S (S + 1) / 2 pairs of positions, per pair nope + rope + value
// multiply-adds forward and 3 (nope + rope) + 2 value backward.
//
//   bench_attention [--threads=N] [--isa=NAME] [Google Benchmark's own options]
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/print.hpp"
#include "base/rng.hpp"
#include "kernels/attention.hpp"
#include "kernels/fma_peak.hpp"

namespace tael {
namespace {

struct Shape {
  const char* name;
  int64_t sequences, length, heads, nope, rope, value, document;  // document: length of each; 0: no documents
};

constexpr Shape kShapes[] = {
    {"cpu_moe", 4, 512, 8, 64, 32, 64, 0},
    {"cpu_moe_one_sequence", 1, 512, 8, 64, 32, 64, 0},
    {"short", 32, 64, 8, 64, 32, 64, 0},
    {"long", 1, 4096, 8, 64, 32, 64, 0},
    {"long_documents", 1, 4096, 8, 64, 32, 64, 500},
    {"deepseek_v3_heads", 1, 1024, 4, 128, 64, 128, 0},
};

struct Data {
  explicit Data(const Shape& s)
      : shape{s.heads, s.nope, s.rope, s.value, s.length, 1.0 / std::sqrt(static_cast<double>(s.nope + s.rope))},
        rows(s.sequences * s.length) {
    fill(q, s.heads * (s.nope + s.rope), "q"), fill(kv, s.heads * (s.nope + s.value), "kv");
    fill(k_rope, s.rope, "k_rope"), fill(grad, s.heads * s.value, "grad");
    dq.resize(q.size()), dkv.resize(kv.size()), dk_rope.resize(k_rope.size()), o.resize(grad.size());
    lse.resize(static_cast<size_t>(rows * s.heads));
    const AttentionScratch size = attention_backward_scratch(rows, shape);
    scratch.resize(static_cast<size_t>(size.rows * size.cols));
    if (s.document == 0) return;
    for (int64_t t = 0; t < rows; ++t) start.push_back(static_cast<int32_t>(t % s.length / s.document * s.document));
  }
  void fill(std::vector<float>& v, int64_t columns, const char* purpose) const {
    const Rng rng(1, purpose);
    v.resize(static_cast<size_t>(rows * columns));
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(2 * rng.uniform(i) - 1);
  }
  template <class T>
  auto view(std::vector<T>& x) const {
    return mat(x.data(), rows, static_cast<int64_t>(x.size()) / rows);
  }
  Vec<const int32_t> starts() const { return vec(start.data(), static_cast<int64_t>(start.size())); }

  void forward(const Stream& stream) {
    attention_forward(stream, {view(o), view(lse), view(q), view(kv), view(k_rope), starts(), shape});
  }
  void backward(const Stream& stream) {
    attention_backward(stream, {view(dq), view(dkv), view(dk_rope), view(scratch), view(grad), view(o), view(q),
                                view(kv), view(k_rope), view(lse), starts(), shape, 1});
  }
  double pairs() const {
    double pairs = 0;
    for (int64_t t = 0; t < rows; ++t)
      pairs += static_cast<double>(t % shape.sequence_length + 1) -
               (start.empty() ? 0 : static_cast<double>(start[static_cast<size_t>(t)]));
    return pairs * static_cast<double>(shape.heads);
  }

  AttentionShape shape;
  int64_t rows;
  std::vector<float> q, kv, k_rope, grad, o, lse, dq, dkv, dk_rope, scratch;
  std::vector<int32_t> start;
};

void measure(benchmark::State& state, const Shape& shape, const Stream& stream, bool backward, double peak) {
  Data data(shape);
  data.forward(stream);
  for (auto _ : state) backward ? data.backward(stream) : data.forward(stream);
  const double depth = static_cast<double>(shape.nope + shape.rope), value = static_cast<double>(shape.value);
  const double flops =
      2 * data.pairs() * (backward ? 3 * depth + 2 * value : depth + value) * static_cast<double>(state.iterations());
  state.counters["GFLOPS"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsRate);
  state.counters["percent_of_peak"] = benchmark::Counter(100.0 * flops / peak, benchmark::Counter::kIsRate);
}

int run(int argc, char** argv) {
  int threads = 1;
  Isa isa = best_isa();
  std::vector<char*> rest;
  for (int i = 0; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg.starts_with("--threads="))
      threads = std::atoi(argv[i] + 10);
    else if (arg.starts_with("--isa=")) {
      if (!isa_from_name(arg.substr(6), isa)) fail(Exit::usage, "no instruction set is called {}", arg.substr(6));
    } else
      rest.push_back(argv[i]);
  }
  ThreadPool pool(threads);
  const Stream stream(pool, isa);
  double peak = 0;
  fma_peak(stream, {.flops_per_second = &peak, .seconds = 0.002, .repeats = 300});
  print_to(stdout, "{} threads, {}: multiply-add peak {:.1f} GFLOPS\n", threads, name_of(isa), peak * 1e-9);
  for (const Shape& shape : kShapes)
    for (const bool backward : {false, true})
      benchmark::RegisterBenchmark(
          (std::string(shape.name) + (backward ? "/backward" : "/forward")).c_str(),
          [=, &shape, &stream](benchmark::State& state) { measure(state, shape, stream, backward, peak); })
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
  int count = static_cast<int>(rest.size());
  benchmark::Initialize(&count, rest.data());
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace tael

int main(int argc, char** argv) { return tael::run(argc, argv); }
