// From a model on disk into a model's memory: the tensors of the parameter table, as float32.
//
// The files must hold exactly the model. Two liberties, because released checkpoints take them: the copies of the
// shared tables that an MTP layer carries, and lm_head.weight of a tied model, may be there or not, but if they are
// they must equal the shared table bit for bit; rotary_emb.inv_freq buffers of older exports are passed over.
// Everything else is Error(bad_data) naming the tensor, what was expected and what was found. Where config.json itself
// describes a model of other tensors than the table's, it is Error(bad_config) naming the keys that differ.
#pragma once

#include <string>
#include <vector>

#include "base/view.hpp"
#include "checkpoint/hf_directory.hpp"
#include "model/param_table.hpp"

namespace tael {

// The model that config.json describes. What is not JSON is Error(bad_data); a key that does not fit, or asks for what
// is not built (FP8), is Error(bad_config). Keys without effect here are passed over.
// Without its MTP modules if the files hold no tensor of them.
ModelShape read_hf_shape(const ModelFiles& files);

// Tensors that a directory may hold beside those of the table: the same numbers under another name.
struct HfCopy {
  std::string name;      // "model.layers.61.embed_tokens.weight"
  std::string original;  // "model.embed_tokens.weight"
};
std::vector<HfCopy> hf_copies(const ParamTable& table);

// Names, shapes and formats; reads numbers only to compare copies with their originals. FP8 is Error(bad_config).
void check_hf_tensors(const ModelFiles& files, const ParamTable& table);

// check_hf_tensors, then fills params [table.size()] and gate_biases [table.bias_size()].
void import_parameters(const ModelFiles& files, const ParamTable& table, Vec<float> params, Vec<float> gate_biases);

}  // namespace tael
