// The golden recipe: six optimizer steps of everything together, as PyTorch and transformers took them in float64.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/harness/golden.hpp"
#include "tests/harness/training.hpp"

namespace tael::testing {
namespace {

struct RecipeCase {
  int ranks = 1;
  int64_t lanes = 4, micro_batch = 4;
  std::string reduction = "canonical";
};

class Recipe : public ::testing::TestWithParam<RecipeCase> {};

TEST_P(Recipe, SixStepsOfTheGolden) {
  const RecipeCase& c = GetParam();
  const Golden golden("v3_recipe");
  const ScratchDirectory directory;
  const std::string shard = make_shard(directory, "stream", golden.tokens("train_stream"), golden.shape.vocab_size);
  const std::string yaml = fmt::format(
      R"(schema: 1
run: {{dir: unused, seed: 1}}
model: {}
router: {{bias_update_rate: {}, aux_loss: {{coeff: {}}}}}
mtp: {{loss_scaling_factor: {}}}
data: {{train: [{}], shuffle: false}}
training: {{seq_length: {}, micro_batch_size: {}, global_batch_size: {}, train_steps: {}, eval_interval: 0}}
optimizer: {{lr: {}, betas: [0.9, 0.95], eps: 1e-8, weight_decay: {}, clip_grad: {}}}
lr_scheduler: {{warmup_steps: {}, decay: constant}}
parallelism: {{reduction: {}, reduction_lanes: {}}}
checkpoint: {{initial_load_path: {}}}
cluster: {{threads_per_rank: 1}}
)",
      golden.directory.config_text(), golden.setting("bias_update_rate", 0), golden.setting("balance_alpha", 0),
      golden.setting("mtp_loss_scaling_factor", 0), shard, golden.facts.at("length").as_int(), c.micro_batch,
      golden.facts.at("batch").as_int(), static_cast<int64_t>(golden.setting("steps", 0)), golden.setting("lr", 0),
      golden.setting("weight_decay", 0), golden.setting("clip_grad", 0),
      static_cast<int64_t>(golden.setting("warmup_steps", 0)), c.reduction, c.lanes, golden.path);
  const Trained trained = train(yaml, c.ranks);

  const std::vector<Json>& rows = golden.facts.at("train").items();
  ASSERT_EQ(trained.steps.size(), rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const StepReport& step = trained.steps[i];
    const auto near = [&](double actual, const char* name) {
      const double expected = rows[i].at(name).as_double();
      EXPECT_NEAR(actual, expected, 1e-5 * expected) << name << " of step " << i + 1;
    };
    near(step.loss, "main");
    near(*step.mtp_loss, "mtp.1");
    near(*step.balance_loss, "balance");
    near(step.grad_norm, "grad_norm");
    near(step.lr, "lr");
  }

  // ||trained - expected|| <= 1e-3 ||expected - initial|| for each tensor; biases to 1e-6.
  const ParamTable table = make_param_table(golden.shape);
  for (const ParamSpec& spec : table.params) {
    const std::vector<float> expected = golden.floats("trained." + spec.name);
    std::vector<float> initial(expected.size());
    read_floats(golden.directory, *golden.directory.weight(spec.name), 0, spec.size(), initial.data());
    double difference = 0, moved = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      difference += std::pow(trained.params[static_cast<size_t>(spec.offset) + i] - expected[i], 2);
      moved += std::pow(static_cast<double>(expected[i]) - initial[i], 2);
    }
    EXPECT_GT(moved, 0) << spec.name;
    EXPECT_LE(std::sqrt(difference), 1e-3 * std::sqrt(moved)) << spec.name;
  }
  for (const GateBiasSpec& spec : table.gate_biases) {
    const std::vector<float> expected = golden.floats("trained." + spec.name);
    for (size_t e = 0; e < expected.size(); ++e)
      EXPECT_NEAR(trained.biases[static_cast<size_t>(spec.offset) + e], expected[e], 1e-6) << spec.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Recipe,
                         ::testing::Values(RecipeCase{.ranks = 1}, RecipeCase{.ranks = 2, .micro_batch = 2},
                                           RecipeCase{.ranks = 4, .micro_batch = 1},
                                           RecipeCase{.ranks = 2, .micro_batch = 1, .reduction = "fast"}),
                         [](const auto& param_info) {
                           return fmt::format("{}_{}", param_info.param.ranks, param_info.param.reduction);
                         });

}  // namespace
}  // namespace tael::testing
