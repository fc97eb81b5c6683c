#include "model/rope_fields.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

namespace tael {

namespace {

template <class T, class K>
void read_part(const ConfigNode& node, std::string_view name, const K& kind, T& value) {
  try {
    kind.read(node, value);
  } catch (BadValue& bad) {
    bad.expected = fmt::format("for {} {}", name, bad.expected);
    throw;
  }
}

[[noreturn]] void refuse_key(const ConfigNode& key) {
  static constexpr std::array<std::string_view, 9> kNames = {
      "type",   "rope_type",      "factor",    "original_max_position_embeddings", "beta_fast", "beta_slow",
      "mscale", "mscale_all_dim", "rope_theta"};
  throw BadValue{key.origin, "only known names in it",
                 fmt::format("{}; the nearest known one is {}", key_in_words(key), nearest_of(key.scalar, kNames))};
}

// The released code takes an absent mscale for 1 and an absent mscale_all_dim for 0; transformers forms a ratio only
// where both are given and not 0. Only where the two agree is the file's meaning known.
void require_one_meaning(const ConfigNode& node, const RopeScaling& scaling, bool has_mscale) {
  if (scaling.mscale == 0 || (!has_mscale && scaling.mscale_all_dim != 0))
    refuse(node, "mscale above 0 beside mscale_all_dim (the released code and transformers differ without it)");
  if (scaling.mscale_all_dim == 0 && scaling.mscale != 1)
    refuse(node, "mscale_all_dim above 0 beside mscale (the released code and transformers differ without it)");
}

void read_map(const ConfigNode& node, ModelFields& fields) {
  if (!node.is_map()) refuse(node, RopeScalingKind{}.expected());
  const ConfigNode* type = node.find("type");
  const ConfigNode* rope_type = node.find("rope_type");
  RopeScaling scaling;
  const bool partial = type == nullptr && rope_type == nullptr;
  if (type != nullptr && rope_type != nullptr && type->scalar != rope_type->scalar)
    refuse(*rope_type, "what type beside it says (one code reads the one, one the other)");
  bool none = false;
  if (partial && node.keys.size() == 1 && node.keys[0].scalar == "rope_theta" && !fields.shape.rope_scaling) {
    none = true;  // rope_parameters of a model without scaling
  } else if (partial) {
    if (!fields.shape.rope_scaling) refuse(node, "a type (yarn) in it");
    scaling = *fields.shape.rope_scaling;
  }
  for (const ConfigNode* word : {type, rope_type}) {
    if (word == nullptr) continue;
    const bool is_default = word->is_scalar() && word->scalar == "default";
    if (!is_default && !(word->is_scalar() && word->scalar == "yarn")) refuse(*word, "type yarn");
    none = none || is_default;
  }
  std::optional<double> theta;
  const double no_limit = Real{}.max;
  struct Part {
    std::string_view name;
    double* target;
    Real kind;
  };
  const std::array<Part, 5> parts = {{{"factor", &scaling.factor, Real{1}},
                                      {"beta_fast", &scaling.beta_fast, Real{0, no_limit, true}},
                                      {"beta_slow", &scaling.beta_slow, Real{0, no_limit, true}},
                                      {"mscale", &scaling.mscale, Real{0}},
                                      {"mscale_all_dim", &scaling.mscale_all_dim, Real{0}}}};
  for (size_t i = 0; i < node.keys.size(); ++i) {
    const std::string& key = node.keys[i].scalar;
    if (key == "type" || key == "rope_type") continue;
    const auto part = std::find_if(parts.begin(), parts.end(), [&](const Part& p) { return p.name == key; });
    if (part != parts.end()) {
      read_part(node.items[i], part->name, part->kind, *part->target);
    } else if (key == "original_max_position_embeddings") {
      read_part(node.items[i], key, Integer{1, kLargestDimension}, scaling.original_max_position_embeddings);
    } else if (key == "rope_theta") {
      read_part(node.items[i], key, Real{0, no_limit, true}, theta.emplace());
    } else {
      refuse_key(node.keys[i]);
    }
  }
  if (!partial) {
    for (const std::string_view needed : {"factor", "original_max_position_embeddings"}) {
      if (!none && node.find(needed) == nullptr) refuse(node, fmt::format("{} in it", needed));
    }
  }
  if (scaling.beta_fast < scaling.beta_slow) refuse(node, "beta_fast of at least beta_slow");
  if (!none) require_one_meaning(node, scaling, partial || node.find("mscale") != nullptr);
  if (theta) {
    fields.rope.theta_origin = node.origin;
    fields.rope.theta = *theta;
    fields.rope.theta_beside = fields.shape.rope_theta;
    fields.shape.rope_theta = *theta;
  }
  if (none) {
    fields.shape.rope_scaling.reset();
  } else {
    fields.shape.rope_scaling = scaling;
  }
}

}  // namespace

void RopeScalingKind::read(const ConfigNode& node, ModelFields& fields) const {
  fields.rope.scaling_layer = node.origin.source;
  fields.rope.scaling_null = node.is_null();
  fields.rope.by_parameters = false;
  if (node.is_null()) {
    fields.shape.rope_scaling.reset();
  } else {
    read_map(node, fields);
  }
}

ConfigNode RopeScalingKind::write(const ModelFields& fields) const {
  if (!fields.shape.rope_scaling) return {};
  const RopeScaling& s = *fields.shape.rope_scaling;
  ConfigNode map = ConfigNode::map();
  map.set("type", ConfigNode::text("yarn"));
  map.set("factor", Real{}.write(s.factor));
  map.set("original_max_position_embeddings", Integer{}.write(s.original_max_position_embeddings));
  map.set("beta_fast", Real{}.write(s.beta_fast));
  map.set("beta_slow", Real{}.write(s.beta_slow));
  map.set("mscale", Real{}.write(s.mscale));
  map.set("mscale_all_dim", Real{}.write(s.mscale_all_dim));
  return map;
}

void RopeParametersKind::read(const ConfigNode& node, ModelFields& fields) const {
  if (node.is_null()) {
    if (fields.rope.by_parameters) fields.shape.rope_scaling.reset();
    fields.rope.by_parameters = false;
    return;
  }
  // Each may also hold a rope_theta, and codes differ in which of the two they read.
  if (fields.rope.scaling_layer == node.origin.source && !fields.rope.scaling_null)
    refuse(node, "nothing beside a rope_scaling; give one of the two");
  read_map(node, fields);
  fields.rope.by_parameters = true;
}

}  // namespace tael
