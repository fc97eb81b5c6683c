// The golden models of tests/golden: a Hugging Face directory with inputs and what another implementation computed.
#pragma once

#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/json.hpp"
#include "checkpoint/hf_directory.hpp"
#include "checkpoint/hf_import.hpp"
#include "model/shape_fields.hpp"
#include "tests/harness/network_run.hpp"

namespace tael::testing {

class Golden {
 public:
  explicit Golden(const std::string& name)
      : path(std::string(TAEL_SOURCE_DIR) + "/tests/golden/" + name),
        directory(HfDirectory::open(path)),
        facts_document(JsonDocument::parse(read_file(path + "/golden.json", 1 << 20), path + "/golden.json")),
        facts(facts_document.root()),
        inputs(SafetensorsFile::open(path + "/inputs.safetensors")),
        expected(SafetensorsFile::open(path + "/expected.safetensors")) {
    Reading reading;
    shape = read_model_json(directory.config_text(), directory.config_path(), reading).shape;
  }

  std::vector<float> floats(const std::string& name) const { return read<float>(expected, name); }
  std::vector<int64_t> integers(const std::string& name) const { return read<int64_t>(expected, name); }
  std::vector<int32_t> tokens(const std::string& name = "tokens") const {
    const std::vector<int64_t> wide = read<int64_t>(inputs, name);
    return {wide.begin(), wide.end()};
  }
  double setting(const std::string& key, double otherwise) const {
    const Json* value = facts.at("settings").find(key);
    return value == nullptr ? otherwise : value->as_double();
  }
  MtpHidden mtp_hidden() const {
    const Json* value = facts.at("settings").find("mtp_hidden");
    return value != nullptr && value->as_string() == "before_final_norm" ? MtpHidden::before_final_norm
                                                                         : MtpHidden::after_final_norm;
  }
  void load(NetworkRun& run) const {
    import_parameters(directory, run.network.table(), vec(run.params.data(), static_cast<int64_t>(run.params.size())),
                      vec(run.biases.data(), static_cast<int64_t>(run.biases.size())));
  }

  std::string path;
  HfDirectory directory;
  JsonDocument facts_document;
  const Json& facts;
  SafetensorsFile inputs, expected;
  ModelShape shape;

 private:
  template <class T>
  static std::vector<T> read(const SafetensorsFile& file, const std::string& name) {
    const SafetensorsFile::Tensor* tensor = file.find(name);
    CHECK(tensor != nullptr, "{} has no {}", file.path(), name);
    std::vector<T> out(static_cast<size_t>(tensor->elements()));
    CHECK(tensor->bytes() == out.size() * sizeof(T), "{} holds another type", name);
    file.read(*tensor, 0, out.data(), tensor->bytes());
    return out;
  }
};

}  // namespace tael::testing
