// The row kernels: bytes that each has to read and write per second, beside a plain copy of the same memory. They are
// bound by memory, so the copy is the bar.
//
//   bench_rows [--threads=N] [--isa=NAME] [Google Benchmark's own options]
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/print.hpp"
#include "base/rng.hpp"
#include "kernels/adamw_update.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/embedding.hpp"
#include "kernels/permute_tokens.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/route_topk.hpp"
#include "kernels/squared_norm.hpp"
#include "kernels/swiglu.hpp"

namespace tael {
namespace {

constexpr int64_t kTokens = 4096, kChannels = 512, kWidth = 1536, kSequence = 512, kTopK = 4, kExperts = 16;

struct Numbers {
  explicit Numbers(int64_t n, const char* purpose) : data(static_cast<size_t>(n)) {
    const Rng rng(1, purpose);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(4 * rng.uniform(i) - 2);
  }
  Mat<float> mat(int64_t rows, int64_t cols) { return tael::mat(data.data(), rows, cols); }
  Vec<float> vec(int64_t n) { return tael::vec(data.data(), n); }
  std::vector<float> data;
};

std::vector<int32_t> integers(int64_t n, int64_t bound) {
  const Rng rng(2, "integers");
  std::vector<int32_t> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<int32_t>(rng.below(i, static_cast<uint64_t>(bound)));
  return out;
}

// A measurement: what it moves (each array once, what is updated twice), made on first use, then called.
struct Case {
  std::string name;
  int64_t bytes;
  std::function<std::function<void(const Stream&)>()> make;
};

void add_norm_and_elementwise(std::vector<Case>& cases) {
  const int64_t plane = kTokens * kChannels * 4;
  cases.push_back({"copy", 2 * plane, [] {
                     auto x = std::make_shared<Numbers>(kTokens * kChannels, "x"), y = x;
                     y = std::make_shared<Numbers>(kTokens * kChannels, "y");
                     return [=](const Stream& stream) {
                       stream.pool().parallel_for(64, [&](int64_t task, int) {
                         const size_t part = y->data.size() / 64;
                         std::memcpy(y->data.data() + part * static_cast<size_t>(task),
                                     x->data.data() + part * static_cast<size_t>(task), part * 4);
                       });
                     };
                   }});
  struct Norm {
    Numbers x{kTokens * kChannels, "x"}, y{kTokens * kChannels, "y"}, dy{kTokens * kChannels, "dy"},
        gain{kChannels, "g"};
    Numbers r{kTokens, "r"}, dgain{kChannels, "dg"};
    Mat<float> plane(Numbers& n) { return n.mat(kTokens, kChannels); }
  };
  cases.push_back({"rms_norm_forward", 2 * plane, [] {
                     auto n = std::make_shared<Norm>();
                     return [n](const Stream& s) {
                       rms_norm_forward(s, {n->plane(n->y), n->r.vec(kTokens), n->plane(n->x), n->gain.vec(kChannels)});
                     };
                   }});
  cases.push_back({"rms_norm_input_grad", 3 * plane, [] {
                     auto n = std::make_shared<Norm>();
                     return [n](const Stream& s) {
                       rms_norm_input_grad(s, {n->plane(n->y), n->plane(n->dy), n->plane(n->x), n->r.vec(kTokens),
                                               n->gain.vec(kChannels)});
                     };
                   }});
  for (int64_t pieces : {1, 8})
    cases.push_back({fmt::format("rms_norm_weight_grad/pieces:{}", pieces), 2 * plane, [pieces] {
                       auto n = std::make_shared<Norm>();
                       return [n, pieces](const Stream& s) {
                         rms_norm_weight_grad(s, {n->dgain.vec(kChannels), n->plane(n->dy), n->plane(n->x),
                                                  n->r.vec(kTokens), kSequence, pieces});
                       };
                     }});
  cases.push_back(
      {"rope", 2 * kTokens * 8 * 32 * 4, [] {
         auto x = std::make_shared<Numbers>(kTokens * 8 * 96, "x");
         auto table = std::make_shared<Numbers>(kSequence * 16, "table");
         return [=](const Stream& s) {
           rope(s, {x->mat(kTokens, 8 * 96), table->mat(kSequence, 16), table->mat(kSequence, 16), 8, 96, 64});
         };
       }});
  struct Gated {
    Numbers gu{kTokens * 2 * kWidth, "gu"}, a{kTokens * kWidth, "a"}, dgu{kTokens * 2 * kWidth, "dgu"};
    Numbers weight{kTokens, "w"}, dweight{kTokens, "dw"};
  };
  cases.push_back(
      {"swiglu_forward", 3 * kTokens * kWidth * 4, [] {
         auto g = std::make_shared<Gated>();
         return [g](const Stream& s) {
           swiglu_forward(s, {g->a.mat(kTokens, kWidth), g->gu.mat(kTokens, 2 * kWidth), g->weight.vec(kTokens)});
         };
       }});
  cases.push_back({"swiglu_backward", 5 * kTokens * kWidth * 4, [] {
                     auto g = std::make_shared<Gated>();
                     return [g](const Stream& s) {
                       swiglu_backward(
                           s, {g->dgu.mat(kTokens, 2 * kWidth), g->dweight.vec(kTokens), g->a.mat(kTokens, kWidth),
                               g->gu.mat(kTokens, 2 * kWidth), g->weight.vec(kTokens)});
                     };
                   }});
  constexpr int64_t kParameters = int64_t{4} << 20;
  cases.push_back({"adamw_update", 28 * kParameters, [] {
                     auto p = std::make_shared<std::vector<Numbers>>(4, Numbers(kParameters, "p"));
                     for (float& v : (*p)[2].data) v = v * v;
                     return [p](const Stream& s) {
                       adamw_update(s, {(*p)[0].vec(kParameters), (*p)[1].vec(kParameters), (*p)[2].vec(kParameters),
                                        (*p)[3].vec(kParameters), 1e-6});
                     };
                   }});
  cases.push_back({"squared_norm", plane, [] {
                     auto x = std::make_shared<Numbers>(kTokens * kChannels, "x");
                     auto sum = std::make_shared<std::vector<double>>(kTokens);
                     return [=](const Stream& s) {
                       squared_norm(s, {vec(sum->data(), kTokens), x->mat(kTokens, kChannels)});
                     };
                   }});
}

void add_vocabulary(std::vector<Case>& cases) {
  for (int64_t vocab : {4096, 32768, 129280})
    for (bool backward : {false, true}) {
      const int64_t tokens = (int64_t{16} << 20) / vocab;
      // The bar that counts: one pass over memory forward; read and write back, with the gradient.
      cases.push_back({fmt::format("cross_entropy/{}/{}", vocab, backward ? "with_gradient" : "loss_only"),
                       (backward ? 2 : 1) * tokens * vocab * 4, [=] {
                         auto logit = std::make_shared<Numbers>(tokens * vocab, "logit");
                         auto loss = std::make_shared<std::vector<double>>(tokens);
                         auto token = std::make_shared<std::vector<int32_t>>(integers(tokens + 1, vocab));
                         return [=](const Stream& s) {
                           cross_entropy(s, {vec(loss->data(), tokens), logit->mat(tokens, vocab),
                                             mat<const int32_t>(token->data(), 1, tokens + 1), 0, tokens, 1, 0, 1,
                                             backward, 1.0});
                         };
                       }});
    }
  struct Table {
    Numbers table{4096 * kChannels, "table"}, y{kTokens * kChannels, "y"};
    std::vector<int32_t> token = integers(kTokens, 4096);
    Mat<const int32_t> tokens() { return mat<const int32_t>(token.data(), kTokens / kSequence, kSequence); }
  };
  cases.push_back(
      {"embedding_forward", 2 * kTokens * kChannels * 4, [] {
         auto t = std::make_shared<Table>();
         return [t](const Stream& s) {
           embedding_forward(s, {t->y.mat(kTokens, kChannels), t->table.mat(4096, kChannels), t->tokens(), kSequence});
         };
       }});
  cases.push_back(
      {"embedding_grad", 3 * kTokens * kChannels * 4, [] {
         auto t = std::make_shared<Table>();
         return [t](const Stream& s) {
           embedding_grad(s, {t->table.mat(4096, kChannels), t->y.mat(kTokens, kChannels), t->tokens(), kSequence});
         };
       }});
}

void add_routing(std::vector<Case>& cases) {
  struct Gate {
    int64_t experts, top_k;
    Numbers logit, score, weight;
    std::vector<int32_t> expert, position, token;
    std::vector<int64_t> counts, offset;
    RouteOptions options;
    Gate(int64_t e, int64_t k, int64_t groups)
        : experts(e),
          top_k(k),
          logit(kTokens * e, "logit"),
          score(kTokens * e, "score"),
          weight(kTokens * k, "weight"),
          expert(static_cast<size_t>(kTokens * k)),
          position(expert.size()),
          token(expert.size()),
          counts(static_cast<size_t>(e)),
          offset(static_cast<size_t>(e + 1)),
          options{.top_k = k, .groups = groups, .topk_group = groups / 2, .scale = 2.5} {}
    void route(const Stream& s) {
      route_forward(s, {mat(expert.data(), kTokens, top_k),
                        weight.mat(kTokens, top_k),
                        score.mat(kTokens, experts),
                        vec(counts.data(), experts),
                        logit.mat(kTokens, experts),
                        {},
                        options});
    }
    SortTokens sort() {
      return {vec(offset.data(), experts + 1), mat(position.data(), kTokens, top_k), vec(token.data(), kTokens * top_k),
              mat<const int32_t>(expert.data(), kTokens, top_k)};
    }
  };
  for (auto [experts, top_k, groups] :
       {std::tuple{kExperts, kTopK, int64_t{4}}, {int64_t{256}, int64_t{8}, int64_t{8}}}) {
    const int64_t e = experts, k = top_k, g = groups;
    cases.push_back({fmt::format("route_forward/{}_of_{}", k, e), kTokens * (2 * e + 2 * k) * 4, [=] {
                       auto gate = std::make_shared<Gate>(e, k, g);
                       return [gate](const Stream& s) { gate->route(s); };
                     }});
    cases.push_back({fmt::format("balance_forward/{}_of_{}", k, e), kTokens * e * 4, [=] {
                       auto gate = std::make_shared<Gate>(e, k, g);
                       for (float& x : gate->score.data) x = x * x;
                       auto loss = std::make_shared<std::vector<double>>(kTokens / kSequence);
                       return [=](const Stream& s) {
                         balance_forward(
                             s, {vec(loss->data(), kTokens / kSequence), gate->logit.mat(kTokens / kSequence, e),
                                 gate->score.mat(kTokens, e), k, kSequence});
                       };
                     }});
  }
  cases.push_back({"sort_tokens", kTokens * kTopK * 12, [] {
                     auto gate = std::make_shared<Gate>(kExperts, kTopK, 4);
                     return [gate](const Stream& s) {
                       if (gate->counts[0] == 0) gate->route(s);
                       sort_tokens(s, gate->sort());
                     };
                   }});
  struct Rows : Gate {
    Rows() : Gate(kExperts, kTopK, 4) {}
    Numbers x{kTokens * kChannels, "x"}, y{kTokens * kTopK * kChannels, "y"};
    void place(const Stream& s) {
      if (counts[0] != 0) return;
      route(s);
      sort_tokens(s, sort());
    }
  };
  cases.push_back({"dispatch_tokens", 2 * kTokens * kTopK * kChannels * 4, [] {
                     auto r = std::make_shared<Rows>();
                     return [r](const Stream& s) {
                       r->place(s);
                       dispatch_tokens(s, {r->y.mat(kTokens * kTopK, kChannels), r->x.mat(kTokens, kChannels),
                                           vec<const int32_t>(r->token.data(), kTokens * kTopK)});
                     };
                   }});
  cases.push_back({"combine_tokens", (kTopK + 1) * kTokens * kChannels * 4, [] {
                     auto r = std::make_shared<Rows>();
                     return [r](const Stream& s) {
                       r->place(s);
                       combine_tokens(s, {r->x.mat(kTokens, kChannels), r->y.mat(kTokens * kTopK, kChannels),
                                          mat<const int32_t>(r->position.data(), kTokens, kTopK),
                                          mat<const int32_t>(r->expert.data(), kTokens, kTopK), kExperts, 4});
                     };
                   }});
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
  print_to(stdout, "{} threads, {}\n", threads, name_of(isa));
  std::vector<Case> cases;
  add_norm_and_elementwise(cases);
  add_vocabulary(cases);
  add_routing(cases);
  for (const Case& one : cases) {
    auto* entry = benchmark::RegisterBenchmark(one.name.c_str(), [&stream, one](benchmark::State& state) {
      const auto call = one.make();
      call(stream);
      for (auto _ : state) {
        call(stream);
        benchmark::ClobberMemory();
      }
      state.counters["GB/s"] = benchmark::Counter(
          static_cast<double>(one.bytes) * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
    });
    entry->Unit(benchmark::kMicrosecond);
    // One thread: processor time, which a busy machine disturbs less.
    if (threads > 1) entry->UseRealTime();
  }
  int count = static_cast<int>(rest.size());
  benchmark::Initialize(&count, rest.data());
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace tael

int main(int argc, char** argv) { return tael::run(argc, argv); }
