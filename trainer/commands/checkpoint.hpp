// tael checkpoint: works on checkpoints without training.
#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "base/dtype.hpp"
#include "trainer/verb.hpp"

namespace tael {

// "fp32", "bf16" as --dtype takes them. Error(usage) for another word; fp8 is Error(bad_config), "not built yet".
DType dtype_from_option(const std::string& word);

struct ExportHfOptions {
  std::string model;           // a run, a checkpoint or a Hugging Face directory
  std::string out;             // the directory to make; must not exist
  std::optional<DType> dtype;  // nothing: every tensor keeps the format that it has
  bool dry_run = false;        // checks everything and writes nothing
};

// tael checkpoint export-hf MODEL OUT [--dtype fp32|bf16]: checks MODEL against its own config.json, then copies it
// tensor by tensor in bounded memory. One line on `out` says what was (or would be) written. Returns the exit code.
int run_checkpoint_export_hf(const ExportHfOptions& options, std::FILE* out);

struct ImportHfOptions {
  std::string directory;  // a Hugging Face directory
  std::string out;        // the checkpoint to make; must not exist
  bool dry_run = false;
};
// tael checkpoint import-hf HF_DIR OUT: the way back, with every tensor in the format that it has.
int run_checkpoint_import_hf(const ImportHfOptions& options, std::FILE* out);

struct InspectOptions {
  std::string checkpoint;  // or a run: its newest
  bool tensors = false;    // a line for each
  bool json = false;
};
// tael checkpoint inspect: what a checkpoint's manifest says. Does not read the numbers.
int run_checkpoint_inspect(const InspectOptions& options, std::FILE* out);

// tael checkpoint verify: every byte of a checkpoint, or of each of a run's. Error(bad_data) naming file and tensor.
int run_checkpoint_verify(const std::string& path, std::FILE* out);

// tael checkpoint diff A B: which tensors and what of the training's state differ. Two checkpoints, or the weights
// alone where one of them is a Hugging Face directory; a run stands for its newest checkpoint. Returns 0 where they are
// equal, 1 where not. What two attempts at the same training may differ in is printed and does not count.
int run_checkpoint_diff(const std::string& a, const std::string& b, std::FILE* out);

VerbGroup checkpoint_verbs();

}  // namespace tael
