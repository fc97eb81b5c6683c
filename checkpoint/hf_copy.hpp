// A model on disk copied as a Hugging Face directory, piece by piece: however large the model, a few megabytes are in
// memory. Without a format each tensor keeps its own and its bytes; with one the weights are converted, but gate biases
// are never narrowed (transformers marks them "keep in float32"). The tokenizer's files and the generation settings
// come along; a training's checkpoint gets the settings, and the copies of the shared tables that MTP layers carry, as
// export_parameters writes them.
#pragma once

#include <optional>
#include <string>

#include "checkpoint/hf_directory.hpp"
#include "model/param_table.hpp"

namespace tael {

// The files that travel with a model, where they are there.
inline constexpr const char* kCompanions[] = {"generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                              "special_tokens_map.json"};

// What copy_model will write. `dtype`: f32, bf16 or nothing.
HfContent plan_model_copy(const ModelFiles& files, const ParamTable& table, std::optional<DType> dtype);

// Writes `path`, complete or not at all. REQUIRES: tensors that were checked (check_hf_tensors).
void copy_model(const ModelFiles& files, const ParamTable& table, const std::string& path, std::optional<DType> dtype);

}  // namespace tael
