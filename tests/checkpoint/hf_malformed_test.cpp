// Hugging Face directories that are wrong in one thing each: the exact message and the exit code.
#include <gtest/gtest.h>

#include <functional>

#include "checkpoint/hf_import.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "tests/harness/tiny_hf.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;
using testing::Tiny;
using testing::tiny_shape;
using testing::tiny_source;

constexpr const char* kGate = "model.layers.1.mlp.gate.weight";
constexpr const char* kIndex = "m/model.safetensors.index.json";

struct Malformed {
  const char* what;
  std::function<void(const ScratchDirectory&)> make;  // fills DIR/m
  Exit code;
  std::string message;
};

void replace(const ScratchDirectory& scratch, const std::string& file, const std::string& from, const std::string& to) {
  std::string text = read_file(scratch.at(file));
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  scratch.write(file, text.replace(at, from.size(), to));
}

// The tiny model with its tensor list, or its files, changed.
auto with_tensors(const std::function<void(Tiny&)>& change) {
  return [change](const ScratchDirectory& scratch) {
    Tiny tiny;
    change(tiny);
    tiny.write(scratch.at("m"));
  };
}
auto with_files(const std::function<void(const ScratchDirectory&)>& change, uint64_t shard = kMaxShardBytes) {
  return [change, shard](const ScratchDirectory& scratch) {
    Tiny tiny;
    tiny.content.max_shard_bytes = shard;
    tiny.write(scratch.at("m"));
    change(scratch);
  };
}
// In a handful of shards, of which the first holds lm_head.weight and others.
auto with_shards(const std::function<void(const ScratchDirectory&)>& change) { return with_files(change, 600); }

std::vector<Malformed> malformed() {
  const Exit data = Exit::bad_data, config = Exit::bad_config;
  const std::string file = "DIR/m/model.safetensors: ";
  const int shards = static_cast<int>(plan_shards(Tiny().content.tensors, 600).size());
  const std::string first = fmt::format("model-00001-of-{:05}.safetensors", shards);
  const std::string second = fmt::format("model-00002-of-{:05}.safetensors", shards);
  return {
      {"nothing", [](const ScratchDirectory&) {}, data, "DIR/m: no such directory"},
      {"a file", [](const ScratchDirectory& s) { s.write("m", "x"); }, data, "DIR/m: is not a directory"},
      {"no config", with_files([](const ScratchDirectory& s) { remove_tree(s.at("m/config.json")); }), data,
       "DIR/m/config.json: no such file"},
      {"no weights", with_files([](const ScratchDirectory& s) { remove_tree(s.at("m/model.safetensors")); }), data,
       "DIR/m: neither model.safetensors nor model.safetensors.index.json is there"},
      {"config not JSON", with_files([](const ScratchDirectory& s) { s.write("m/config.json", "{\n \"a\": 1,\n}"); }),
       data,
       "DIR/m/config.json:3:1: not JSON: syntax error while parsing object key - unexpected '}'; expected string "
       "literal"},
      {"config a list", with_files([](const ScratchDirectory& s) { s.write("m/config.json", "[]"); }), data,
       "DIR/m/config.json:1:1: expected an object, found an array"},
      {"config key twice",
       with_files([](const ScratchDirectory& s) { replace(s, "m/config.json", "\"hidden_size\"", "\"vocab_size\""); }),
       data, "DIR/m/config.json:1:48: the key \"vocab_size\" stands twice in one object"},
      {"config too large",
       with_files([](const ScratchDirectory& s) { s.write("m/config.json", std::string((1 << 20) + 1, ' ')); }), data,
       "DIR/m/config.json: 1048577 bytes, at most 1048576 are read"},
      {"fp8 config", with_files([](const ScratchDirectory& s) {
         replace(s, "m/config.json", "\"vocab_size\"",
                 R"("quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}, "vocab_size")");
       }),
       config, "DIR/m/config.json: FP8 checkpoints are not built yet"},
      {"another width", with_files([](const ScratchDirectory& s) {
         replace(s, "m/config.json", "\"intermediate_size\": 6", "\"intermediate_size\": 7");
       }),
       data, file + "tensor \"model.layers.0.mlp.gate_proj.weight\": shape [6, 4], the model needs [7, 4]"},
      {"one layer more", with_files([](const ScratchDirectory& s) {
         replace(s, "m/config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
       }),
       data,
       "DIR/m: tensor \"model.layers.3.enorm.weight\" [4] is missing (and 21 more); without its MTP modules it "
       "serves a model of num_nextn_predict_layers 0"},
      {"no MTP in the config", with_files([](const ScratchDirectory& s) {
         replace(s, "m/config.json", "\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 0");
       }),
       data,
       "DIR/m: 24 tensors that the model of its config.json does not have: \"model.layers.2.eh_proj.weight\", "
       "\"model.layers.2.embed_tokens.weight\", \"model.layers.2.enorm.weight\", ..."},
      {"a tensor missing", with_tensors([](Tiny& t) { t.drop(kGate); }), data,
       "DIR/m: tensor \"model.layers.1.mlp.gate.weight\" [2, 4] is missing"},
      {"several missing", with_tensors([](Tiny& t) {
         t.drop(kGate);
         t.drop("model.norm.weight");
         t.drop("lm_head.weight");
       }),
       data, "DIR/m: tensor \"model.layers.1.mlp.gate.weight\" [2, 4] is missing (and 2 more)"},
      {"no gate bias", with_tensors([](Tiny& t) { t.drop("model.layers.1.mlp.gate.e_score_correction_bias"); }), data,
       "DIR/m: tensor \"model.layers.1.mlp.gate.e_score_correction_bias\" [2] is missing"},
      {"a tensor too many", with_tensors([](Tiny& t) {
         t.content.tensors.push_back({"model.layers.1.self_attn.q_proj.bias", DType::f32, {4}});
       }),
       data,
       "DIR/m: a tensor that the model of its config.json does not have: \"model.layers.1.self_attn.q_proj.bias\""},
      {"transposed", with_tensors([](Tiny& t) {
         t.tensor(kGate).shape = {4, 2};
       }),
       data, file + "tensor \"model.layers.1.mlp.gate.weight\": shape [4, 2], the model needs [2, 4]"},
      {"a vector as a matrix", with_tensors([](Tiny& t) {
         t.tensor("model.norm.weight").shape = {1, 4};
       }),
       data, file + "tensor \"model.norm.weight\": shape [1, 4], the model needs [4]"},
      {"integers", with_tensors([](Tiny& t) { t.tensor(kGate).dtype = DType::i64; }), data,
       file + "tensor \"model.layers.1.mlp.gate.weight\": I64 numbers are no weights"},
      {"fp8 tensor", with_tensors([](Tiny& t) { t.tensor(kGate).dtype = DType::f8_e4m3; }), config,
       file + "tensor \"model.layers.1.mlp.gate.weight\": FP8 checkpoints are not built yet"},
      {"a copy that differs",
       [](const ScratchDirectory& scratch) {
         Tiny().write(scratch.at("m"), [](const TensorSpec& tensor, uint64_t begin, void* out, size_t bytes) {
           tiny_source(tensor, begin, out, bytes);
           if (tensor.name == "model.layers.2.shared_head.head.weight") static_cast<char*>(out)[bytes - 1] ^= 1;
         });
       },
       data,
       file +
           "tensor \"model.layers.2.shared_head.head.weight\": differs from \"lm_head.weight\", which it must repeat"},
      {"file cut", with_files([](const ScratchDirectory& s) {
         const std::string bytes = read_file(s.at("m/model.safetensors"));
         s.write("m/model.safetensors", bytes.substr(0, bytes.size() - 1));
       }),
       data, file + "tensor \"model.norm.weight\": its bytes end at 2260, the file has 2259 after the header"},
      {"weights a directory", with_files([](const ScratchDirectory& s) {
         remove_tree(s.at("m/model.safetensors"));
         create_directory(s.at("m/model.safetensors"));
       }),
       data, "DIR/m/model.safetensors: is a directory"},
      {"index not JSON", with_shards([](const ScratchDirectory& s) { s.write(kIndex, "{"); }), data,
       "DIR/m/model.safetensors.index.json:1:2: not JSON: syntax error while parsing object key - unexpected end of "
       "input; expected string literal"},
      {"index without map", with_shards([](const ScratchDirectory& s) { s.write(kIndex, "{\"metadata\": {}}"); }), data,
       "DIR/m/model.safetensors.index.json:1:1: the key \"weight_map\" is missing"},
      {"index empty", with_shards([](const ScratchDirectory& s) { s.write(kIndex, "{\"weight_map\": {}}"); }), data,
       "DIR/m/model.safetensors.index.json:1:16: \"weight_map\" names no tensor"},
      {"index with a number",
       with_shards([](const ScratchDirectory& s) { s.write(kIndex, "{\"weight_map\": {\"a\": 1}}"); }), data,
       "DIR/m/model.safetensors.index.json:1:22: expected a string, found an integer"},
      {"shard above", with_shards([](const ScratchDirectory& s) {
         s.write(kIndex, "{\"weight_map\": {\"a\": \"../m/x.safetensors\"}}");
       }),
       data,
       "DIR/m/model.safetensors.index.json:1:22: \"../m/x.safetensors\" is not the name of a shard in this directory"},
      {"shard absolute", with_shards([](const ScratchDirectory& s) {
         s.write(kIndex, "{\"weight_map\": {\"a\": \"/etc/x.safetensors\"}}");
       }),
       data,
       "DIR/m/model.safetensors.index.json:1:22: \"/etc/x.safetensors\" is not the name of a shard in this directory"},
      {"shard of another kind", with_shards([](const ScratchDirectory& s) {
         s.write(kIndex, "{\"weight_map\": {\"a\": \"pytorch_model.bin\"}}");
       }),
       data,
       "DIR/m/model.safetensors.index.json:1:22: \"pytorch_model.bin\" is not the name of a shard in this directory"},
      {"shard missing", with_shards([=](const ScratchDirectory& s) { remove_tree(s.at("m/" + first)); }), data,
       "DIR/m/" + first + ": no such file, but model.safetensors.index.json lists it"},
      {"in the index, not in the shard", with_shards([=](const ScratchDirectory& s) {
         replace(s, kIndex, "\"lm_head.weight\"", "\"lm_tail.weight\": \"" + first + "\",\n    \"lm_head.weight\"");
       }),
       data, "DIR/m/model.safetensors.index.json:6:23: tensor \"lm_tail.weight\" is not in " + first},
      {"in the shard, not in the index",
       with_shards([](const ScratchDirectory& s) { replace(s, kIndex, "\"lm_head.weight\"", "\"lm_tail.weight\""); }),
       data, "DIR/m/" + first + ": tensor \"lm_head.weight\": model.safetensors.index.json does not list it"},
      {"in another shard", with_shards([=](const ScratchDirectory& s) {
         replace(s, kIndex, "\"lm_head.weight\": \"" + first, "\"lm_head.weight\": \"" + second);
       }),
       data,
       "DIR/m/" + first + ": tensor \"lm_head.weight\": model.safetensors.index.json says that it is in " + second},
      {"a stale single file", with_shards([](const ScratchDirectory& s) { s.write("m/model.safetensors", "x"); }), data,
       "DIR/m: model.safetensors is there, and model.safetensors.index.json lists other files: one of them is stale"},
      {"a tensor twice in the index", with_shards([=](const ScratchDirectory& s) {
         replace(s, kIndex, "\"lm_head.weight\"", "\"lm_head.weight\": \"" + first + "\",\n    \"lm_head.weight\"");
       }),
       data, "DIR/m/model.safetensors.index.json:7:5: the key \"lm_head.weight\" stands twice in one object"},
  };
}

TEST(HfMalformed, EachIsRefusedWithItsMessage) {
  for (const Malformed& bad : malformed()) {
    const ScratchDirectory scratch;
    bad.make(scratch);
    const std::string message = error_of(bad.code, [&] {
      const HfDirectory directory = HfDirectory::open(scratch.at("m"));
      check_hf_tensors(directory, make_param_table(read_hf_shape(directory)));
    });
    EXPECT_EQ(scratch.relative(message), bad.message) << bad.what;
  }
}

// Nothing is wrong with the files: they hold another model than the one that is to have them.
TEST(HfMalformed, AWholeModelOfOtherTensorsIsAnotherModel) {
  const ScratchDirectory scratch;
  Tiny().write(scratch.at("m"));
  const HfDirectory directory = HfDirectory::open(scratch.at("m"));
  const auto refused = [&](const auto& change) {
    ModelShape needed = read_hf_shape(directory);
    change(needed);
    const std::string message =
        error_of(Exit::bad_config, [&] { check_hf_tensors(directory, make_param_table(needed)); });
    return scratch.relative(message);
  };
  const std::string begins = "DIR/m: holds another model: ";
  const struct {
    std::string keys;
    std::function<void(ModelShape&)> change;
  } cases[] = {
      {"num_nextn_predict_layers 1 (needed: 0)", [](ModelShape& s) { s.num_nextn_predict_layers = 0; }},
      {"num_nextn_predict_layers 1 (needed: 2)", [](ModelShape& s) { s.num_nextn_predict_layers = 2; }},
      {"n_shared_experts 1 (needed: 0)", [](ModelShape& s) { s.n_shared_experts = 0; }},
      {"tie_word_embeddings false (needed: true)", [](ModelShape& s) { s.tie_word_embeddings = true; }},
      {"vocab_size 5 (needed: 6)", [](ModelShape& s) { s.vocab_size = 6; }},
      {"hidden_size 4 (needed: 8)", [](ModelShape& s) { s.hidden_size = 8; }},
      {"num_attention_heads 1 (needed: 2)", [](ModelShape& s) { s.num_attention_heads = 2; }},
      {"q_lora_rank null (needed: 2)", [](ModelShape& s) { s.q_lora_rank = 2; }},
      {"kv_lora_rank 3 (needed: 2)", [](ModelShape& s) { s.kv_lora_rank = 2; }},
      {"qk_nope_head_dim 2 (needed: 4)", [](ModelShape& s) { s.qk_nope_head_dim = 4; }},
      {"qk_rope_head_dim 2 (needed: 4)", [](ModelShape& s) { s.qk_rope_head_dim = 4; }},
      {"v_head_dim 2 (needed: 4)", [](ModelShape& s) { s.v_head_dim = 4; }},
      {"intermediate_size 6 (needed: 7)", [](ModelShape& s) { s.intermediate_size = 7; }},
      {"moe_intermediate_size 2 (needed: 3)", [](ModelShape& s) { s.moe_intermediate_size = 3; }},
      {"n_routed_experts 2 (needed: 4)", [](ModelShape& s) { s.n_routed_experts = 4; }},
      {"first_k_dense_replace 1 (needed: 0)", [](ModelShape& s) { s.first_k_dense_replace = 0; }},
      {"topk_method noaux_tc (needed: without bias)", [](ModelShape& s) { s.topk_method = TopkMethod::greedy; }},
      {"num_hidden_layers 2 (needed: 3), num_nextn_predict_layers 1 (needed: 0)",
       [](ModelShape& s) {
         s.num_hidden_layers = 3;
         s.num_nextn_predict_layers = 0;
       }},
  };
  for (const auto& c : cases) EXPECT_EQ(refused(c.change), begins + c.keys);
  // Keys that change no tensor are the run's own affair.
  ModelShape same = read_hf_shape(directory);
  same.routed_scaling_factor = 7;
  same.num_experts_per_tok = 2;
  same.rope_theta = 5;
  check_hf_tensors(directory, make_param_table(same));

  Tiny without;
  std::erase_if(without.content.tensors, [](const TensorSpec& t) { return t.name.starts_with("model.layers.2."); });
  without.write(scratch.at("w"));
  const HfDirectory dropped = HfDirectory::open(scratch.at("w"));
  EXPECT_EQ(
      scratch.relative(error_of(Exit::bad_config, [&] { check_hf_tensors(dropped, make_param_table(tiny_shape())); })),
      "DIR/w: holds another model: num_nextn_predict_layers 0 (needed: 1); it has no tensor of an MTP module");
}

// What released checkpoints take the liberty of.
TEST(HfMalformed, LibertiesThatAreAllowed) {
  const auto accepts = [](const std::function<void(Tiny&)>& change) {
    const ScratchDirectory scratch;
    with_tensors(change)(scratch);
    const HfDirectory directory = HfDirectory::open(scratch.at("m"));
    check_hf_tensors(directory, make_param_table(read_hf_shape(directory)));
  };
  accepts([](Tiny&) {});
  accepts([](Tiny& t) { t.drop("model.layers.2.embed_tokens.weight"); });
  accepts([](Tiny& t) {
    t.drop("model.layers.2.embed_tokens.weight");
    t.drop("model.layers.2.shared_head.head.weight");
  });
  accepts([](Tiny& t) {
    t.content.tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::f32, {1}});
  });
  accepts([](Tiny& t) { t.tensor(kGate).dtype = DType::bf16; });  // formats may be mixed
  accepts([](Tiny& t) {                                           // a name as Python's json.dumps writes it
    t.content.texts[0].second.insert(1, R"("_name_or_path": "mod\u00e8le \ud83d\ude00", )");
  });
}

}  // namespace
}  // namespace tael
