// A Hugging Face directory copied through our own tensors, piece by piece: however large the model, a few megabytes are
// in memory. Without a format each tensor keeps its own and its bytes; with one the weights are converted, but gate
// biases are never narrowed (transformers marks them "keep in float32"). The tokenizer's files and the generation
// settings come along.
#pragma once

#include <optional>
#include <string>

#include "checkpoint/hf_directory.hpp"

namespace tael {

// What copy_hf_directory will write. `dtype`: f32, bf16 or nothing.
HfContent plan_hf_copy(const HfDirectory& directory, std::optional<DType> dtype);

// Writes `path`, complete or not at all. REQUIRES: a directory whose tensors were checked (check_hf_tensors).
void copy_hf_directory(const HfDirectory& directory, const std::string& path, std::optional<DType> dtype);

}  // namespace tael
