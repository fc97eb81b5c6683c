// The model's dimensions as a configuration or a Hugging Face config.json gives them: every key described once, what
// their combination must satisfy, and reading of a config.json. Keys that say how other programs store or run a model
// are accepted and listed; a key whose other value would change the mathematics is refused with it.
//
// Errors: Error(bad_config), beginning with the place of the key that is wrong.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/fields.hpp"
#include "model/shape.hpp"

namespace tael {

// Token numbers are int32, and every product of two dimensions fits 64 bits; longer products are checked where made.
inline constexpr int64_t kLargestDimension = (int64_t{1} << 31) - 1;

// Keys that are carried to config.json and into a run's beginning: no number of a forward or backward pass depends on
// them.
inline constexpr std::array<std::string_view, 4> kCarriedModelKeys = {"initializer_range", "max_position_embeddings",
                                                                      "bos_token_id", "eos_token_id"};

// How the rotation was said last. Two keys say it, rope_scaling and transformers 5's rope_parameters; of two layers of
// a configuration the later wins, inside one layer only one may speak.
struct RopeSaid {
  std::shared_ptr<const std::string> scaling_layer;  // source of the last rope_scaling; nullptr: none
  bool scaling_null = false;                         // it was null, which says nothing beside rope_parameters
  bool by_parameters = false;                        // rope_parameters came last
  std::optional<double> theta;                       // the last rope_theta inside one of the two
  Origin theta_origin;
  double theta_beside = 0;  // the key rope_theta at that moment
};

struct ModelFields {
  ModelShape shape;
  std::string preset;                          // a file of configs/models, already read by whoever loads the tree
  std::optional<int64_t> num_key_value_heads;  // as given: MLA has as many as attention heads
  RopeSaid rope;
  bool mtp_left_out = false;  // the class's 1, of a model that has no MoE layer
  bool fp8_weights = false;   // quantization_config: the released weights are stored in FP8
};

void describe(ModelFields& fields, FieldVisitor& visitor);

// transformers writes its class's 1 MTP module, and 3 dense layers, whatever the model, and means none where there are
// no MoE layers behind those. Where weights are there, they tell; for a model without any this takes the 1 as 0, and
// notes it.
void leave_out_mtp_of_the_class(ModelFields& fields);

// What the configuration class of the model type says for keys that were not given, then every rule on the shape alone.
// `path` is that of the map in the configuration ("model", or empty for a config.json); `source` stands before messages
// about keys that are nowhere.
void complete_and_check(ModelFields& fields, const Reading& reading, const std::string& path,
                        const std::string& source);

// All that transformers 4 knows of a model has sampling's top_k beside top_p; alone, top_k is another program's name of
// num_experts_per_tok. Takes the former out of a map of a model and lists it as without effect.
void leave_out_sampling(ConfigNode& model, const std::string& path, Reading& reading);

// A config.json as it stands; `source` is its name in errors. Keys without effect are appended to reading.ignored.
// Without `with_mtp` its MTP modules do not count.
ModelFields read_model_json(std::string_view text, const std::string& source, Reading& reading, bool with_mtp = true);

}  // namespace tael
