// What one training step reports, and what it goes by: schedules read at the tokens before it, means over MTP depths,
// the worst layer of all, the first micro-batch whose loss is not finite.
#include "trainer/step.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "tests/data/shard_fixture.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"
#include "tests/harness/training.hpp"

namespace tael::testing {
namespace {

// A step has 4 sequences of 16, which is 64 tokens.
constexpr const char* kModel = R"(schema: 1
run: {dir: unused, seed: 5}
model: {vocab_size: 37, hidden_size: 24, intermediate_size: 40, moe_intermediate_size: 20, num_hidden_layers: 4,
  num_nextn_predict_layers: 2, num_attention_heads: 4, q_lora_rank: 12, kv_lora_rank: 10, qk_nope_head_dim: 6,
  qk_rope_head_dim: 4, v_head_dim: 6, n_routed_experts: 8, n_shared_experts: 1, num_experts_per_tok: 3, n_group: 4,
  topk_group: 2, first_k_dense_replace: 1, max_position_embeddings: 64}
router: {bias_update_rate: 1e-2, aux_loss: {coeff: 1e-2}}
training: {seq_length: 16, micro_batch_size: 2, global_batch_size: 4, train_steps: 3, eval_interval: 0}
optimizer: {lr: 1e-2}
lr_scheduler: {warmup_steps: 0, decay: constant}
parallelism: {reduction_lanes: 1}
cluster: {threads_per_rank: 1}
)";

class Step : public ::testing::Test {
 protected:
  std::string config(const std::vector<int32_t>& tokens) {
    const std::string shard = make_shard(directory_, fmt::format("data{}", shards_++), tokens, 37);
    return fmt::format("{}data: {{train: [{}], shuffle: false}}\n", kModel, shard);
  }
  Trained train(const std::vector<std::string>& overrides) {
    return testing::train(config(Random(3).integers(2000, 37)), 1, overrides);
  }
  // Steps one after the other on one rank; `body` gets the run, its weights already there.
  static void with_run(const std::string& yaml, const std::vector<std::string>& overrides,
                       const std::function<void(tael::Run&)>& body) {
    const LoadedConfig loaded = load_config_text(yaml, "test.yaml", overrides, {});
    ThreadWorld world(1);
    world.run([&](Comm& comm) {
      tael::Run run(loaded, comm);
      run.allocate();
      run.initialize();
      body(run);
    });
  }

  ScratchDirectory directory_;
  int shards_ = 0;
};

// 64 tokens are one step: a value that holds from 64 on is the second step's, from 65 on the third's.
TEST_F(Step, SchedulesAreReadAtTheTokensBeforeTheStep) {
  for (const char* key : {"router.bias_update_rate", "router.aux_loss.coeff", "mtp.loss_scaling_factor"}) {
    const auto after = [&](int steps, const std::string& value) {
      return train({fmt::format("{}={}", key, value), fmt::format("training.train_steps={}", steps)});
    };
    const auto same = [](const Trained& a, const Trained& b) {
      return same_bits(a.params, b.params) && same_bits(a.biases, b.biases);
    };
    const Trained one = after(1, "0.25"), two = after(2, "0.25");
    EXPECT_TRUE(same(after(1, "[[0, 0.25], [64, 0.5]]"), one)) << key;
    EXPECT_TRUE(same(after(2, "[[0, 0.25], [65, 0.5]]"), two)) << key;
    EXPECT_FALSE(same(after(2, "[[0, 0.25], [64, 0.5]]"), two)) << key;
    EXPECT_FALSE(same(after(1, "0.5"), one)) << key;
  }
}

TEST_F(Step, TheLearningRateOfAPhaseEndsWhereThePhaseDoes) {
  const Trained trained =
      train({"lr_scheduler.decay=[[64, constant, 1e-2], [129, constant, 1e-3], [200, constant, 1e-4]]",
             "training.train_steps=4"});
  ASSERT_EQ(trained.steps.size(), 4u);
  EXPECT_EQ(trained.steps[0].lr, 1e-2);  // before it 0 tokens
  EXPECT_EQ(trained.steps[1].lr, 1e-3);  // 64
  EXPECT_EQ(trained.steps[2].lr, 1e-3);  // 128
  EXPECT_EQ(trained.steps[3].lr, 1e-4);  // 192
}

// The rate is how far a bias goes, whatever the counts.
TEST_F(Step, GateBiasesMoveByTheRateOfTheirStep) {
  const Trained trained = train({"router.bias_update_rate=[[0, 0.25], [64, 0]]"});
  EXPECT_TRUE(std::ranges::all_of(trained.biases, [](float b) { return b == 0 || std::abs(b) == 0.25f; }));
  for (const StepReport& step : trained.steps) EXPECT_EQ(step.bias_abs_max, 0.25);
}

// With weights near 0 every logit is near 0, and every target costs near ln 37. Logits are sums of 24 products of a
// normed state (about 1) with weights of 1e-3: below 0.03 with room to spare. Depth k has targets at 16 - k of the 16
// places of a sequence that its loss is divided by.
TEST_F(Step, TheMtpLossIsTheMeanOverDepths) {
  const double target = std::log(37.0);
  for (const auto& [depth, share] : {std::pair(1, 15.0 / 16), {2, (15.0 + 14.0) / 2 / 16}}) {
    const Trained trained = train({"model.initializer_range=1e-3", "training.train_steps=1",
                                   fmt::format("model.num_nextn_predict_layers={}", depth)});
    EXPECT_NEAR(trained.steps[0].loss, target, 0.03);
    EXPECT_NEAR(trained.steps[0].mtp_loss.value(), target * share, 0.03) << depth;
  }
}

// Token 7 ends a document, and stands inside some of the sequences. Each is masked by its own tokens, whichever
// micro-batch it is in.
TEST_F(Step, EverySequenceHasTheDocumentsOfItsOwnTokens) {
  const std::string shard = directory_.at("documents.h5");
  write_number_shard(shard, Random(3).integers(2000, 37), 37, 7);
  const std::string yaml = fmt::format("{}data: {{train: [{}], shuffle: false}}\n", kModel, shard);
  const auto trained = [&](const char* mask, int micro_batch) {
    return testing::train(
        yaml, 1,
        {fmt::format("data.document_mask={}", mask), fmt::format("training.micro_batch_size={}", micro_batch)});
  };
  const Trained whole = trained("true", 4);
  EXPECT_TRUE(same_bits(trained("true", 1).params, whole.params));
  EXPECT_TRUE(same_bits(trained("true", 2).params, whole.params));
  EXPECT_FALSE(same_bits(trained("false", 4).params, whole.params));
}

// The largest count of any expert over the mean of its layer, less one, of the layer where that is largest.
TEST_F(Step, MaxViolationIsThatOfTheWorstLayer) {
  std::set<int64_t> worst_layers;
  with_run(config(Random(3).integers(2000, 37)), {"training.train_steps=8"}, [&](tael::Run& run) {
    Progress progress;
    while (progress.step < run.steps) {
      const StepReport report = train_step(run, progress);
      double worst = -1;
      int64_t layer = -1;
      const Mat<int64_t> counts_LE = run.buffers.counts_LE;
      for (int64_t l = 0; l < counts_LE.rows(); ++l) {
        const int64_t most = *std::max_element(counts_LE.row(l), counts_LE.row(l) + counts_LE.cols());
        const double mean = 64.0 * 3 / 8;  // each token goes to 3 of 8 experts
        if (static_cast<double>(most) / mean - 1 > worst) {
          worst = static_cast<double>(most) / mean - 1;
          layer = l;
        }
      }
      EXPECT_DOUBLE_EQ(report.max_violation.value(), worst) << report.step;
      worst_layers.insert(layer);
    }
    EXPECT_EQ(run.buffers.counts_LE.rows(), 5);  // three layers and two MTP modules
  });
  EXPECT_GE(worst_layers.size(), 3u);  // or a fixed layer might have been enough
}

// Layer 2 spoils every micro-batch, the embedding of token 36 only those where it stands. The first one is named.
TEST_F(Step, TheFirstMicroBatchThatIsNotFiniteIsNamed) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const auto message = [&](int64_t place_of_36) {
    std::vector<int32_t> tokens = Random(3).integers(2000, 36);
    tokens[static_cast<size_t>(place_of_36)] = 36;
    return error_of(Exit::run_failed, [&] {
      with_run(config(tokens), {"training.micro_batch_size=1"}, [](tael::Run& run) {
        for (const ParamSpec& spec : run.network.table().params) {
          if (spec.name == "model.layers.2.input_layernorm.weight") run.params(spec.offset) = kNan;
          if (spec.name == "model.embed_tokens.weight") run.params(spec.offset + 36 * spec.cols) = kNan;
        }
        Progress progress;
        train_step(run, progress);
      });
    });
  };
  const std::string end = "; nothing was updated", begin = "step 1: the loss is not finite: rank 0, first in ";
  EXPECT_EQ(message(1000), begin + "layer 2" + end);  // in none
  EXPECT_EQ(message(5), begin + "the embedding" + end);
  EXPECT_EQ(message(2 * 16 + 5), begin + "layer 2" + end);
  EXPECT_EQ(message(3 * 16 + 5), begin + "layer 2" + end);
}

}  // namespace
}  // namespace tael::testing
