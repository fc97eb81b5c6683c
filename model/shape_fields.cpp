#include "model/shape_fields.hpp"

#include <algorithm>
#include <array>

#include "base/key_path.hpp"
#include "base/thread_pool.hpp"
#include "kernels/attention.hpp"
#include "kernels/latent_attention.hpp"
#include "kernels/route_topk.hpp"
#include "model/keys_without_effect.hpp"
#include "model/param_table.hpp"
#include "model/rope_fields.hpp"

namespace tael {

namespace {

// kimi_k2 is DeepSeek-V3's architecture under another name.
constexpr std::array<Word<ModelType>, 3> kModelTypes = {{{"deepseek_v3", ModelType::deepseek_v3},
                                                         {"deepseek_v2", ModelType::deepseek_v2},
                                                         {"kimi_k2", ModelType::deepseek_v3}}};
constexpr std::array<Word<ScoringFunc>, 2> kScoringFuncs = {
    {{"sigmoid", ScoringFunc::sigmoid}, {"softmax", ScoringFunc::softmax}}};
constexpr std::array<Word<TopkMethod>, 3> kTopkMethods = {{{"noaux_tc", TopkMethod::noaux_tc},
                                                           {"group_limited_greedy", TopkMethod::group_limited_greedy},
                                                           {"greedy", TopkMethod::greedy}}};

// A whole number that config.json also writes as null.
struct NullIs {
  Integer kind;
  int64_t null_value;
  std::string expected() const { return kind.expected(); }
  void read(const ConfigNode& node, int64_t& value) const {
    if (node.is_null()) {
      value = null_value;
    } else {
      kind.read(node, value);
    }
  }
  ConfigNode write(int64_t value) const { return kind.write(value); }
};

// How released weights are stored. It does not change the model that is trained from scratch.
struct QuantizationKind {
  std::string expected() const { return "null or a map with quant_method fp8"; }
  void read(const ConfigNode& node, bool& fp8) const {
    fp8 = false;
    if (node.is_null()) return;
    const ConfigNode* method = node.find("quant_method");
    if (method == nullptr || !method->is_scalar() || method->scalar != "fp8") refuse(node, expected());
    fp8 = true;
  }
  ConfigNode write(bool) const { return {}; }
};

}  // namespace

void describe(ModelFields& fields, FieldVisitor& v) {
  ModelShape& s = fields.shape;
  const Integer size{1, kLargestDimension}, size_or_none{0, kLargestDimension};
  const double no_limit = Real{}.max;
  v.field("preset", fields.preset, Text{"the name of a file in configs/models"},
          "Start from this model; the keys beside it are deviations, listed at start.", FieldUse::input_only);
  v.field("model_type", s.model_type, Choice(kModelTypes), "Whose modelling code the model equals.");
  v.field("vocab_size", s.vocab_size, size, "Rows of the embedding; at least 259 for the tokenizer bytes.");
  v.field("hidden_size", s.hidden_size, size, "Width of the residual stream.");
  v.field("intermediate_size", s.intermediate_size, size_or_none, "Width of a dense FFN.");
  v.field("moe_intermediate_size", s.moe_intermediate_size, NullIs{size_or_none, 0}, "Width of one expert.");
  v.field("num_hidden_layers", s.num_hidden_layers, Integer{1, 100'000}, "Layers, MTP not counted.");
  v.field("num_nextn_predict_layers", s.num_nextn_predict_layers, NullIs{Integer{0, 2}, 0},
          "MTP depth: modules that predict one token further each.");
  v.field("num_attention_heads", s.num_attention_heads, size, "Attention heads.");
  v.field("num_key_value_heads", fields.num_key_value_heads, or_null(size),
          "The same number: every head of MLA has its own keys and values.", FieldUse::input_only);
  v.field("q_lora_rank", s.q_lora_rank, or_null(size), "Width of the query latent; null: a plain q_proj.");
  v.field("kv_lora_rank", s.kv_lora_rank, size, "Width of the key-value latent.");
  v.field("qk_nope_head_dim", s.qk_nope_head_dim, size, "Part of a head's query and key without rotation.");
  v.field("qk_rope_head_dim", s.qk_rope_head_dim, size, "Rotated part, one key for all heads; even.");
  v.field("v_head_dim", s.v_head_dim, size, "Width of a head's value.");
  v.field("n_routed_experts", s.n_routed_experts, NullIs{size_or_none, 0}, "Routed experts of a layer; 0: all dense.");
  v.field("n_shared_experts", s.n_shared_experts, NullIs{size_or_none, 0},
          "Shared experts, one FFN of their total width.");
  v.field("num_experts_per_tok", s.num_experts_per_tok, NullIs{size_or_none, 0}, "Routed experts at work for a token.");
  v.field("n_group", s.n_group, NullIs{size, 1}, "Groups of consecutive experts.");
  v.field("topk_group", s.topk_group, NullIs{size, 1}, "Groups a token may use (the paper's node limit M).");
  v.field("norm_topk_prob", s.norm_topk_prob, Boolean{}, "Divide a token's weights by their sum.");
  v.field("routed_scaling_factor", s.routed_scaling_factor, Real{}, "Factor on the routed experts' weights.");
  v.field("scoring_func", s.scoring_func, Choice(kScoringFuncs), "From the gate's logits to scores.");
  v.field(
      "topk_method", s.topk_method, Choice(kTopkMethods),
      "noaux_tc: bias for the choice, groups by their two best; group_limited_greedy: groups by their best; greedy: "
      "no groups.");
  v.field("first_k_dense_replace", s.first_k_dense_replace, Integer{0, 100'000}, "First layers that are dense.");
  v.field("moe_layer_freq", s.moe_layer_freq, Integer{1, 100'000}, "Every how manieth layer after them is MoE.");
  v.field("rms_norm_eps", s.rms_norm_eps, Real{0, no_limit, true},
          "Epsilon of the norms; the two latent norms keep 1e-6.");
  v.field("rope_theta", s.rope_theta, Real{0, no_limit, true}, "Base of the rotary frequencies.");
  v.field("rope_scaling", fields, RopeScalingKind{},
          "YaRN, or null; belongs to the model, whatever length a run uses.");
  v.field("rope_parameters", fields, RopeParametersKind{},
          "transformers 5's name for rope_theta and rope_scaling together.", FieldUse::input_only);
  v.field("max_position_embeddings", s.max_position_embeddings, size, "Longest sequence.");
  v.field("initializer_range", s.initializer_range, Real{0}, "Standard deviation of the initial weights.");
  v.field("tie_word_embeddings", s.tie_word_embeddings, Boolean{}, "One table for embedding and head.");
  v.field("bos_token_id", s.bos_token_id, NullIs{size_or_none, 0}, "Carried to config.json of the trained model.");
  v.field("eos_token_id", s.eos_token_id, NullIs{size_or_none, 1}, "Carried to config.json of the trained model.");
  v.field("quantization_config", fields.fp8_weights, QuantizationKind{},
          "How released weights are stored; no effect on a model trained from scratch.", FieldUse::input_only);
  v.constant("hidden_act", "silu", "the only activation that is built");
  v.constant("attention_bias", "false", "the only form that is built");
  v.constant("mlp_bias", "false", "the only form that is built");
  v.constant("attention_dropout", "0", "dropout is not built");
  v.constant("rope_interleave", "true", "rotation of adjacent pairs, as the released weights have it");
  for (const std::string_view key : kKeysWithoutEffect) v.ignored(key);
}

namespace {

class ShapeCheck {
 public:
  ShapeCheck(const ModelFields& fields, const Reading& reading, const std::string& path, const std::string& source)
      : fields_(fields), s_(fields.shape), reading_(reading), path_(path), source_(source) {}

  void run() const {
    dimensions_are_given();
    attention();
    experts();
    mtp();
    workspaces();
    sizes();
  }

 private:
  std::string key(std::string_view name) const { return join_keys(path_, name); }
  template <class... Args>
  [[noreturn]] void refuse_clash(std::string_view name, std::initializer_list<std::string_view> others,
                                 fmt::format_string<Args...> format, Args&&... args) const {
    std::vector<std::string> keys{key(name)};
    for (const std::string_view other : others) keys.push_back(key(other));
    reading_.refuse_clash(keys, source_, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  [[noreturn]] void refuse(std::string_view name, fmt::format_string<Args...> format, Args&&... args) const {
    refuse_clash(name, {}, format, std::forward<Args>(args)...);
  }

  void dimensions_are_given() const {
    for (const std::string_view name :
         {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "q_lora_rank", "kv_lora_rank",
          "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"}) {
      if (reading_.given(key(name))) continue;
      refuse(name, "must be given{}", name == "q_lora_rank" ? " (null: a plain query projection)" : "");
    }
    int64_t dense = 0;
    for (int64_t i = 0; i < s_.num_hidden_layers; ++i) dense += !s_.is_moe_layer(i);
    if (dense > 0 && s_.intermediate_size == 0) {
      refuse_clash("intermediate_size", {"num_hidden_layers"}, "must be given: {} of {} layers are dense", dense,
                   s_.num_hidden_layers);
    }
    if (s_.n_routed_experts == 0) return;
    for (const auto& [name, value] : {std::pair{"moe_intermediate_size", s_.moe_intermediate_size},
                                      std::pair{"num_experts_per_tok", s_.num_experts_per_tok}}) {
      if (value == 0)
        refuse_clash(name, {"n_routed_experts"}, "must be given: n_routed_experts is {}", s_.n_routed_experts);
    }
  }

  void attention() const {
    if (s_.qk_rope_head_dim % 2 != 0) {
      refuse("qk_rope_head_dim", "{} is odd; rotation takes pairs, so the nearest that fits is {}", s_.qk_rope_head_dim,
             s_.qk_rope_head_dim + 1);
    }
    if (fields_.num_key_value_heads && *fields_.num_key_value_heads != s_.num_attention_heads) {
      refuse_clash("num_key_value_heads", {"num_attention_heads"},
                   "{} differs from num_attention_heads {}; MLA has one key per head, so give {}",
                   *fields_.num_key_value_heads, s_.num_attention_heads, s_.num_attention_heads);
    }
    const RopeSaid& rope = fields_.rope;
    const Origin theta = reading_.origin(key("rope_theta")), inside = rope.theta_origin;
    // Where the map alone said it, the loader has noted the map's place.
    const bool beside =
        theta.source && theta.source == inside.source && (theta.line != inside.line || theta.column != inside.column);
    if (rope.theta && beside && rope.theta_beside != *rope.theta) {
      refuse("rope_theta", "{} differs from the {} beside the scaling", shortest(rope.theta_beside),
             shortest(*rope.theta));
    }
  }

  void experts() const {
    const int64_t experts = s_.n_routed_experts, groups = s_.n_group;
    if (experts == 0) return;
    if (s_.num_experts_per_tok > experts) {
      refuse_clash("num_experts_per_tok", {"n_routed_experts"},
                   "{} of {} experts (n_routed_experts); at most all of them", s_.num_experts_per_tok, experts);
    }
    if (s_.topk_method == TopkMethod::noaux_tc && s_.scoring_func != ScoringFunc::sigmoid) {
      refuse_clash("scoring_func", {"topk_method", "model_type"},
                   "softmax with topk_method noaux_tc; the bias of noaux_tc needs sigmoid");
    }
    if (s_.topk_method != TopkMethod::noaux_tc && s_.scoring_func != ScoringFunc::softmax) {
      refuse_clash("scoring_func", {"topk_method", "model_type"},
                   "sigmoid with topk_method {}; without a bias the gate is softmax",
                   Choice(kTopkMethods).name(s_.topk_method));
    }
    if (s_.model_type == ModelType::deepseek_v2 && s_.norm_topk_prob) {
      refuse_clash("norm_topk_prob", {"model_type"},
                   "true with model_type deepseek_v2: its released code then leaves routed_scaling_factor "
                   "out, transformers does not normalise at all; give false");
    }
    if (s_.first_k_dense_replace > s_.num_hidden_layers) {
      refuse_clash("first_k_dense_replace", {"num_hidden_layers"}, "{} dense layers of num_hidden_layers {}",
                   s_.first_k_dense_replace, s_.num_hidden_layers);
    }
    if (s_.topk_method == TopkMethod::greedy) return;  // no groups
    if (experts % groups != 0) {
      refuse_clash("n_group", {"n_routed_experts"},
                   "{} groups do not divide n_routed_experts {}; the nearest that fits is {}", groups, experts,
                   nearest_divisor(experts, groups));
    }
    if (s_.topk_group > groups) {
      refuse_clash("topk_group", {"n_group"}, "{} groups of n_group {}; at most all of them", s_.topk_group, groups);
    }
    if (s_.topk_method == TopkMethod::noaux_tc && groups > 1 && experts / groups < 2) {
      refuse_clash("n_group", {"n_routed_experts"}, "{} groups of one expert; noaux_tc scores a group by its two best",
                   groups);
    }
    const int64_t reachable = s_.topk_group * (experts / groups);
    if (s_.num_experts_per_tok > reachable) {
      refuse_clash("num_experts_per_tok", {"topk_group", "n_group", "n_routed_experts"},
                   "{} experts do not fit in topk_group {} groups of {} experts; at most {}", s_.num_experts_per_tok,
                   s_.topk_group, experts / groups, reachable);
    }
  }

  // The table has a row per tensor: what could not be listed is refused before it is made.
  void sizes() const {
    constexpr int64_t kMostTensors = 4'000'000;
    const int64_t per_layer = 20 + 3 * s_.n_routed_experts;  // each factor below 2^31
    if (s_.total_layers() > kMostTensors / per_layer) {
      refuse_clash("num_hidden_layers", {"n_routed_experts", "num_nextn_predict_layers"},
                   "{} layers of {} tensors; a model has at most {} tensors", s_.total_layers(), per_layer,
                   kMostTensors);
    }
    count_parameters(s_);  // fails when the sizes overflow
  }

  int64_t most_experts(int64_t bytes) const {
    int64_t fits = 0, not_fits = s_.n_routed_experts;
    while (not_fits - fits > 1) {
      const int64_t middle = fits + (not_fits - fits) / 2;
      (route_workspace_bytes(middle, s_.num_experts_per_tok) <= bytes ? fits : not_fits) = middle;
    }
    return fits;
  }

  // A kernel works in a thread's workspace, and what does not fit it cannot be computed.
  void workspaces() const {
    constexpr int64_t kBytes = static_cast<int64_t>(ThreadPool::kWorkspaceBytes);
    const int64_t heads = attention_workspace_bytes({.heads = s_.num_attention_heads,
                                                     .nope = s_.qk_nope_head_dim,
                                                     .rope = s_.qk_rope_head_dim,
                                                     .value = s_.v_head_dim});
    if (heads > kBytes) {
      const std::string_view widest = s_.v_head_dim > std::max(s_.qk_nope_head_dim, s_.qk_rope_head_dim) ? "v_head_dim"
                                      : s_.qk_rope_head_dim > s_.qk_nope_head_dim ? "qk_rope_head_dim"
                                                                                  : "qk_nope_head_dim";
      refuse(widest, "heads of {} + {} numbers and values of {} are too wide: attention takes some 2000 together",
             s_.qk_nope_head_dim, s_.qk_rope_head_dim, s_.v_head_dim);
    }
    const LatentAttentionShape latent{
        .heads = s_.num_attention_heads, .latent = s_.kv_lora_rank, .rope = s_.qk_rope_head_dim};
    if (latent_attention_workspace_bytes(latent) > kBytes)
      refuse("kv_lora_rank", "{} is too wide: attention takes some 20,000", s_.kv_lora_rank);
    if (s_.n_routed_experts > 0 && route_workspace_bytes(s_.n_routed_experts, s_.num_experts_per_tok) > kBytes) {
      refuse("n_routed_experts", "{} experts with {} for a token are more than the gate takes; at most {}",
             s_.n_routed_experts, s_.num_experts_per_tok, most_experts(kBytes));
    }
  }

  void mtp() const {
    if (s_.num_nextn_predict_layers == 0 || s_.n_routed_experts == 0) return;
    if (!s_.is_moe_layer(s_.num_hidden_layers - 1)) {
      refuse_clash("num_nextn_predict_layers", {"first_k_dense_replace", "moe_layer_freq", "num_hidden_layers"},
                   "{} MTP modules are MoE layers like the last layer, but that one is dense",
                   s_.num_nextn_predict_layers);
    }
  }

  static int64_t nearest_divisor(int64_t number, int64_t wanted) {
    for (int64_t distance = 1; distance < wanted; ++distance) {
      if (number % (wanted - distance) == 0) return wanted - distance;
      if (wanted + distance <= number && number % (wanted + distance) == 0) return wanted + distance;
    }
    return 1;
  }

  const ModelFields& fields_;
  const ModelShape& s_;
  const Reading& reading_;
  const std::string& path_;
  const std::string& source_;
};

// transformers writes its class's 3 dense layers whatever the model, and means all of them.
constexpr int64_t kDenseOfTheClass = 3;
bool has_dense_layers_of_the_class(const ModelShape& s) {
  return s.first_k_dense_replace == kDenseOfTheClass && s.num_hidden_layers <= kDenseOfTheClass;
}

}  // namespace

void leave_out_mtp_of_the_class(ModelFields& fields) {
  ModelShape& s = fields.shape;
  constexpr int64_t kMtpOfTheClass = 1;
  if (s.model_type != ModelType::deepseek_v3 || !has_dense_layers_of_the_class(s) ||
      s.num_nextn_predict_layers != kMtpOfTheClass)
    return;
  s.num_nextn_predict_layers = 0;
  fields.mtp_left_out = true;
}

void complete_and_check(ModelFields& fields, const Reading& reading, const std::string& path,
                        const std::string& source) {
  const auto given = [&](std::string_view name) { return reading.given(join_keys(path, name)); };
  ModelShape& s = fields.shape;
  if (has_dense_layers_of_the_class(s)) s.first_k_dense_replace = s.num_hidden_layers;
  // The defaults of the two released configuration classes.
  if (s.model_type == ModelType::deepseek_v2) {
    if (!given("scoring_func")) s.scoring_func = ScoringFunc::softmax;
    if (!given("topk_method")) s.topk_method = TopkMethod::greedy;
    if (!given("norm_topk_prob")) s.norm_topk_prob = false;
  }
  if (s.model_type == ModelType::deepseek_v3 && s.n_routed_experts > 0) {
    if (!given("n_shared_experts")) s.n_shared_experts = 1;
    if (!given("n_group")) s.n_group = 8;
    if (!given("topk_group")) s.topk_group = 4;
    if (!given("routed_scaling_factor")) s.routed_scaling_factor = 2.5;
    if (!given("first_k_dense_replace")) s.first_k_dense_replace = std::min(kDenseOfTheClass, s.num_hidden_layers);
  }
  ShapeCheck(fields, reading, path, source).run();
}

void leave_out_sampling(ConfigNode& model, const std::string& path, Reading& reading) {
  if (!model.is_map() || model.find("top_p") == nullptr) return;
  if (model.take("top_k")) reading.ignored.push_back(join_keys(path, "top_k"));
}

namespace {

// transformers 5 also says num_mtp_layers; in a configuration of a run that is an alias like others.
void one_name_of_mtp_depth(ConfigNode& root) {
  if (!root.is_map()) return;
  const auto place = [&](std::string_view name) {
    return std::ranges::find_if(root.keys, [&](const ConfigNode& key) { return key.scalar == name; });
  };
  const auto other = place("num_mtp_layers"), own = place("num_nextn_predict_layers");
  if (other == root.keys.end()) return;
  if (own == root.keys.end()) {
    other->scalar = "num_nextn_predict_layers";
    return;
  }
  const ConfigNode &one = *root.find("num_mtp_layers"), &two = *root.find("num_nextn_predict_layers");
  if (to_flow(one) != to_flow(two))
    fail_at(one.origin, "num_mtp_layers: {} differs from num_nextn_predict_layers {}", in_words(one), in_words(two));
  root.take("num_mtp_layers");
}

}  // namespace

ModelFields read_model_json(std::string_view text, const std::string& source, Reading& reading, bool with_mtp) {
  ModelFields fields;
  ConfigNode root = parse_yaml(text, source);
  one_name_of_mtp_depth(root);
  leave_out_sampling(root, "", reading);
  read_fields(fields, root, schema_of(ModelFields{}), reading);
  if (!fields.preset.empty()) fail_at(reading.origin("preset"), "preset: belongs in a configuration of a run");
  if (!with_mtp) fields.shape.num_nextn_predict_layers = 0;
  // transformers writes the class's default, 3, whatever number of layers the model has.
  fields.shape.first_k_dense_replace = std::min(fields.shape.first_k_dense_replace, fields.shape.num_hidden_layers);
  complete_and_check(fields, reading, "", source);
  return fields;
}

}  // namespace tael
