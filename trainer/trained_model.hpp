// What is known of how a model was trained: its run or its checkpoint says it, a Hugging Face directory does not.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/model_source.hpp"
#include "trainer/config.hpp"

namespace tael {

struct TrainedModel {
  std::optional<int64_t> seq_length;
  bool document_mask = false;
  std::vector<std::string> train_shards;
  std::vector<std::string> digests;  // of those shards when it was trained; empty: nothing says them
  std::string tokenizer;             // empty: nothing says it
};

// Reads the configuration that the run or the checkpoint keeps. Where that leaves the tokenizer to the training shards
// and no checkpoint has noted it, those that are still there are asked.
TrainedModel training_of(const ModelSource& source, const ConfigSearch& search);
// A line for each checkpoint that was passed over for its damage.
void print_warnings(const ModelSource& source, std::FILE* err);

}  // namespace tael
