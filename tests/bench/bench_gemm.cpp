// The GEMM family on the shapes of a small MoE (configs for the CPU: hidden 512, 16 experts of 256), each in all three
// forms, with the share of the multiply-add peak reached, and oneDNN on the same shapes where it was found.
//
//   bench_gemm [--threads=N] [--isa=NAME] [Google Benchmark's own options]
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/print.hpp"
#include "base/rng.hpp"
#include "kernels/fma_peak.hpp"
#include "kernels/gemm.hpp"

#ifdef TAEL_HAVE_ONEDNN
#include <dnnl.h>
#endif

namespace tael {
namespace {

struct Shape {
  const char* name;
  int64_t rows, out, in, experts;  // rows of all experts together
};

constexpr Shape kShapes[] = {
    {"q_a+kv_a", 2048, 416, 512, 1},
    {"q_b", 2048, 768, 256, 1},
    {"kv_b", 2048, 1024, 128, 1},
    {"o", 2048, 512, 512, 1},
    {"gate_up", 2048, 3072, 512, 1},
    {"down", 2048, 512, 1536, 1},
    {"gate", 2048, 16, 512, 1},
    {"head", 4096, 4096, 512, 1},
    {"2048x1536x512", 2048, 1536, 512, 1},
    {"experts gate_up", 16384, 512, 512, 16},
    {"experts down", 16384, 512, 256, 16},
    {"decode", 4, 1536, 512, 1},
};

struct Data {
  explicit Data(const Shape& s) : shape(s) {
    fill(x, s.rows * s.in, "x");
    fill(w, s.experts * s.out * s.in, "w");
    fill(y, s.rows * s.out, "y");
    for (int64_t e = 0; e <= s.experts; ++e) {
      // Uneven experts, as a router makes them: shares between 0.7 and 1.3 of the mean.
      const double wave = e % 2 == 1 ? 0.3 : 0.0;
      offset.push_back(e == s.experts ? s.rows
                                      : static_cast<int64_t>((static_cast<double>(e) + wave) *
                                                             static_cast<double>(s.rows / s.experts)));
    }
  }
  static void fill(std::vector<float>& v, int64_t n, const char* purpose) {
    const Rng rng(1, purpose);
    v.resize(static_cast<size_t>(n));
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(rng.uniform(i) - 0.5);
  }
  Mat<float> x_MK() { return mat(x.data(), shape.rows, shape.in); }
  Mat<float> w_NK() { return mat(w.data(), shape.out, shape.in); }
  Mat<float> y_MN() { return mat(y.data(), shape.rows, shape.out); }
  Vec<const int64_t> offset_E1() { return vec<const int64_t>(offset.data(), shape.experts + 1); }
  double flops() const { return 2.0 * static_cast<double>(shape.rows * shape.out * shape.in); }

  Shape shape;
  std::vector<float> x, w, y;
  std::vector<int64_t> offset;
};

enum class Kind { forward, input_grad, weight_grad };
constexpr const char* kKindNames[] = {"forward", "input_grad", "weight_grad"};

void ours(const Stream& stream, Data& d, Kind kind) {
  const int64_t stride = d.shape.out * d.shape.in;
  const bool grouped = d.shape.experts > 1;
  if (kind == Kind::forward && grouped)
    grouped_gemm_forward(stream, {one_piece(d.y_MN()), d.x_MK(), d.w_NK(), stride, d.offset_E1()});
  else if (kind == Kind::forward)
    gemm_forward(stream, {one_piece(d.y_MN()), d.x_MK(), d.w_NK()});
  else if (kind == Kind::input_grad && grouped)
    grouped_gemm_input_grad(stream, {one_piece(d.x_MK()), d.y_MN(), d.w_NK(), stride, d.offset_E1()});
  else if (kind == Kind::input_grad)
    gemm_input_grad(stream, {one_piece(d.x_MK()), d.y_MN(), d.w_NK()});
  else if (grouped)
    grouped_gemm_weight_grad(stream, {d.w_NK(), stride, d.y_MN(), d.x_MK(), d.offset_E1()});
  else
    gemm_weight_grad(stream, {d.w_NK(), d.y_MN(), d.x_MK()});
}

#ifdef TAEL_HAVE_ONEDNN
// Row-major C = op(A) op(B), one call per expert: what a framework on top of it does.
void onednn(Data& d, Kind kind) {
  for (int64_t e = 0; e < d.shape.experts; ++e) {
    const int64_t row = d.offset[static_cast<size_t>(e)], rows = d.offset[static_cast<size_t>(e) + 1] - row;
    float* x = d.x.data() + row * d.shape.in;
    float* y = d.y.data() + row * d.shape.out;
    float* w = d.w.data() + e * d.shape.out * d.shape.in;
    const int64_t out = d.shape.out, in = d.shape.in;
    if (kind == Kind::forward)
      dnnl_sgemm('N', 'T', rows, out, in, 1.0f, x, in, w, in, 0.0f, y, out);
    else if (kind == Kind::input_grad)
      dnnl_sgemm('N', 'N', rows, in, out, 1.0f, y, out, w, in, 0.0f, x, in);
    else
      dnnl_sgemm('T', 'N', out, in, rows, 1.0f, y, out, x, in, 1.0f, w, in);
  }
}
#endif

void measure(benchmark::State& state, const Shape& shape, double peak, const std::function<void(Data&)>& call) {
  Data data(shape);
  for (auto _ : state) {
    call(data);
    benchmark::ClobberMemory();
  }
  const double flops = data.flops() * static_cast<double>(state.iterations());
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
    for (Kind kind : {Kind::forward, Kind::input_grad, Kind::weight_grad}) {
      const std::string name = fmt::format("{}/{}", shape.name, kKindNames[static_cast<int>(kind)]);
      const auto add = [&](const char* who, const std::function<void(Data&)>& call) {
        auto* entry = benchmark::RegisterBenchmark((name + "/" + who).c_str(),
                                                   [=](benchmark::State& state) { measure(state, shape, peak, call); });
        entry->Unit(benchmark::kMicrosecond);
        // One thread: processor time, which a busy machine disturbs less.
        if (threads > 1) entry->UseRealTime();
      };
      add("tael", [&stream, kind](Data& d) { ours(stream, d, kind); });
#ifdef TAEL_HAVE_ONEDNN
      add("oneDNN", [kind](Data& d) { onednn(d, kind); });
#endif
    }
  int count = static_cast<int>(rest.size());
  benchmark::Initialize(&count, rest.data());
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace tael

int main(int argc, char** argv) { return tael::run(argc, argv); }
