// tael checkpoint: works on checkpoints without training.
#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "base/dtype.hpp"

namespace tael {

// "fp32", "bf16" as --dtype takes them. Error(usage) for another word; fp8 is Error(bad_config), "not built yet".
DType dtype_from_option(const std::string& word);

struct ExportHfOptions {
  std::string model;           // a Hugging Face directory, or a finished run
  std::string out;             // the directory to make; must not exist
  std::optional<DType> dtype;  // nothing: every tensor keeps the format that it has
  bool dry_run = false;        // checks everything and writes nothing
};

// tael checkpoint export-hf MODEL OUT [--dtype fp32|bf16]: checks MODEL against its own config.json, then copies it
// tensor by tensor in bounded memory. One line on `out` says what was (or would be) written. Returns the exit code.
int run_checkpoint_export_hf(const ExportHfOptions& options, std::FILE* out);

}  // namespace tael
