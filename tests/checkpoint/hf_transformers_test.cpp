// Directories as transformers' own save_pretrained writes them: MTP modules counted in config.json but not stored, keys
// that mean nothing here, tensors without numbers.
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/hf_directory.hpp"
#include "checkpoint/hf_import.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael::testing {
namespace {

std::string golden(const std::string& name) { return std::string(TAEL_SOURCE_DIR) + "/tests/golden/" + name; }

// The golden model `name` with `drop` left out, `more` added and the text of config.json changed.
template <class Drop>
void write_variant(const std::string& out, const std::string& name, const Drop& drop, std::vector<TensorSpec> more,
                   const std::string& from, const std::string& to) {
  const HfDirectory source = HfDirectory::open(golden(name));
  std::string config = source.config_text();
  if (!from.empty()) {
    const size_t at = config.find(from);
    ASSERT_NE(at, std::string::npos);
    config.replace(at, from.size(), to);
  }
  HfContent content{.texts = {{"config.json", config}}, .tensors = std::move(more)};
  for (const HfTensor& tensor : source.tensors())
    if (!drop(tensor.name())) content.tensors.push_back(*tensor.spec);
  write_hf_directory(out, content, [&](const TensorSpec& tensor, uint64_t begin, void* bytes, size_t count) {
    const HfTensor* stored = source.find(tensor.name);
    if (stored != nullptr) stored->file->read(*stored->spec, begin, bytes, count);
  });
}

bool keep_all(const std::string&) { return false; }

TEST(HfTransformers, MtpThatIsCountedButNotStoredIsLeftOut) {
  const ScratchDirectory dir;
  write_variant(
      dir.at("m"), "v3_mtp1", [](const std::string& n) { return n.starts_with("model.layers.2."); }, {}, "", "");
  const HfDirectory without = HfDirectory::open(dir.at("m"));
  ASSERT_LT(without.tensors().size(), HfDirectory::open(golden("v3_mtp1")).tensors().size());
  const ModelShape shape = read_hf_shape(without);
  EXPECT_EQ(shape.num_nextn_predict_layers, 0);
  check_hf_tensors(without, make_param_table(shape));
  EXPECT_EQ(read_hf_shape(HfDirectory::open(golden("v3_mtp1"))).num_nextn_predict_layers, 1);
}

// DeepseekV3Config's own defaults with few layers: an MTP module counted beside layers that are all dense.
TEST(HfTransformers, DenseLayersBeyondTheLast) {
  const ScratchDirectory dir;
  write_variant(
      dir.at("m"), "v3_mtp1",
      [](const std::string& n) { return n.starts_with("model.layers.2.") || n.starts_with("model.layers.1.mlp."); },
      {{.name = "model.layers.1.mlp.gate_proj.weight", .dtype = DType::f32, .shape = {96, 48}},
       {.name = "model.layers.1.mlp.up_proj.weight", .dtype = DType::f32, .shape = {96, 48}},
       {.name = "model.layers.1.mlp.down_proj.weight", .dtype = DType::f32, .shape = {48, 96}}},
      "\"first_k_dense_replace\": 1", "\"first_k_dense_replace\": 3");
  const HfDirectory directory = HfDirectory::open(dir.at("m"));
  const ModelShape shape = read_hf_shape(directory);
  EXPECT_EQ(shape.num_nextn_predict_layers, 0);
  EXPECT_EQ(shape.first_k_dense_replace, shape.num_hidden_layers);
  check_hf_tensors(directory, make_param_table(shape));
}

// A part of a module is damage, not a choice.
TEST(HfTransformers, HalfAnMtpModuleIsRefused) {
  const ScratchDirectory dir;
  write_variant(
      dir.at("m"), "v3_mtp1", [](const std::string& n) { return n.ends_with("eh_proj.weight"); }, {}, "", "");
  const HfDirectory half = HfDirectory::open(dir.at("m"));
  const std::string text =
      error_of(Exit::bad_data, [&] { check_hf_tensors(half, make_param_table(read_hf_shape(half))); });
  EXPECT_NE(text.find("eh_proj.weight"), std::string::npos) << text;
}

TEST(HfTransformers, KeysAndEmptyTensorsOfItsOwn) {
  const ScratchDirectory dir;
  write_variant(dir.at("m"), "v3", keep_all,
                {{.name = "model.layers.1.mlp.nothing.weight", .dtype = DType::f32, .shape = {0, 48}}},
                "\"use_cache\": true", "\"use_cache\": true, \"output_router_logits\": false");
  const HfDirectory directory = HfDirectory::open(dir.at("m"));
  check_hf_tensors(directory, make_param_table(read_hf_shape(directory)));
}

}  // namespace
}  // namespace tael::testing
