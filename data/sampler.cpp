#include "data/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/check.hpp"
#include "base/number_text.hpp"
#include "data/permutation.hpp"

namespace tael {

namespace {

constexpr int64_t kLargestExactRound = 1024;
constexpr int64_t kRound = 65536;

// Places of each file in a round of `round` places: shares rounded down, then one more for the largest fractions
// (ties: the earlier file), and at least one each: no share is less than half a place.
std::vector<int64_t> apportion(const std::vector<double>& shares, int64_t round) {
  std::vector<int64_t> places(shares.size());
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto rest = [&](size_t f) { return shares[f] * static_cast<double>(round) - static_cast<double>(places[f]); };
  for (size_t f = 0; f < shares.size(); ++f)
    places[f] = std::max<int64_t>(1, static_cast<int64_t>(shares[f] * static_cast<double>(round)));
  int64_t total = std::accumulate(places.begin(), places.end(), int64_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return rest(a) > rest(b); });
  for (size_t k = 0; total < round; k = (k + 1) % order.size(), ++total) ++places[order[k]];
  for (; total > round; --total) --*std::ranges::max_element(places);
  return places;
}

}  // namespace

Sampler::Sampler(std::vector<SampledFile> files, const SamplerOptions& options)
    : files_(std::move(files)), options_(options) {
  CHECK(!files_.empty() && options.seq_length >= 1 && options.mtp_depth >= 0, "seq_length {}, mtp_depth {}",
        options.seq_length, options.mtp_depth);
  first_.push_back(0);
  size_t with_weight = 0;
  for (size_t f = 0; f < files_.size(); ++f) {
    const SampledFile& file = files_[f];
    const int64_t needed = options.seq_length + 1 + options.mtp_depth;
    if (file.tokens < needed)
      fail(Exit::bad_data, "{}: {} {} not enough for one sample: seq_length {} with {} more needs {}", file.path,
           count_of(file.tokens, "token"), file.tokens == 1 ? "is" : "are", options.seq_length,
           count_of(1 + options.mtp_depth, "target"), needed);
    samples_.push_back((file.tokens - 1 - options.mtp_depth) / options.seq_length);
    first_.push_back(first_.back() + samples_.back());
    epochs_.emplace_back(options.seed, fmt::format("data epoch of file {}", f));
    if (file.weight == 0) continue;
    if (!(file.weight > 0) || !std::isfinite(file.weight))
      fail(Exit::bad_config, "data.train: weight {} of {}: expected a finite number above 0", file.weight, file.path);
    ++with_weight;
  }
  epochs_.emplace_back(options.seed, "data epoch");
  if (with_weight != 0 && with_weight != files_.size())
    fail(Exit::bad_config, "data.train: {} of {} files have a weight; give one to each or to none", with_weight,
         files_.size());
  if (with_weight != 0) plan_round();
}

void Sampler::plan_round() {
  if (files_.size() > static_cast<size_t>(kLargestExactRound))
    fail(Exit::bad_config, "data.train: {} files with weights, at most {} can have one", files_.size(),
         kLargestExactRound);
  double largest = 0, sum = 0;  // of weights in units of the largest: any sum of them is finite
  for (const SampledFile& file : files_) largest = std::max(largest, file.weight);
  for (const SampledFile& file : files_) sum += file.weight / largest;
  std::vector<double> shares;
  for (const SampledFile& file : files_) {
    shares.push_back(file.weight / largest / sum);
    if (shares.back() * static_cast<double>(kRound) < 0.5)
      fail(Exit::bad_config, "data.train: weight {} of {} is less than one sample in {}; give it more, or leave it out",
           file.weight, file.path, 2 * kRound);
  }
  int64_t round = 1;
  const auto exact = [&] {
    return std::ranges::all_of(shares, [&](double share) {
      const double places = share * static_cast<double>(round);
      return std::round(places) >= 1 && std::abs(places - std::round(places)) < 1e-9;
    });
  };
  while (round <= kLargestExactRound && !exact()) ++round;
  if (round <= kLargestExactRound) {
    for (double share : shares) places_.push_back(std::llround(share * static_cast<double>(round)));
  } else {
    round = kRound;
    places_ = apportion(shares, round);
  }
  CHECK(std::accumulate(places_.begin(), places_.end(), int64_t{0}) == round);
  // The j-th place of a file with p places belongs at (j + 1/2) / p of the round; places stand in that order.
  round_.reserve(static_cast<size_t>(round));
  for (size_t f = 0; f < files_.size(); ++f)
    for (int64_t j = 0; j < places_[f]; ++j) round_.push_back({static_cast<int32_t>(f), static_cast<int32_t>(j)});
  std::ranges::stable_sort(round_, [&](const Place& a, const Place& b) {
    return (2 * int64_t{a.ordinal} + 1) * places_[static_cast<size_t>(b.file)] <
           (2 * int64_t{b.ordinal} + 1) * places_[static_cast<size_t>(a.file)];
  });
}

int64_t Sampler::shuffled(int64_t index, int64_t size, const Rng& epochs, int64_t epoch) const {
  if (!options_.shuffle) return index;
  const Permutation order(static_cast<uint64_t>(size), Rng(epochs.bits(static_cast<uint64_t>(epoch)), "data order"));
  return static_cast<int64_t>(order.at(static_cast<uint64_t>(index)));
}

Sample Sampler::at(int64_t n) const {
  CHECK(n >= 0, "sample {}", n);
  Sample sample;
  if (!weighted()) {
    const int64_t size = samples_per_epoch();
    sample.epoch = n / size;
    const int64_t index = shuffled(n % size, size, epochs_.back(), sample.epoch);
    sample.file = std::ranges::upper_bound(first_, index) - first_.begin() - 1;
    sample.window = index - first_[static_cast<size_t>(sample.file)];
    return sample;
  }
  const int64_t round = n / this->round();
  const Place place = round_[static_cast<size_t>(n % this->round())];
  const auto file = static_cast<size_t>(place.file);
  const int64_t k = round * places_[file] + place.ordinal;
  sample.file = place.file;
  sample.epoch = k / samples_[file];
  sample.window = shuffled(k % samples_[file], samples_[file], epochs_[file], sample.epoch);
  return sample;
}

}  // namespace tael
