// From a model's memory to a Hugging Face directory in float32 that transformers, vLLM and this program read.
//
// MTP modules are written as the layers after the last, with their copies of the shared tables, as the released
// checkpoints have them; gate biases too. The same weights and model give the same bytes, whatever run or layout they
// come from. Source of the names: DeepSeek-V3 README_WEIGHTS; of the keys: the released config.json files.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/view.hpp"
#include "checkpoint/hf_directory.hpp"
#include "model/param_table.hpp"

namespace tael {

// config.json of a model whose tensors are stored as `dtype` ("float32", "bfloat16").
std::string hf_config_text(const ModelShape& shape, std::string_view dtype = "float32");
std::string hf_generation_config_text(const ModelShape& shape);

// Every tensor of the directory: the table's, the gate biases, the copies that MTP layers carry.
std::vector<TensorSpec> hf_tensors(const ParamTable& table, DType dtype = DType::f32);

// Writes the directory `path`, complete or not at all. `more` are further files (tokenizer) as {name, content}.
// REQUIRES: params [table.size()], gate_biases [table.bias_size()].
// Error(bad_config): the path exists; Error(io): the disk is too small or refuses.
void export_parameters(const std::string& path, const ParamTable& table, Vec<const float> params,
                       Vec<const float> gate_biases, std::vector<std::pair<std::string, std::string>> more = {});

}  // namespace tael
