// tael eval MODEL --data P.h5 ...: how well a model predicts token shards.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm.hpp"
#include "trainer/config.hpp"
#include "trainer/verb.hpp"

namespace tael {

struct EvalOptions {
  std::string model;  // a run, a checkpoint or a Hugging Face directory
  std::vector<std::string> data;
  std::optional<int64_t> seq_length;  // default: what it was trained with, else max_position_embeddings
  std::string compute = "fp32";
  bool json = false;
  ConfigSearch search;
};

// Collective; rank 0 prints to `out`. A byte model of order 1, fitted on the run's training shards, is printed beside
// a run on bytes.
int run_eval(const EvalOptions& options, Comm& comm, std::FILE* out);

Verb eval_verb();

}  // namespace tael
