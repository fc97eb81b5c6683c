// Evaluation: which targets see what, and when nats may be called bits a byte.
#include "trainer/evaluate.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/data/shard_fixture.hpp"
#include "tests/harness/network_run.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/training.hpp"

namespace tael::testing {
namespace {

constexpr const char* kModel = R"({"model_type": "deepseek_v3", "vocab_size": 259, "hidden_size": 24,
 "intermediate_size": 40, "moe_intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
 "num_key_value_heads": 2, "q_lora_rank": 12, "kv_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4,
 "v_head_dim": 6, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 1,
 "topk_group": 1, "first_k_dense_replace": 1, "max_position_embeddings": 64, "num_nextn_predict_layers": 0})";

class Evaluate : public ::testing::Test {
 protected:
  Evaluate() {
    Random random(7);
    const std::vector<float> numbers = random.normals(network_.table().size(), 0.3);
    std::copy(numbers.begin(), numbers.end(), params_.begin());
  }
  static ModelShape shape() {
    Reading reading;
    return read_model_json(kModel, "config.json", reading).shape;
  }

  EvalResult evaluate(const std::vector<std::string>& paths, int32_t separator = -1) {
    const std::vector<TokenShard> shards = open_shards(paths, ShardVerify::all);
    constexpr int64_t kLength = 32, kBatch = 2;
    const MemoryPlan plan = plan_evaluation_memory(network_, pool_, {{kBatch, kLength}}, 1);
    Arena saved("saved", plan.activations), scratch("scratch", plan.scratch);
    const std::unique_ptr<Comm> comm = make_comm_self();
    return *tael::evaluate(*comm, {.network = network_,
                                   .stream = Stream(pool_, best_isa()),
                                   .saved = saved,
                                   .scratch = scratch,
                                   .weights = {params_.data(), biases_.data()},
                                   .shards = shards,
                                   .seq_length = kLength,
                                   .batch = kBatch,
                                   .separator = separator});
  }
  std::string numbers(const std::string& name, const std::vector<int32_t>& tokens) {
    write_number_shard(directory_.at(name), tokens, 259);
    return directory_.at(name);
  }
  std::string text(const std::string& name, const std::string& content) {
    directory_.write(name + ".txt", content);
    prepare_data({.inputs = {directory_.at(name + ".txt")}, .out = directory_.at(name)});
    return directory_.at(name);
  }

  ScratchDirectory directory_;
  ThreadPool pool_{1};
  LocalTokenExchange exchange_;
  Network network_{shape(), MtpHidden::after_final_norm, exchange_, 64};
  std::vector<float> params_ = std::vector<float>(static_cast<size_t>(network_.table().size()));
  std::vector<float> biases_ = std::vector<float>(static_cast<size_t>(network_.table().bias_size()));
};

// Two documents in one window are scored as each alone; positions differ by a shift, which rotation does not see.
TEST_F(Evaluate, DocumentsAreScoredAsIfAloneWhereTheMaskSaysSo) {
  constexpr int32_t kEnd = 257;
  std::vector<int32_t> first = Random(1).integers(10, 250), second = Random(2).integers(15, 250);
  first.push_back(kEnd);
  std::vector<int32_t> both = first, first_and_next = first;
  both.insert(both.end(), second.begin(), second.end());
  first_and_next.push_back(second[0]);  // predicted at the separator, which the first document ends with
  const std::string joined = numbers("both.h5", both);
  const EvalResult masked = evaluate({joined}, kEnd), open = evaluate({joined});
  const EvalResult a = evaluate({numbers("a.h5", first_and_next)}), b = evaluate({numbers("b.h5", second)});
  EXPECT_EQ(masked.targets, a.targets + b.targets);
  EXPECT_NEAR(masked.nats, a.nats + b.nats, 1e-4);
  EXPECT_GT(std::abs(open.nats - masked.nats), 1e-2);  // or the comparison would show nothing
}

TEST_F(Evaluate, BitsAByteNeedTextInEveryShard) {
  const std::string some = text("text.h5", "To be, or not to be"), more = text("more.h5", "that is the question");
  const std::string ids = numbers("ids.h5", Random(3).integers(20, 259));
  const EvalResult result = evaluate({some, more});
  // 18 and 19 bytes are predicted; the separators are targets, but no bytes.
  EXPECT_EQ(result.text_bytes, 18 + 19);
  EXPECT_DOUBLE_EQ(result.bits_per_byte().value(), result.nats / std::log(2.0) / 37);
  for (const std::vector<std::string>& shards :
       {std::vector{ids}, {some, ids}, {ids, some}, {some, ids, more}, {ids, some, more}})
    EXPECT_FALSE(evaluate(shards).bits_per_byte()) << shards.size();
}

}  // namespace
}  // namespace tael::testing
