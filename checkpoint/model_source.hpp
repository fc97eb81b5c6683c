// MODEL on a command line: a run, a checkpoint or a Hugging Face directory, opened in one way for all commands.
//
// A run stands for its final weights (RUN/model) when it has ended with them, else for the newest checkpoint under
// RUN/checkpoints whose weights are undamaged (each byte is checked, damaged ones are passed over with a warning), else
// for RUN/model. What is none of the three is Error(bad_data), and so is a run that has no weights yet.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/model_files.hpp"
#include "model/shape.hpp"

namespace tael {

// The weights and texts of a checkpoint. Numbers are checked as they are read.
class CheckpointFiles final : public ModelFiles {
 public:
  // Error(bad_data): a checkpoint that says nothing of its model.
  explicit CheckpointFiles(Checkpoint checkpoint);

  const Checkpoint& checkpoint() const { return checkpoint_; }

  const std::string& path() const override { return checkpoint_.path(); }
  std::string config_path() const override { return checkpoint_.path() + ": config.json"; }
  const std::string& config_text() const override { return config_text_; }
  std::optional<std::string> text(const std::string& name) const override;
  bool of_training() const override { return checkpoint_.state().training; }
  std::vector<const TensorSpec*> weights() const override;
  const TensorSpec* weight(std::string_view name) const override;
  std::string file_of(const TensorSpec&) const override { return checkpoint_.path(); }
  void read(const TensorSpec& weight, uint64_t begin, void* out, size_t bytes) const override;

 private:
  Checkpoint checkpoint_;
  std::string config_text_;
  std::vector<TensorSpec> weights_;  // in natural order
};

struct ModelSource {
  std::unique_ptr<ModelFiles> files;
  std::string run;                    // the run directory that was given; empty: it was no run
  std::optional<int64_t> step;        // of the training, where that is known
  std::string tokenizer;              // "bytes"; empty: nothing says it
  std::vector<std::string> warnings;  // checkpoints that were passed over, a line each
};
ModelSource open_model(const std::string& model);

// The checkpoint that `path` is, or the newest of the run that it is, damaged or not. Error(bad_data): neither.
std::string find_checkpoint(const std::string& path);
// The same, opened, also where the run goes on and removes old ones meanwhile.
Checkpoint open_checkpoint(const std::string& path);

}  // namespace tael
