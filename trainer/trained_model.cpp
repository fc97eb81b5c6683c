#include "trainer/trained_model.hpp"

#include <algorithm>

#include "base/file.hpp"
#include "base/print.hpp"
#include "data/shard_set.hpp"
#include "trainer/run_directory.hpp"

namespace tael {

void print_warnings(const ModelSource& source, std::FILE* err) {
  for (const std::string& warning : source.warnings) print_to(err, "! {}\n", warning);
}

TrainedModel training_of(const ModelSource& source, const ConfigSearch& search) {
  TrainedModel trained;
  trained.tokenizer = source.tokenizer;
  LoadedConfig loaded;
  if (const std::string path = source.run + "/config.yaml"; !source.run.empty() && path_exists(path)) {
    loaded = load_config(path, {}, search);
  } else if (const std::optional<std::string> text = source.files->text("config.yaml")) {
    loaded = load_config_text(*text, source.files->path() + ": config.yaml", {}, search);
  } else {
    return trained;
  }
  const Config& config = loaded.config;
  trained.seq_length = config.training.seq_length;
  trained.document_mask = config.data.document_mask;
  for (const DataSource& shard : config.data.train) trained.train_shards.push_back(shard.path);
  if (!source.run.empty()) trained.digests = read_data_digests(source.run).value_or(std::vector<std::string>());
  if (trained.tokenizer.empty() && config.data.tokenizer != "auto") trained.tokenizer = config.data.tokenizer;
  if (trained.tokenizer.empty() && !trained.train_shards.empty() &&
      std::ranges::all_of(trained.train_shards, path_exists))
    trained.tokenizer = tokenizer_of(open_shards(trained.train_shards, ShardVerify::blocks));
  return trained;
}

}  // namespace tael
