// A checkpoint of weights alone, made of a Hugging Face directory: one box a tensor in the format it came in, and the
// texts beside it, so that exporting it gives back the same bytes in every tensor. Piece by piece: a megabyte is in
// memory, however large the model.
#pragma once

#include <string>

#include "checkpoint/box.hpp"
#include "checkpoint/hf_directory.hpp"

namespace tael {

// The boxes of the checkpoint. Error(bad_data): a tensor that it cannot hold.
std::vector<Box> plan_weights_checkpoint(const HfDirectory& directory);

// Refuses what could not be written: a path that exists is Error(bad_config), too little space on the disk Error(io).
// Returns the bytes of the boxes.
uint64_t check_checkpoint_target(const std::string& path, const std::vector<Box>& boxes);

// check_checkpoint_target, then writes `path`, complete or not at all. Parents of it are created. `software`: who
// writes it. REQUIRES: tensors that were checked (check_hf_tensors).
void write_weights_checkpoint(const HfDirectory& directory, const std::string& path, const std::string& software);

}  // namespace tael
