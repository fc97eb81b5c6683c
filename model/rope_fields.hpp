// How a configuration says the rotation: rope_scaling, and transformers 5's rope_parameters. Both as kinds of a value
// (base/field_kinds.hpp) over the whole of ModelFields, since what one key means depends on the other.
#pragma once

#include <string>

#include "base/field_kinds.hpp"
#include "model/shape_fields.hpp"

namespace tael {

// {type: yarn, ...} or null. A map without a type changes single values of the scaling that is there already.
struct RopeScalingKind {
  std::string expected() const { return "null or {type: yarn, factor, original_max_position_embeddings, ...}"; }
  void read(const ConfigNode& node, ModelFields& fields) const;
  ConfigNode write(const ModelFields& fields) const;
};

// rope_theta and rope_scaling together. Null says nothing; over an earlier layer's it takes that back.
struct RopeParametersKind {
  std::string expected() const { return RopeScalingKind{}.expected(); }
  void read(const ConfigNode& node, ModelFields& fields) const;
  ConfigNode write(const ModelFields&) const { return {}; }
};

}  // namespace tael
