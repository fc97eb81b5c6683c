// Malformed and contradictory configurations, each with the whole message and the exit code that a user sees.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/harness/scratch_directory.hpp"
#include "tests/trainer/refused_config.hpp"

namespace tael {
namespace {

using testing::kGood, testing::kSearch, testing::refusal;

TEST(BadConfig, TheGoodOneIsAccepted) {
  EXPECT_EQ(refusal(kGood, {}, 1), "accepted");
  EXPECT_EQ(refusal(kGood, {}, 4), "accepted");
}

TEST(BadConfig, Texts) {
  const struct {
    std::string text, message;
  } cases[] = {
      // YAML itself.
      {"run: {dir: x", "78: t.yaml:1:6: not YAML: what begins here has no end"},
      {"run: {dir: x}\nrun: {seed: 1}", "78: t.yaml:2:1: duplicate key run; it is first given at 1:1"},
      {"run: {dir: x, dir: y}", "78: t.yaml:1:15: duplicate key run.dir; it is first given at 1:7"},
      {"run: &r {dir: x}",
       "78: t.yaml:1:6: anchors and aliases are not accepted; write the value out, or share files by \"defaults:\""},
      {"run: *r", "78: t.yaml:1:6: anchors and aliases are not accepted"},
      {"run:\n  <<: {seed: 1}",
       "78: t.yaml:2:3: merge keys (<<) are not accepted; name what to inherit in \"defaults:\""},
      {"run: {seed: !!str 1}", "78: t.yaml:1:13: the tag tag:yaml.org,2002:str is not accepted"},
      {"run: {dir: x}\n---\nrun: {dir: y}", "78: t.yaml:3:1: a second document; a configuration is one"},
      {"run: {dir: \xc3}", "78: t.yaml:1:12: byte 0xc3 is not UTF-8"},
      {"- run", "78: t.yaml:1:1: expected a map of keys, got a list"},
      // Names and kinds.
      {"rum: {dir: x}", "78: t.yaml:1:1: rum: unknown key; the nearest known one is run"},
      {"training: {seq_lenght: 4}",
       "78: t.yaml:1:12: training.seq_lenght: unknown key; the nearest known one is training.seq_length"},
      {"model: {seq_length: 4}",
       "78: t.yaml:1:9: model.seq_length: unknown key; the nearest known one is training.seq_length"},
      {"router: {aux_loss: {alpha: 1}}",
       "78: t.yaml:1:21: router.aux_loss.alpha: unknown key; give router.aux_loss.coeff instead: the papers' alpha"},
      {"schema: 2", "78: t.yaml:1:9: schema: expected 1 (the only version of this language), got 2"},
      // An empty section at the top is one without keys; null inside one would be read as: none.
      {"router: {aux_loss: null}", "78: t.yaml:1:20: router.aux_loss: expected a map of keys, got null"},
      {"run: runs/first", "78: t.yaml:1:6: run: expected a map of keys, got runs/first"},
      {"run: {seed: \"1234\"}", "78: t.yaml:1:13: run.seed: expected a whole number at least 0, got \"1234\""},
      {"run: {seed: 18446744073709551615}",
       "78: t.yaml:1:13: run.seed: expected a whole number from 0 to 9223372036854775807, got 18446744073709551615"},
      {"run: {seed: -1}", "78: t.yaml:1:13: run.seed: expected a whole number at least 0, got -1"},
      {"run: {seed: 0123}", "78: t.yaml:1:13: run.seed: expected a whole number at least 0, got 0123"},
      {"training: {seq_length: 0}",
       "78: t.yaml:1:24: training.seq_length: expected a whole number such as 4096, 4k or 20M, from 1 to 2147483647, "
       "got 0"},
      {"training: {train_tokens: 20Q}",
       "78: t.yaml:1:26: training.train_tokens: expected null or a whole number such as 4096, 4k or 20M, at least 1, "
       "got "
       "20Q"},
      {"training: {train_steps: 10, train_tokens: 1M}",
       "78: t.yaml:1:43: training.train_tokens and training.train_steps exclude each other; give one of them"},
      {"data: {shuffle: no}", "78: t.yaml:1:17: data.shuffle: expected true or false, got no"},
      {"data: {train: [{path: a.h5, wieght: 2}]}",
       "78: t.yaml:1:29: data.train: expected only path and weight, got wieght; the nearest is weight"},
      {"data: {train: [{path: a.h5, weight: 0}]}", "78: t.yaml:1:37: data.train: expected a number above 0, got 0"},
      {"data: {verify: some}", "78: t.yaml:1:16: data.verify: expected all or blocks, got some"},
      {"optimizer: {name: adam}", "78: t.yaml:1:19: optimizer.name: expected adamw, got adam"},
      {"optimizer: {betas: [0.9, 1.0]}",
       "78: t.yaml:1:26: optimizer.betas: expected a number from 0 and below 1, got 1.0"},
      {"optimizer: {lr: .inf}", "78: t.yaml:1:17: optimizer.lr: expected a number of at least 0, got .inf"},
      {"lr_scheduler: {decay: linear}", "78: t.yaml:1:23: lr_scheduler.decay: expected constant or cosine, got linear"},
      {"lr_scheduler: {decay: [[10, constant, 1], [10, cosine, 0]]}",
       "78: t.yaml:1:44: lr_scheduler.decay: expected more than the 10 tokens before it, got 10"},
      {"lr_scheduler: {decay: constant, phases: [[1, cosine, 1]]}",
       "78: t.yaml:1:41: lr_scheduler.decay and lr_scheduler.phases exclude each other; give one of them"},
      {"router: {bias_update_rate: [[1k, 0.1]]}",
       "78: t.yaml:1:30: router.bias_update_rate: expected 0 tokens, where a schedule starts, got 1k"},
      {"mtp: {loss_scaling_factor: [[0, 1], [9, 1], [8, 1]]}",
       "78: t.yaml:1:46: mtp.loss_scaling_factor: expected more than the 9 tokens before it, got 8"},
      {"training: {global_batch_size: {start: 8, end: 4, over: 1k, increment: 4}}",
       "78: t.yaml:1:31: training.global_batch_size: expected an end of at least the start 8, got a map"},
      {"training: {global_batch_size: {start: 8, end: 16, over: 1k, step: 4}}",
       "78: t.yaml:1:61: training.global_batch_size: expected only start, end, over and increment, got step; the "
       "nearest "
       "is start"},
      {"training: {global_batch_size: {start: 8, end: 16, over: 1k}}",
       "78: t.yaml:1:31: training.global_batch_size: expected all of start, end, over, increment; increment is not "
       "given, got a map"},
      {"parallelism: {timeout: 600}",
       "78: t.yaml:1:24: parallelism.timeout: expected a duration such as 600s, 10 min or 20h, at least 1s, got 600"},
      {"cluster: {price_per_device_hour: 2.00}",
       "78: t.yaml:1:34: cluster.price_per_device_hour: expected null or an amount of one currency such as {usd: "
       "2.00}, "
       "got 2.00"},
      {"budget: {gpu_hours: 1, money: {usd: 1}}",
       "78: t.yaml:1:31: budget.gpu_hours and budget.money exclude each other; give one of them"},
      {"precision: {compute: fp16}", "78: t.yaml:1:22: precision.compute: expected auto, fp32, bf16 or fp8, got fp16"},
      // Inheritance and presets.
      {"defaults: models/deepseek_v3_tiny",
       "78: t.yaml:1:11: defaults: expected a list of file names, got models/deepseek_v3_tiny"},
      {"defaults: [models/deepseek_v5]",
       "78: t.yaml:1:12: defaults: there is no file \"models/deepseek_v5\" or models/deepseek_v5.yaml; "
       "the nearest is models/deepseek_v2"},
      {"model: {preset: deepsek_v3}",
       "78: t.yaml:1:17: model.preset: there is no preset deepsek_v3; the nearest is deepseek_v3"},
      {"model: {preset: ../models/deepseek_v3}",
       "78: t.yaml:1:17: model.preset: there is no preset ../models/deepseek_v3; the nearest is deepseek_v3"},
      // What must be there.
      {"", "78: t.yaml: run.dir: must be given [required]"},
      {"run: {dir: x}", "78: t.yaml: data.train: must be given [required]"},
      {"run: {dir: x}\ndata: {train: [a.h5]}", "78: t.yaml: model: must be given [required]"},
      {"run: {dir: x}\ndata: {train: a.h5}\nmodel: {preset: deepseek_v3_tiny}",
       "78: t.yaml: training.train_tokens: must be given, or training.train_steps [one-length]"},
      {"model: {hidden_size: 8}", "78: t.yaml: model.vocab_size: must be given"},
  };
  for (const auto& c : cases) EXPECT_EQ(refusal(c.text, {}, 1), c.message) << c.text;
}

TEST(BadConfig, ModelsThatCannotBe) {
  const struct {
    const char* override;
    const char* message;
  } cases[] = {
      {"model.n_group=3",
       "78: command line: model.n_group: 3 groups do not divide n_routed_experts 16; the nearest that fits is 2"},
      {"model.topk_group=5", "78: command line: model.topk_group: 5 groups of n_group 4; at most all of them"},
      {"model.num_experts_per_tok=9",
       "78: command line: model.num_experts_per_tok: 9 experts do not fit in topk_group 2 groups of 4 experts; at most "
       "8"},
      {"model.num_experts_per_tok=17",
       "78: command line: model.num_experts_per_tok: 17 of 16 experts (n_routed_experts); at most all of them"},
      {"model.qk_rope_head_dim=15",
       "78: command line: model.qk_rope_head_dim: 15 is odd; rotation takes pairs, so the nearest that fits is 16"},
      {"model.qk_nope_head_dim=3000",
       "78: command line: model.qk_nope_head_dim: heads of 3000 + 16 numbers and values of 32 are too wide: attention "
       "takes some 2000 together"},
      {"model.kv_lora_rank=60000",
       "78: command line: model.kv_lora_rank: 60000 is too wide: attention takes some 20,000"},
      {"model.n_routed_experts=350000",
       "78: command line: model.n_routed_experts: 350000 experts with 4 for a token are more than the gate takes; at "
       "most 262122"},
      {"model.num_key_value_heads=2",
       "78: command line: model.num_key_value_heads: 2 differs from num_attention_heads 4; MLA has one key per head, "
       "so "
       "give 4"},
      {"model.num_nextn_predict_layers=3",
       "78: command line: model.num_nextn_predict_layers: expected a whole number from 0 to 2, got 3"},
      {"model.first_k_dense_replace=5",
       "78: command line: model.first_k_dense_replace: 5 dense layers of num_hidden_layers 4"},
      {"model.first_k_dense_replace=4",
       "78: command line: model.num_nextn_predict_layers: 1 MTP modules are MoE layers like the last layer, but that "
       "one "
       "is dense"},
      {"model.scoring_func=softmax",
       "78: command line: model.scoring_func: softmax with topk_method noaux_tc; the bias of noaux_tc needs sigmoid"},
      {"model.topk_method=greedy",
       "78: command line: model.scoring_func: sigmoid with topk_method greedy; without a bias the gate is softmax"},
      {"model.n_group=16",
       "78: command line: model.n_group: 16 groups of one expert; noaux_tc scores a group by its two "
       "best"},
      {"model.hidden_act=gelu",
       "78: command line: model.hidden_act: expected silu (the only activation that is built), got gelu"},
      {"model.attention_bias=true",
       "78: command line: model.attention_bias: expected false (the only form that is built), got true"},
      {"model.attention_dropout=1e-320",
       "78: command line: model.attention_dropout: expected 0 (dropout is not built), got 1e-320"},
      {"model.attention_dropout=1e309",
       "78: command line: model.attention_dropout: expected 0 (dropout is not built), got 1e309"},
      {"model.attention_dropout=0.1",
       "78: command line: model.attention_dropout: expected 0 (dropout is not built), got 0.1"},
      {"model.rope_interleave=false",
       "78: command line: model.rope_interleave: expected true (rotation of adjacent pairs, as the released weights "
       "have "
       "it), got false"},
      {"model.rope_scaling={type: linear, factor: 2}",
       "78: command line: model.rope_scaling: expected type yarn, got linear"},
      {"model.rope_scaling={type: yarn, factor: 2}",
       "78: command line: model.rope_scaling: expected original_max_position_embeddings in it, got a map"},
      {"model.rope_scaling={type: yarn, factor: 0.5, original_max_position_embeddings: 64}",
       "78: command line: model.rope_scaling: expected for factor a number of at least 1, got 0.5"},
      {"model.rope_scaling={type: yarn, factor: 2, original_max_position_embeddings: 64, mscale_all_dim: 1}",
       "78: command line: model.rope_scaling: expected mscale above 0 beside mscale_all_dim (the released code and "
       "transformers differ without it), got a map"},
      {"model.rope_scaling={type: yarn, factor: 2, original_max_position_embeddings: 64, mscale: 0.7}",
       "78: command line: model.rope_scaling: expected mscale_all_dim above 0 beside mscale (the released code and "
       "transformers differ without it), got a map"},
      {"model.rope_scaling={type: yarn, factor: 2, original_max_position_embeddings: 64, mscale: 0}",
       "78: command line: model.rope_scaling: expected mscale above 0 beside mscale_all_dim (the released code and "
       "transformers differ without it), got a map"},
      {"schema=\"1\"", "78: command line: schema: expected 1 (the only version of this language), got \"1\""},
      {"model.rope_scaling={type: yarn, factr: 2}",
       "78: command line: model.rope_scaling: expected only known names in it, got factr; the nearest known one is "
       "factor"},
      {"model.hidden_size=2147483648",
       "78: command line: model.hidden_size: expected a whole number from 1 to 2147483647, got 2147483648"},
      {"model.num_hidden_layers=100000",
       "78: command line: model.num_hidden_layers: 100001 layers of 68 tensors; a model has at most 4000000 tensors"},
      {"model.model_type=llama",
       "78: command line: model.model_type: expected deepseek_v3, deepseek_v2 or kimi_k2, got llama"},
      {"model.vocab_size=258",
       "78: command line: model.vocab_size: 258 is too small for the tokenizer bytes; at least 259 [vocabulary]"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(refusal(kGood, {c.override}, 1), c.message) << c.override;
  }
}

TEST(BadConfig, WhatIsNotBuiltSaysSo) {
  const struct {
    const char* override;
    const char* message;
  } cases[] = {
      {"parallelism.timeout=5s", "parallelism.timeout: 5s is not built yet; the nearest that is built is 600s"},
      {"precision.compute=bf16", "precision.compute: bf16 is not built yet; the nearest that is built is fp32"},
      {"precision.compute=fp8", "precision.compute: fp8 is not built yet; the nearest that is built is fp32"},
      {"precision.moments=bf16", "precision.moments: bf16 is not built yet; the nearest that is built is fp32"},
      {"precision.dispatch=fp8", "precision.dispatch: fp8 is not built yet; the nearest that is built is fp32"},
      {"precision.combine=bf16", "precision.combine: bf16 is not built yet; the nearest that is built is fp32"},
      {"precision.fp8_gemm=exact", "precision.fp8_gemm: exact is not built yet; the nearest that is built is fast"},
      {"precision.fp8_scales=pow2",
       "precision.fp8_scales: pow2 is not built yet; the nearest that is built is default"},
      {"precision.overrides={experts: bf16}",
       "precision.overrides: {experts: bf16} is not built yet; the nearest that is built is {}"},
      {"precision.shadow_interval=100",
       "precision.shadow_interval: 100 is not built yet; the nearest that is built is 0"},
      {"data.fim_rate=0.1", "data.fim_rate: 0.1 is not built yet; the nearest that is built is 0"},
      {"data.tokenizer=tokenizer.json",
       "data.tokenizer: tokenizer.json is not built yet; the nearest that is built is bytes"},
      {"parallelism.tensor_parallel=2",
       "parallelism.tensor_parallel: 2 is not built yet; the nearest that is built is 1"},
      {"parallelism.expert_parallel=2",
       "parallelism.expert_parallel: 2 is not built yet; the nearest that is built is 1"},
      {"parallelism.pipeline_parallel=2",
       "parallelism.pipeline_parallel: 2 is not built yet; the nearest that is built is 1"},
      {"parallelism.zero_stage=1", "parallelism.zero_stage: 1 is not built yet; the nearest that is built is 0"},
      {"activation_checkpoint.mode=selective",
       "activation_checkpoint.mode: selective is not built yet; the nearest that is built is none"},
      {"cluster.device=cuda",
       "cluster.device: cuda: this program was built without CUDA; the nearest that fits is cpu"},
      {"cluster.device=h800", "cluster.device: h800 is not built yet; the nearest that is built is cpu"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(refusal(kGood, {c.override}, 1), std::string("78: command line: ") + c.message) << c.override;
  }
  // Names that mean the same here and harmless ones are accepted.
  for (const char* harmless :
       {"precision.compute=fp32", "precision.dispatch=fp32", "parallelism.pipeline_schedule=dualpipe",
        "parallelism.token_dispatcher=hierarchical", "checkpoint.keep=5", "checkpoint.interval=0",
        "budget.gpu_hours=10", "cluster.device=cpu", "data.tokenizer=bytes", "data.document_mask=true",
        "model.tie_word_embeddings=true", "mtp.hidden=before_final_norm", "parallelism.reduction_segments=2",
        "lr_scheduler.min_lr=0", "budget.gpu_hours=null"}) {
    EXPECT_EQ(refusal(kGood, {harmless}, 1), "accepted") << harmless;
  }
}

TEST(BadConfig, TheCommandLine) {
  EXPECT_EQ(refusal(kGood, {"training.seq_length"}, 1),
            "2: \"training.seq_length\" is not an override; write key.sub=value");
  EXPECT_EQ(refusal(kGood, {"defaults=[a]"}, 1), "78: command line: defaults: belongs in a file");
  EXPECT_EQ(refusal(kGood, {"training={seq_length: 32, seq_lengt: 1}"}, 1),
            "78: command line: training.seq_lengt: unknown key; the nearest known one is training.seq_length");
  EXPECT_EQ(
      refusal(kGood, {"optimizer.lr=[1"}, 1),
      "78: command line: optimizer.lr: \"[1\" is not a value in YAML's flow style; quote text that holds []{},:#");
  EXPECT_EQ(refusal(kGood, {"data.train=[{path: x.h5, weight: 1, weight: 2}]"}, 1),
            "78: command line: data.train: duplicate key data.train[0].weight");
  EXPECT_EQ(refusal(kGood, {"optimizer.lr=&a 1"}, 1),
            "78: command line: optimizer.lr: anchors and aliases are not accepted; write the value out, or share files "
            "by \"defaults:\"");
  EXPECT_EQ(refusal(kGood, {"training.global_batch_size={start: 4, end: 8, ovr: 1k, increment: 4}"}, 1),
            "78: command line: training.global_batch_size: expected only start, end, over and increment, got ovr; the "
            "nearest is over");
  EXPECT_EQ(refusal(kGood, {"lr_scheduler.decay={phase: [[1k, constant, 1e-3]]}"}, 1),
            "78: command line: lr_scheduler.decay: expected only phases, got phase; the nearest is phases");
  EXPECT_EQ(refusal(kGood, {"model.preset=gpt"}, 1),
            "78: command line: model.preset: there is no preset gpt; there are deepseek_v2, deepseek_v2_lite, "
            "deepseek_v3, deepseek_v3_small, deepseek_v3_tiny, kimi_k2, moonlight");
}

TEST(BadConfig, FilesThatAreNotThere) {
  const auto load = [](const std::string& path) {
    return testing::refusal_of([&] { load_config(path, {}, kSearch); });
  };
  EXPECT_EQ(load("nowhere.yaml"), "78: \"nowhere.yaml\": no such configuration, here or in the configs directories");
  EXPECT_EQ(load("/"), "78: /: cannot be read: Is a directory");
}

}  // namespace
}  // namespace tael
