#include "checkpoint/hf_directory.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/hf_copy.hpp"
#include "checkpoint/hf_export.hpp"
#include "checkpoint/hf_import.hpp"
#include "model/shape_fields.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "tests/harness/tiny_hf.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;
using testing::Tiny;
using testing::tiny_number;
using testing::tiny_shape;
using testing::tiny_source;

const std::string kGolden = std::string(TAEL_SOURCE_DIR) + "/tests/golden/";

std::string bytes_of(const HfTensor& tensor) {
  std::string bytes(tensor.spec->bytes(), '\0');
  tensor.file->read(*tensor.spec, 0, bytes.data(), bytes.size());
  return bytes;
}

void expect_same_tensors(const HfDirectory& a, const HfDirectory& b) {
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const HfTensor& tensor : a.tensors()) {
    const HfTensor* other = b.find(tensor.name());
    ASSERT_NE(other, nullptr) << tensor.name();
    EXPECT_EQ(tensor.spec->dtype, other->spec->dtype) << tensor.name();
    EXPECT_EQ(tensor.spec->shape, other->spec->shape) << tensor.name();
    EXPECT_TRUE(bytes_of(tensor) == bytes_of(*other)) << tensor.name();
  }
}

void copy(const HfDirectory& directory, const std::string& path, std::optional<DType> dtype) {
  copy_model(directory, make_param_table(read_hf_shape(directory)), path, dtype);
}

TEST(HfDirectory, GoldenModelsOfOneFileAndOfTwo) {
  const HfDirectory one = HfDirectory::open(kGolden + "v3_recipe"), two = HfDirectory::open(kGolden + "v3");
  EXPECT_EQ(one.tensors().size(), 97u);
  EXPECT_EQ(two.tensors().size(), 91u);
  EXPECT_EQ(two.tensors().front().name(), "lm_head.weight");
  EXPECT_NE(two.find("model.layers.1.mlp.experts.7.down_proj.weight"), nullptr);
  EXPECT_EQ(two.find("model.layers.9.mlp.gate.weight"), nullptr);
}

TEST(HfDirectory, CopiesHaveTheSameBytesInEveryTensor) {
  for (const char* name : {"v3", "v3_recipe", "v3_mtp2", "v3_tied", "v2"}) {
    const ScratchDirectory scratch;
    const HfDirectory golden = HfDirectory::open(kGolden + name);
    check_hf_tensors(golden, make_param_table(read_hf_shape(golden)));
    copy(golden, scratch.at("out/deep"), {});
    const HfDirectory copy = HfDirectory::open(scratch.at("out/deep"));
    EXPECT_EQ(copy.config_text(), golden.config_text());
    EXPECT_EQ(testing::count_entries(scratch.at("out")), 1);
    expect_same_tensors(golden, copy);
  }
}

TEST(HfDirectory, ThroughMemoryAndBackGivesTheSameBytes) {
  for (const char* name : {"v3", "v3_mtp1", "v3_mtp2", "v3_tied", "v2_lite", "v3_yarn"}) {
    const ScratchDirectory scratch;
    const HfDirectory golden = HfDirectory::open(kGolden + name);
    const ParamTable table = make_param_table(read_hf_shape(golden));
    std::vector<float> params(static_cast<size_t>(table.size())), biases(static_cast<size_t>(table.bias_size()));
    const Vec<float> p = vec(params.data(), table.size()), b = vec(biases.data(), table.bias_size());
    import_parameters(golden, table, p, b);
    export_parameters(scratch.at("out"), table, p, b, {{"tokenizer.json", "{}"}});
    const HfDirectory back = HfDirectory::open(scratch.at("out"));
    expect_same_tensors(golden, back);
    EXPECT_EQ(read_file(scratch.at("out/tokenizer.json")), "{}");
    // config.json describes the same model: the same table, and the same text when it is written again.
    const ModelShape shape = read_hf_shape(back);
    EXPECT_EQ(hf_config_text(shape), back.config_text());
    EXPECT_EQ(make_param_table(shape).size(), table.size());
    EXPECT_EQ(shape.rope_scaling.has_value(), table.shape.rope_scaling.has_value());
    EXPECT_EQ(shape.rope_scaling.value_or(RopeScaling{}).factor,
              table.shape.rope_scaling.value_or(RopeScaling{}).factor);
    EXPECT_EQ(shape.routed_scaling_factor, table.shape.routed_scaling_factor);
    EXPECT_EQ(shape.topk_method, table.shape.topk_method);
    EXPECT_EQ(shape.rms_norm_eps, table.shape.rms_norm_eps);
  }
}

// transformers does not ask n_routed_experts or moe_layer_freq which layers are dense.
TEST(HfDirectory, AModelWithoutExpertsSaysThatAllItsLayersAreDense) {
  const HfDirectory golden = HfDirectory::open(kGolden + "v3");
  const auto comes_back = [](const ModelShape& shape) {
    const std::string text = hf_config_text(shape);
    EXPECT_NE(text.find(fmt::format("\"first_k_dense_replace\": {},", shape.num_hidden_layers)), std::string::npos)
        << text;
    Reading reading;
    const ModelShape back = read_model_json(text, "config.json", reading, true).shape;
    EXPECT_EQ(hf_config_text(back), text);
    const ParamTable table = make_param_table(shape), read = make_param_table(back);
    ASSERT_EQ(read.params.size(), table.params.size());
    for (size_t i = 0; i < table.params.size(); ++i) EXPECT_EQ(read.params[i].name, table.params[i].name);
    EXPECT_EQ(read.size(), table.size());
    EXPECT_EQ(read.bias_size(), table.bias_size());
  };
  ModelShape shape = read_hf_shape(golden);
  shape.first_k_dense_replace = 1;
  shape.moe_layer_freq = shape.num_hidden_layers;
  comes_back(shape);
  shape.n_routed_experts = 0;
  for (const int64_t layers : {1, 2, 3, 4}) {  // 3 and one module are what transformers writes of any model
    for (const int64_t modules : {0, 1, 2}) {
      shape.num_hidden_layers = layers;
      shape.num_nextn_predict_layers = modules;
      comes_back(shape);
    }
  }
}

TEST(HfDirectory, Bf16FilesAreReadExactlyAndWrittenBack) {
  const ScratchDirectory scratch;
  Tiny(DType::bf16).write(scratch.at("narrow"));
  Tiny(DType::f32).write(scratch.at("wide"));
  const HfDirectory narrow = HfDirectory::open(scratch.at("narrow")), wide = HfDirectory::open(scratch.at("wide"));
  const ParamTable table = make_param_table(tiny_shape());
  std::vector<float> params(static_cast<size_t>(table.size())), biases(static_cast<size_t>(table.bias_size()));
  import_parameters(narrow, table, vec(params.data(), table.size()), vec(biases.data(), table.bias_size()));
  for (const ParamSpec& param : table.params)
    for (int64_t i = 0; i < param.size(); ++i)
      ASSERT_EQ(params[static_cast<size_t>(param.offset + i)], tiny_number(param.name, i)) << param.name;

  copy(narrow, scratch.at("same"), {});
  expect_same_tensors(narrow, HfDirectory::open(scratch.at("same")));
  copy(narrow, scratch.at("widened"), DType::f32);
  expect_same_tensors(wide, HfDirectory::open(scratch.at("widened")));
  copy(wide, scratch.at("narrowed"), DType::bf16);
  const HfDirectory narrowed = HfDirectory::open(scratch.at("narrowed"));
  expect_same_tensors(narrow, narrowed);  // gate biases stay float32 in both
  EXPECT_EQ(narrowed.find("model.layers.1.mlp.gate.e_score_correction_bias")->spec->dtype, DType::f32);
  EXPECT_EQ(narrowed.find("model.layers.1.mlp.gate.weight")->spec->dtype, DType::bf16);
  EXPECT_NE(narrowed.config_text().find("\"torch_dtype\": \"bfloat16\""), std::string::npos);
  EXPECT_NE(HfDirectory::open(scratch.at("widened")).config_text().find("\"torch_dtype\": \"float32\""),
            std::string::npos);
}

TEST(HfDirectory, RowsOfATensorCanBeReadAlone) {
  const ScratchDirectory scratch;
  Tiny(DType::bf16).write(scratch.at("m"));
  const HfDirectory directory = HfDirectory::open(scratch.at("m"));
  const TensorSpec& tensor = *directory.weight("model.embed_tokens.weight");
  float rows[8];
  read_floats(directory, tensor, 4, 8, rows);
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(rows[i], tiny_number(tensor.name, 4 + i));
  EXPECT_NE(error_of(Exit::internal, [&] { read_floats(directory, tensor, 16, 5, rows); }), "no error");
}

TEST(HfDirectory, ShardsAreCutBySizeAndOrderOfNamesOnly) {
  std::vector<TensorSpec> tensors;
  for (const int layer : {10, 2, 1, 0, 11})
    tensors.push_back({fmt::format("l.{}", layer), DType::f32, {layer == 2 ? 9 : 2}});
  const std::vector<HfShard> shards = plan_shards(tensors, 20);
  ASSERT_EQ(shards.size(), 3u);
  const auto names = [](const HfShard& shard) {
    std::string text = shard.file + ":";
    for (const TensorSpec& tensor : shard.tensors) text += " " + tensor.name;
    return text;
  };
  EXPECT_EQ(names(shards[0]), "model-00001-of-00003.safetensors: l.0 l.1");
  EXPECT_EQ(names(shards[1]), "model-00002-of-00003.safetensors: l.2");  // larger than a shard may be: alone
  EXPECT_EQ(names(shards[2]), "model-00003-of-00003.safetensors: l.10 l.11");
  EXPECT_EQ(plan_shards(tensors).size(), 1u);
  EXPECT_EQ(plan_shards(tensors)[0].file, "model.safetensors");

  // Many shards, read back and copied into one file: the same tensors.
  const ScratchDirectory scratch;
  Tiny many, few;
  many.content.max_shard_bytes = 100;
  many.write(scratch.at("many"));
  few.write(scratch.at("few"));
  EXPECT_TRUE(path_exists(scratch.at("many/model.safetensors.index.json")));
  expect_same_tensors(HfDirectory::open(scratch.at("few")), HfDirectory::open(scratch.at("many")));
  copy(HfDirectory::open(scratch.at("many")), scratch.at("one"), {});
  EXPECT_TRUE(read_file(scratch.at("one/model.safetensors")) == read_file(scratch.at("few/model.safetensors")));
}

TEST(HfDirectory, NaturalOrder) {
  EXPECT_TRUE(natural_less("l.2.a", "l.10.a"));
  EXPECT_FALSE(natural_less("l.10.a", "l.2.a"));
  EXPECT_TRUE(natural_less("l", "l.1"));
  EXPECT_TRUE(natural_less("l.01", "l.1"));  // equal numbers: some order, always the same
  EXPECT_FALSE(natural_less("l.1", "l.01"));
  EXPECT_FALSE(natural_less("l.1", "l.1"));
  EXPECT_TRUE(natural_less("a9999999999999999999999", "a10000000000000000000000"));
  EXPECT_TRUE(natural_less("", "a"));
}

TEST(HfDirectory, ACopyIsCompleteOrAbsent) {
  const ScratchDirectory scratch;
  const Tiny tiny;
  int calls = 0;
  EXPECT_EQ(error_of(Exit::io,
                     [&] {
                       tiny.write(scratch.at("out"), [&](const TensorSpec&, uint64_t, void*, size_t) {
                         if (++calls == 5) fail(Exit::io, "the disk is gone");
                       });
                     }),
            "the disk is gone");
  EXPECT_FALSE(path_exists(scratch.at("out")));
  EXPECT_EQ(testing::count_entries(scratch.path()), 0);
  // What lies beside it is somebody's; what is complete is never overwritten.
  create_directory(scratch.at("out.tmp"));
  scratch.write("out.tmp/model.safetensors", "precious");
  tiny.write(scratch.at("out"));
  EXPECT_EQ(read_file(scratch.at("out.tmp/model.safetensors")), "precious");
  EXPECT_EQ(testing::count_entries(scratch.path()), 2);
  EXPECT_EQ(scratch.relative(error_of(Exit::bad_config, [&] { tiny.write(scratch.at("out")); })),
            "DIR/out: exists already; nothing is overwritten");
  // More than any disk has: refused before a byte is written.
  HfContent huge = tiny.content;
  huge.tensors.push_back({"huge", DType::f32, {int64_t{1} << 55}});
  const std::string message = error_of(Exit::io, [&] { write_hf_directory(scratch.at("huge"), huge, tiny_source); });
  EXPECT_NE(message.find("needs 144115188.076 GB, the disk has "), std::string::npos) << message;
  EXPECT_FALSE(path_exists(scratch.at("huge")));
}

}  // namespace
}  // namespace tael
