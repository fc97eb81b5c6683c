// tael sample MODEL --prompt TEXT: continues a text, token by token.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "parallel/comm.hpp"
#include "trainer/config.hpp"
#include "trainer/verb.hpp"

namespace tael {

struct SampleOptions {
  std::string model;                      // a run, a checkpoint or a Hugging Face directory
  std::optional<std::string> prompt;      // text: needs a model whose tokenizer is known
  std::optional<std::string> prompt_ids;  // or tokens: "1,2,3"
  std::optional<int64_t> tokens;          // at most so many are generated; default: kSampleTokens, or what fits
  double temperature = 1.0;               // 0: greedy
  std::optional<double> top_p;
  std::optional<int64_t> seed;
  bool print_ids = false;   // the generated tokens as numbers instead of text
  bool no_echo = false;     // text without the prompt in front
  bool ignore_eos = false;  // goes on behind the end of the text
  std::string compute = "fp32";
  ConfigSearch search;
};
inline constexpr int64_t kSampleTokens = 128;

// Writes to `out` as it comes: the prompt and its continuation as UTF-8 text (bytes that are no character as U+FFFD),
// or the numbers of the continuation separated by commas; a line end follows. One line of speed goes to `err`. One rank
// only. Error(usage): options that contradict each other; Error(bad_config): what does not fit the model;
// Error(run_failed): logits that are not finite.
int run_sample(const SampleOptions& options, Comm& comm, std::FILE* out, std::FILE* err);

Verb sample_verb();

}  // namespace tael
