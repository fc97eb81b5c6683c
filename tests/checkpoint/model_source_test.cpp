#include "checkpoint/model_source.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/file.hpp"
#include "checkpoint/compare.hpp"
#include "checkpoint/hf_copy.hpp"
#include "checkpoint/hf_export.hpp"
#include "checkpoint/hf_import.hpp"
#include "checkpoint/store.hpp"
#include "checkpoint/training_state.hpp"
#include "checkpoint/weights_checkpoint.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "tests/harness/tiny_hf.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;
using testing::Tiny;
using testing::tiny_number;
using testing::tiny_shape;

const std::string kGolden = std::string(TAEL_SOURCE_DIR) + "/tests/golden/";

// A training of the tiny model whose weights are all `value`, saved under RUN/checkpoints.
class Training {
 public:
  explicit Training(const std::string& run) : store_(run + "/checkpoints") {}

  std::string save(int64_t step, float value, int ranks = 1) {
    const ParamTable table = make_param_table(tiny_shape());
    std::vector<float> params(static_cast<size_t>(table.size()), value), first(params.size(), 2.0f),
        second(params.size(), 3.0f), biases(static_cast<size_t>(table.bias_size()), -value);
    const TrainingArrays arrays{vec(params.data(), table.size()), vec(first.data(), table.size()),
                                vec(second.data(), table.size()), vec(biases.data(), table.bias_size())};
    make_directories(store_.directory());
    store_.begin(step, 1, 0);
    Manifest manifest;
    const std::string config = hf_config_text(table.shape);
    for (int r = 0; r < ranks; ++r) {
      std::vector<BoxData> boxes = training_boxes(table, arrays, r, ranks);
      if (r == 0)
        boxes.push_back({Box::whole(StateKind::text, "config.json", DType::u8, {static_cast<int64_t>(config.size())}),
                         config.data()});
      manifest.append(write_shard(store_.prepared_path(step, 1), {.step = step, .shard = r, .shards = ranks}, boxes));
    }
    manifest.state = {.training = true, .step = step, .attempt = 1, .tokenizer = "bytes"};
    store_.commit(manifest);
    return store_.path(step);
  }

 private:
  CheckpointStore store_;
};

float first_weight(const ModelSource& source) {
  float x = 0;
  read_floats(*source.files, *source.files->weight("model.norm.weight"), 0, 1, &x);
  return x;
}

void damage(const std::string& file, uint64_t offset) {
  File f = File::update(file);
  char byte = 0;
  f.read_at(offset, &byte, 1);
  byte = static_cast<char>(byte ^ 1);
  f.write_at(offset, &byte, 1);
}
uint64_t place_of(const std::string& path, StateKind kind, const std::string& name, std::string& file) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  for (const StoredBox& stored : checkpoint.manifest().boxes)
    if (stored.box.kind == kind && stored.box.name == name) {
      file = path + "/" + checkpoint.manifest().files[stored.file].name;
      return stored.offset;
    }
  throw std::runtime_error(name);
}

TEST(ModelSource, ARunIsItsNewestUndamagedCheckpoint) {
  const ScratchDirectory scratch;
  const std::string run = scratch.at("run");
  Training training(run);
  training.save(10, 1.0f);
  training.save(20, 2.0f, 3);
  const std::string newest = training.save(30, 3.0f, 2);
  ModelSource source = open_model(run);
  EXPECT_EQ(first_weight(source), 3.0f);
  EXPECT_EQ(source.step, 30);
  EXPECT_EQ(source.tokenizer, "bytes");
  EXPECT_EQ(source.run, run);
  EXPECT_TRUE(source.files->of_training());
  EXPECT_TRUE(source.warnings.empty());

  std::string file;
  damage(file, place_of(newest, StateKind::exp_avg, "model.norm.weight", file));
  for (const char* what : {"exp_avg of tensor", "tensor"}) {  // a moment, then a weight as well
    source = open_model(run);
    EXPECT_EQ(first_weight(source), 2.0f);
    ASSERT_EQ(source.warnings.size(), 1u);
    EXPECT_NE(source.warnings[0].find(std::string(what) + " \"model.norm.weight\" is damaged between bytes"),
              std::string::npos)
        << source.warnings[0];
    EXPECT_TRUE(source.warnings[0].ends_with("; passed over"));
    EXPECT_NE(error_of(Exit::bad_data, [&] { open_model(newest); }).find("is damaged"), std::string::npos);
    damage(file, place_of(newest, StateKind::weight, "model.norm.weight", file));
  }

  for (const char* step : {"00000010", "00000020"})
    scratch.write(std::string("run/checkpoints/step-") + step + "/manifest.json", "{}");
  EXPECT_NE(error_of(Exit::bad_data, [&] { open_model(run); }).find("model.norm.weight"), std::string::npos);
  Tiny().write(run + "/model");
  source = open_model(run);
  EXPECT_EQ(source.warnings.size(), 3u);
  EXPECT_EQ(first_weight(source), tiny_number("model.norm.weight", 0));
}

TEST(ModelSource, AFinishedRunIsItsFinalWeights) {
  const ScratchDirectory scratch;
  Training training(scratch.at("run"));
  training.save(10, 1.0f);
  Tiny().write(scratch.at("run/model"));
  const auto weight = [&](const std::string& status) {
    scratch.write("run/status.json", status);
    return first_weight(open_model(scratch.at("run")));
  };
  const float final_weight = tiny_number("model.norm.weight", 0);
  EXPECT_EQ(weight(R"({"state": "done", "step": 12})"), final_weight);
  EXPECT_EQ(open_model(scratch.at("run")).step, 12);
  EXPECT_EQ(open_model(scratch.at("run")).tokenizer, "bytes");
  EXPECT_EQ(weight(R"({"state": "done", "step": 10})"), final_weight);
  EXPECT_EQ(weight(R"({"state": "done", "step": 9})"), 1.0f);  // it went on, and the directory is of before
  EXPECT_EQ(weight(R"({"state": "running", "step": 12})"), 1.0f);
  EXPECT_EQ(weight("half a file"), 1.0f);
}

TEST(ModelSource, WhatIsNoModelIsSaid) {
  const ScratchDirectory scratch;
  const auto refusal = [&](const std::string& path) {
    return scratch.relative(error_of(Exit::bad_data, [&] { open_model(scratch.at(path)); }));
  };
  EXPECT_EQ(refusal("no"), "DIR/no: no such directory");
  scratch.write("file", "x");
  EXPECT_EQ(refusal("file"), "DIR/file: is not a directory");
  create_directory(scratch.at("empty"));
  EXPECT_EQ(refusal("empty"),
            "DIR/empty: neither a Hugging Face directory (no config.json), nor a checkpoint (no manifest.json), nor a "
            "run (no checkpoints/ or model/)");
  create_directory(scratch.at("run"));
  create_directory(scratch.at("run/checkpoints"));
  EXPECT_EQ(refusal("run"),
            "DIR/run: a run without weights: neither checkpoints/step-* nor model/config.json is there");
  EXPECT_EQ(scratch.relative(error_of(Exit::bad_data, [&] { find_checkpoint(scratch.at("run")); })),
            "DIR/run: neither a checkpoint (no manifest.json) nor a run with checkpoints");
  Tiny().write(scratch.at("run/model"));
  EXPECT_EQ(open_model(scratch.at("run")).files->path(), scratch.at("run/model"));
  EXPECT_EQ(open_model(scratch.at("run/model")).run, "");
}

TEST(ModelSource, ATrainingsCheckpointIsExportedAsTheRunWritesItsModel) {
  const ScratchDirectory scratch;
  const std::string path = Training(scratch.at("run")).save(10, 1.5f, 2);
  const ModelSource source = open_model(path);
  const ParamTable table = make_param_table(read_hf_shape(*source.files));
  check_hf_tensors(*source.files, table);
  copy_model(*source.files, table, scratch.at("copy"), {});
  std::vector<float> params(static_cast<size_t>(table.size())), biases(static_cast<size_t>(table.bias_size()));
  const Vec<float> p = vec(params.data(), table.size()), b = vec(biases.data(), table.bias_size());
  import_parameters(*source.files, table, p, b);
  EXPECT_EQ(params.back(), 1.5f);
  EXPECT_EQ(biases.back(), -1.5f);
  export_parameters(scratch.at("direct"), table, p, b);
  for (const char* file : {"config.json", "generation_config.json", "model.safetensors"})
    EXPECT_TRUE(read_file(scratch.at("copy/") + file) == read_file(scratch.at("direct/") + file)) << file;
  copy_model(*source.files, table, scratch.at("narrow"), DType::bf16);
  const HfDirectory narrow = HfDirectory::open(scratch.at("narrow"));
  EXPECT_EQ(narrow.weight("model.norm.weight")->dtype, DType::bf16);
  EXPECT_EQ(narrow.weight("model.layers.1.mlp.gate.e_score_correction_bias")->dtype, DType::f32);
}

TEST(WeightsCheckpoint, ThereAndBackGivesTheSameBytesInEveryTensor) {
  for (const char* name : {"v3", "v3_mtp2", "v3_tied", "v2"}) {
    const ScratchDirectory scratch;
    const HfDirectory golden = HfDirectory::open(kGolden + name);
    write_weights_checkpoint(golden, scratch.at("deep/ckpt"), "test");
    EXPECT_EQ(testing::count_entries(scratch.at("deep")), 1);
    Checkpoint::open(scratch.at("deep/ckpt")).verify();
    const ModelSource source = open_model(scratch.at("deep/ckpt"));
    EXPECT_FALSE(source.files->of_training());
    copy_model(*source.files, make_param_table(read_hf_shape(*source.files)), scratch.at("back"), {});
    const HfDirectory back = HfDirectory::open(scratch.at("back"));
    EXPECT_EQ(back.config_text(), golden.config_text());
    const CheckpointComparison comparison = compare_weights(golden, back);
    EXPECT_TRUE(comparison.equal());
    EXPECT_EQ(comparison.tensors, static_cast<int64_t>(golden.weights().size()));
  }
}

TEST(WeightsCheckpoint, KeepsFormatsAndTextsAndTensorsWithoutNumbers) {
  const ScratchDirectory scratch;
  Tiny tiny(DType::bf16);
  tiny.content.texts.emplace_back("tokenizer.json", "{\"a\": 1}");
  tiny.content.texts.emplace_back("generation_config.json", "");  // empty, and still a file
  tiny.content.tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::f32, {1}});
  tiny.content.tensors.push_back({"model.layers.1.mlp.shared_experts.nothing", DType::f16, {0, 4}});
  tiny.write(scratch.at("m"));
  const HfDirectory directory = HfDirectory::open(scratch.at("m"));
  write_weights_checkpoint(directory, scratch.at("c"), "test");
  const Checkpoint checkpoint = Checkpoint::open(scratch.at("c"));
  EXPECT_EQ(checkpoint.read_text("tokenizer.json"), "{\"a\": 1}");
  EXPECT_EQ(checkpoint.find(StateKind::weight, "model.norm.weight")->dtype, DType::bf16);
  EXPECT_EQ(checkpoint.state().software, "test");
  EXPECT_FALSE(checkpoint.state().training);
  const CheckpointFiles files(Checkpoint::open(scratch.at("c")));
  EXPECT_TRUE(compare_weights(directory, files).equal());
  EXPECT_EQ(files.text("generation_config.json"), "");
  EXPECT_EQ(files.text("vocab.json"), std::nullopt);

  EXPECT_EQ(
      scratch.relative(error_of(Exit::bad_config, [&] { write_weights_checkpoint(directory, scratch.at("c"), ""); })),
      "DIR/c: exists already; nothing is overwritten");
  Tiny cube;
  cube.content.tensors.push_back({"cube", DType::f32, {1, 2, 3}});
  cube.write(scratch.at("cube"));
  const HfDirectory of_cube = HfDirectory::open(scratch.at("cube"));
  EXPECT_NE(error_of(Exit::bad_data, [&] { write_weights_checkpoint(of_cube, scratch.at("d"), ""); })
                .find("\"cube\" of shape"),
            std::string::npos);
  EXPECT_FALSE(path_exists(scratch.at("d")));
}

TEST(Compare, SaysWhatDiffersAndByHowMuch) {
  const ScratchDirectory scratch;
  const std::string a = Training(scratch.at("a")).save(10, 1.0f), b = Training(scratch.at("b")).save(10, 1.0f, 3),
                    c = Training(scratch.at("c")).save(11, 1.25f);
  const Checkpoint x = Checkpoint::open(a), y = Checkpoint::open(b), z = Checkpoint::open(c);
  CheckpointComparison same = compare(x, y);  // on another number of ranks
  EXPECT_TRUE(same.equal());
  EXPECT_EQ(same.tensors, static_cast<int64_t>(x.tensors().size()) - 1);
  EXPECT_TRUE(same.beside.empty());

  const CheckpointComparison other = compare(x, z);
  EXPECT_FALSE(other.equal());
  EXPECT_EQ(other.state, std::vector<std::string>{"step: 10 | 11"});
  const size_t moments = make_param_table(tiny_shape()).params.size() * 2;
  EXPECT_EQ(other.tensors, static_cast<int64_t>(moments));  // they are the same
  ASSERT_EQ(other.differences.size(), x.tensors().size() - 1 - moments);
  EXPECT_EQ(other.differences[0].tensor, "tensor \"lm_head.weight\"");
  EXPECT_EQ(other.differences[0].differing, other.differences[0].numbers);
  EXPECT_DOUBLE_EQ(other.differences[0].largest, 0.25);
  EXPECT_DOUBLE_EQ(other.differences[0].relative, 0.2);
}

TEST(Compare, FormatsShapesAndWhatIsMissing) {
  const ScratchDirectory scratch;
  Tiny narrow(DType::bf16), changed;
  narrow.write(scratch.at("narrow"));
  changed.drop("model.norm.weight");
  changed.tensor("lm_head.weight").shape = {4, 5};
  changed.content.tensors.push_back({"more", DType::f32, {2}});
  changed.write(scratch.at("changed"), [](const TensorSpec& tensor, uint64_t begin, void* out, size_t bytes) {
    testing::tiny_source(tensor, begin, out, bytes);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    if (tensor.name == "model.layers.0.input_layernorm.weight") std::memcpy(out, &nan, sizeof nan);
  });
  const HfDirectory a = HfDirectory::open(scratch.at("narrow")), b = HfDirectory::open(scratch.at("changed"));
  const CheckpointComparison comparison = compare_weights(a, b);
  const auto find = [&](const std::string& name) {
    for (const TensorDifference& d : comparison.differences)
      if (d.tensor == "tensor \"" + name + "\"") return d;
    return TensorDifference{};
  };
  EXPECT_EQ(find("model.norm.weight").what, "only in the first");
  EXPECT_EQ(find("more").what, "only in the second");
  EXPECT_EQ(find("lm_head.weight").what, "shape [5, 4] | [4, 5]");
  EXPECT_EQ(find("model.embed_tokens.weight").what, "format BF16 | F32");
  EXPECT_EQ(find("model.embed_tokens.weight").differing, 0);
  EXPECT_EQ(find("model.layers.0.input_layernorm.weight").differing, 1);
  EXPECT_TRUE(std::isinf(find("model.layers.0.input_layernorm.weight").largest));
  EXPECT_EQ(find("model.layers.1.mlp.gate.e_score_correction_bias").tensor, "");  // float32 in both
}

}  // namespace
}  // namespace tael
