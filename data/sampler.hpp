// Which window of which file is sample n: a pure function of (seed, n), the same for every number of ranks, and nothing
// to save for a resume. A change of any order computed here needs another kSampleOrder.
//
// A file of N tokens has floor((N - 1 - mtp_depth) / seq_length) samples; sample i is the window that starts at token
// i * seq_length. Files without weights form one epoch, file after file, permuted as a whole with (seed, epoch) or,
// with shuffle off, in order. With weights, samples come in rounds in which each file has exactly its share of places,
// spread evenly: the smallest round up to 1,024 places that gives whole numbers, else 65,536 places with the remainders
// going to the largest fractions; a share of less than half a place of those is refused. The k-th place of a file,
// counted over all rounds, is its sample k: each file runs through epochs of its own, permuted with (seed, file, epoch)
// or in order, and none of its windows comes twice before all of them came.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/rng.hpp"

namespace tael {

inline constexpr int kSampleOrder = 2;

struct SampledFile {
  std::string path;  // for errors
  int64_t tokens = 0;
  double weight = 0;  // relative; 0: none is given, then none may be given for any file
};

struct SamplerOptions {
  int64_t seq_length = 0;
  int64_t mtp_depth = 0;
  uint64_t seed = 0;
  bool shuffle = true;
};

struct Sample {
  int64_t file = 0;
  int64_t window = 0;  // starts at token window * seq_length
  int64_t epoch = 0;   // of the whole set, or of the file if there are weights
};

class Sampler {
 public:
  // Throws Error(bad_data) for a file that is shorter than one sample, Error(bad_config) for weights that make no
  // sense.
  Sampler(std::vector<SampledFile> files, const SamplerOptions& options);

  Sample at(int64_t n) const;                                                          // REQUIRES n >= 0
  int64_t samples(int64_t file) const { return samples_[static_cast<size_t>(file)]; }  // of one epoch
  int64_t samples_per_epoch() const { return first_.back(); }                          // of all files, each once
  bool weighted() const { return !round_.empty(); }
  int64_t round() const { return static_cast<int64_t>(round_.size()); }              // places; 0 without weights
  int64_t places(int64_t file) const { return places_[static_cast<size_t>(file)]; }  // of the file in a round

 private:
  struct Place {
    int32_t file, ordinal;  // the ordinal-th place of the file in the round
  };
  void plan_round();
  int64_t shuffled(int64_t index, int64_t size, const Rng& epochs, int64_t epoch) const;

  std::vector<SampledFile> files_;
  SamplerOptions options_;
  std::vector<int64_t> samples_, first_;  // first_[f]: samples of the files before f; one entry more than files
  std::vector<int64_t> places_;
  std::vector<Place> round_;
  std::vector<Rng> epochs_;  // one key per file, the set's key last
};

}  // namespace tael
