// A model on disk as its readers see it, whatever keeps it: a config.json in Hugging Face's form, tensors under Hugging
// Face's names, and other texts. Implemented by HfDirectory and by the checkpoints of model_source.hpp.
//
// Numbers are read on demand and many threads may read at once. What is wrong with the files is Error(bad_data).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.hpp"

namespace tael {

class ModelFiles {
 public:
  virtual ~ModelFiles() = default;

  virtual const std::string& path() const = 0;
  virtual std::string config_path() const = 0;  // how errors name it
  virtual const std::string& config_text() const = 0;
  // Another text beside the tensors, such as "generation_config.json"; nothing: it is not there.
  virtual std::optional<std::string> text(const std::string& name) const = 0;
  // Whether a training keeps its weights here: exactly the tensors of the parameter table and the gate biases.
  virtual bool of_training() const { return false; }

  virtual std::vector<const TensorSpec*> weights() const = 0;         // in natural order of their names
  virtual const TensorSpec* weight(std::string_view name) const = 0;  // nullptr: not there
  virtual std::string file_of(const TensorSpec& weight) const = 0;    // how errors name it
  // Bytes [begin, begin + bytes), whole elements. REQUIRES: inside the tensor.
  virtual void read(const TensorSpec& weight, uint64_t begin, void* out, size_t bytes) const = 0;
  // Says that these bytes will not be read again soon.
  virtual void forget(const TensorSpec&, uint64_t, uint64_t) const {}

 protected:
  ModelFiles() = default;
  ModelFiles(ModelFiles&&) = default;
  ModelFiles& operator=(ModelFiles&&) = default;
};

// Numbers [first, first + count) of a tensor as float32, exactly: from F32, BF16 or F16. FP8 is Error(bad_config), "not
// built yet"; integers are Error(bad_data). Allocates nothing of its own.
void read_floats(const ModelFiles& files, const TensorSpec& weight, int64_t first, int64_t count, float* out);

// Runs of digits compare as numbers: layers.2 comes before layers.10.
bool natural_less(std::string_view a, std::string_view b);

}  // namespace tael
