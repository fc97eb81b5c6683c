// The facts at the start of a run. The bytes that a step's report says go over the wire, against the messages that a
// sum of gradients sends.
#include "trainer/start_facts.hpp"

#include <gtest/gtest.h>

#include <atomic>

#include "tests/harness/random.hpp"
#include "tests/harness/training.hpp"

namespace tael::testing {
namespace {

const std::string kLanes =
    std::string(kTinyRun) + "parallelism: {reduction_lanes: 8}\ncluster: {threads_per_rank: 1}\n";

// Passes everything on, and counts what is sent to a partner; hosts are equal blocks of ranks.
class CountingComm final : public Comm {
 public:
  CountingComm(Comm& inner, int hosts, std::atomic<int64_t>& between, std::atomic<int64_t>& within)
      : Comm(inner.rank(), blocks(inner.size(), hosts)), inner_(inner), between_(between), within_(within) {}

  void barrier() override { inner_.barrier(); }
  void broadcast(std::span<std::byte> data, int root) override { inner_.broadcast(data, root); }
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override { inner_.all_gather(mine, all); }
  void all_reduce(std::span<int64_t> values, ReduceOp op) override { inner_.all_reduce(values, op); }
  void all_reduce_sum(std::span<float> values) override { inner_.all_reduce_sum(values); }
  void exchange(std::span<const std::byte> send, std::span<std::byte> received, int partner) override {
    (host_of(rank()) == host_of(partner) ? within_ : between_) += static_cast<int64_t>(send.size());
    inner_.exchange(send, received, partner);
  }

 protected:
  void release_others(Exit code, const std::string& message) override { inner_.abort(code, message); }

 private:
  static std::vector<int> blocks(int ranks, int hosts) {
    std::vector<int> host_of_rank;
    for (int r = 0; r < ranks; ++r) host_of_rank.push_back(r * hosts / ranks);
    return host_of_rank;
  }
  Comm& inner_;
  std::atomic<int64_t>&between_, &within_;
};

class GradientBytes : public ::testing::Test {
 protected:
  WireBytes said(const std::string& reduction, int ranks, int hosts) {
    const LoadedConfig loaded = load_config_text(
        kLanes, "test.yaml", {"data.train=[" + shard_ + "]", "parallelism.reduction=" + reduction}, {});
    const std::unique_ptr<Comm> comm = make_comm_alike(ranks, hosts);
    const tael::Run run(loaded, *comm);
    numbers_ = run.network.table().size();
    return gradient_bytes(run);
  }

  ScratchDirectory directory_;
  std::string shard_ = make_shard(directory_, "data", Random(3).integers(2000, 37), 37);
  int64_t numbers_ = 0;  // of the gradient
};

TEST_F(GradientBytes, CanonicalAreThoseOfItsMessages) {
  for (const auto& [ranks, hosts] : {std::pair(1, 1), {2, 1}, {2, 2}, {4, 1}, {4, 2}, {4, 4}, {8, 2}}) {
    const WireBytes bytes = said("canonical", ranks, hosts);
    std::atomic<int64_t> between = 0, within = 0;
    ThreadWorld world(ranks);
    world.run([&](Comm& inner) {
      CountingComm comm(inner, hosts, between, within);
      ThreadPool pool(1);
      const Stream stream(pool, best_isa());
      std::vector<float> grads(static_cast<size_t>(numbers_), 1.0f);
      Arena measuring = Arena::measuring();
      plan_grad_reduce(measuring, SumOrder::canonical, numbers_, ranks);
      Arena arena("wire", measuring.used());
      reduce_gradients(stream, comm, SumOrder::canonical, plan_grad_reduce(arena, SumOrder::canonical, numbers_, ranks),
                       vec(grads.data(), numbers_));
    });
    // Where a part has an odd number of floats, one half has one more than the other.
    const int64_t odd = int64_t{ranks} * 2 * 3 * static_cast<int64_t>(sizeof(float));
    EXPECT_NEAR(static_cast<double>(bytes.between_hosts), static_cast<double>(between), static_cast<double>(odd))
        << ranks << " ranks on " << hosts;
    EXPECT_NEAR(static_cast<double>(bytes.within_host), static_cast<double>(within), static_cast<double>(odd))
        << ranks << " ranks on " << hosts;
    EXPECT_EQ(bytes.between_hosts > 0, hosts > 1);
    EXPECT_EQ(bytes.within_host > 0, ranks > hosts);
  }
}

// A ring: each rank sends every part of the gradient but one to the next rank, once summed up and once summed.
TEST_F(GradientBytes, FastAreThoseOfARing) {
  for (const auto& [ranks, hosts, crossing] : {std::tuple(1, 1, 0), {2, 1, 0}, {2, 2, 2}, {4, 2, 2}, {4, 4, 4}}) {
    const WireBytes bytes = said("fast", ranks, hosts);
    const int64_t whole = numbers_ * static_cast<int64_t>(sizeof(float));
    const int64_t sends = 2 * (whole - whole / ranks);
    const double rounding = 2.0 * ranks;
    EXPECT_NEAR(static_cast<double>(bytes.between_hosts), static_cast<double>(crossing * sends), rounding) << ranks;
    EXPECT_NEAR(static_cast<double>(bytes.within_host),
                ranks == 1 ? 0.0 : static_cast<double>((ranks - crossing) * sends), rounding)
        << ranks;
  }
}

class StartFacts : public ::testing::Test {
 protected:
  std::string said(const std::vector<std::string>& changes) {
    std::vector<std::string> overrides = {"data.train=[" + shard_ + "]"};
    overrides.insert(overrides.end(), changes.begin(), changes.end());
    const LoadedConfig loaded = load_config_text(kLanes, "test.yaml", overrides, {});
    const std::unique_ptr<Comm> comm = make_comm_alike(1, 1);
    const tael::Run run(loaded, *comm);
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(std::tmpfile(), &std::fclose);
    Console console({.out = out.get()});
    print_start(console, run);
    std::string text(static_cast<size_t>(std::ftell(out.get())), '\0');
    std::rewind(out.get());
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), out.get()), text.size());
    return text;
  }

  ScratchDirectory directory_;
  std::string shard_ = make_shard(directory_, "data", Random(3).integers(2000, 37), 37);
};

TEST_F(StartFacts, AModelThatTransformersCannotLoadIsSaid) {
  const std::string warning = "! model.moe_layer_freq 2: DeepSeek's own modelling code honours this key, transformers";
  EXPECT_NE(said({"model.num_hidden_layers=3", "model.moe_layer_freq=2"}).find(warning), std::string::npos);
  // Nothing to tell apart: one layer of experts after the first, and no layer of experts at all.
  EXPECT_EQ(said({"model.num_hidden_layers=3", "model.first_k_dense_replace=2", "model.moe_layer_freq=2"}).find('!'),
            std::string::npos);
  EXPECT_EQ(said({"model.num_hidden_layers=3", "model.moe_layer_freq=3"}).find('!'), std::string::npos);
  EXPECT_EQ(said({}).find('!'), std::string::npos);
  const std::string gate = "! model.scoring_func and topk_method are another model type's: transformers does not look";
  const std::vector<std::string> v2 = {"model.scoring_func=softmax", "model.topk_method=greedy"};
  EXPECT_NE(said(v2).find(gate), std::string::npos);
  EXPECT_EQ(said({v2[0], v2[1], "model.first_k_dense_replace=2", "model.num_hidden_layers=2"}).find('!'),
            std::string::npos);
  EXPECT_EQ(said({v2[0], v2[1], "model.model_type=deepseek_v2"}).find('!'), std::string::npos);
}

TEST_F(StartFacts, TheNumbersOfRanksThatGiveTheSameBits) {
  for (const auto& [lanes, words] : {std::pair("1", "1 rank, 1 lane"),
                                     {"2", "1 and 2 ranks, 2 lanes"},
                                     {"4", "1, 2 and 4 ranks, 4 lanes"},
                                     {"16", "1, 2, 4, 8 and 16 ranks, 16 lanes"}}) {
    const std::string text = said({std::string("parallelism.reduction_lanes=") + lanes});
    EXPECT_NE(text.find(std::string("canonical: the same bits for ") + words + "\n"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace tael::testing
