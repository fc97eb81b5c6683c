#include "data/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "data/permutation.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;

TEST(Permutation, IsOneToOneForEverySize) {
  for (uint64_t size = 1; size <= 300; ++size) {
    const Permutation order(size, Rng(size, "test"));
    std::vector<bool> seen(size);
    for (uint64_t i = 0; i < size; ++i) {
      ASSERT_LT(order.at(i), size);
      ASSERT_FALSE(seen[order.at(i)]) << size;
      seen[order.at(i)] = true;
    }
  }
  for (uint64_t size : {uint64_t{65536}, uint64_t{65537}, uint64_t{99991}}) {
    const Permutation order(size, Rng(1, "test"));
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < size; ++i) seen.insert(order.at(i));
    EXPECT_EQ(seen.size(), size);
    EXPECT_LT(*seen.rbegin(), size);
  }
}

TEST(Permutation, KeepsToHugeRanges) {
  const uint64_t size = uint64_t{1} << 62;
  for (uint64_t n : {size, size - 1, size / 2 + 1}) {
    const Permutation order(n, Rng(2, "test"));
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; ++i) seen.insert(order.at(n - 1 - i * (n / 1001)));
    EXPECT_EQ(seen.size(), 1000u);
    EXPECT_LT(*seen.rbegin(), n);
  }
}

// Where an element lands over many keys is uniform: counts are binomial, and six deviations are never seen by chance.
TEST(Permutation, PlacesAreUniform) {
  constexpr int kKeys = 4000;
  for (uint64_t size : {7, 16, 100}) {
    std::vector<int> first(size), last(size), distance(size);
    for (uint64_t key = 0; key < kKeys; ++key) {
      const Permutation order(size, Rng(key, "test"));
      ++first[order.at(0)];
      ++last[order.at(size - 1)];
      ++distance[(order.at(1) + size - order.at(0)) % size];
    }
    const double mean = kKeys / static_cast<double>(size), deviation = std::sqrt(mean);
    for (uint64_t v = 0; v < size; ++v) {
      EXPECT_NEAR(first[v], mean, 6 * deviation) << size << " " << v;
      EXPECT_NEAR(last[v], mean, 6 * deviation) << size << " " << v;
      if (v == 0)
        EXPECT_EQ(distance[v], 0);
      else
        EXPECT_NEAR(distance[v], kKeys / static_cast<double>(size - 1), 6 * deviation) << size << " " << v;
    }
  }
}

std::vector<SampledFile> files(std::vector<int64_t> tokens, std::vector<double> weights = {}) {
  std::vector<SampledFile> out;
  for (size_t f = 0; f < tokens.size(); ++f)
    out.push_back({std::string(1, static_cast<char>('a' + f)) + ".h5", tokens[f], weights.empty() ? 0 : weights[f]});
  return out;
}

TEST(Sampler, CountsSamplesAsTheContractSays) {
  const auto count = [](int64_t tokens, int64_t seq, int64_t depth) {
    return Sampler(files({tokens}), {.seq_length = seq, .mtp_depth = depth}).samples(0);
  };
  EXPECT_EQ(count(9, 8, 0), 1);
  EXPECT_EQ(count(16, 8, 0), 1);
  EXPECT_EQ(count(17, 8, 0), 2);
  EXPECT_EQ(count(17, 8, 1), 1);
  EXPECT_EQ(count(19, 8, 2), 2);
  EXPECT_EQ(count(2, 1, 0), 1);
  EXPECT_EQ(error_of(Exit::bad_data, [&] { count(8, 8, 0); }),
            "a.h5: 8 tokens are not enough for one sample: seq_length 8 with 1 target more needs 9");
  EXPECT_EQ(error_of(Exit::bad_data, [&] { count(10, 8, 2); }),
            "a.h5: 10 tokens are not enough for one sample: seq_length 8 with 3 targets more needs 11");
}

TEST(Sampler, WithoutShuffleFilesComeInOrderForAnyNumberOfEpochs) {
  const Sampler sampler(files({31, 11, 21}), {.seq_length = 10, .shuffle = false});  // 3, 1, 2 samples
  EXPECT_EQ(sampler.samples_per_epoch(), 6);
  const int64_t file[] = {0, 0, 0, 1, 2, 2}, window[] = {0, 1, 2, 0, 0, 1};
  for (int64_t n = 0; n < 30; ++n) {
    const Sample s = sampler.at(n);
    EXPECT_EQ(s.file, file[n % 6]);
    EXPECT_EQ(s.window, window[n % 6]);
    EXPECT_EQ(s.epoch, n / 6);
  }
}

TEST(Sampler, EveryEpochHasEverySampleOnceInAnotherOrder) {
  const SamplerOptions options{.seq_length = 10, .seed = 5};
  const Sampler sampler(files({501, 11, 1001}), options);
  ASSERT_EQ(sampler.samples_per_epoch(), 50 + 1 + 100);
  std::vector<std::vector<std::pair<int64_t, int64_t>>> epochs;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    auto& order = epochs.emplace_back();
    for (int64_t i = 0; i < 151; ++i) {
      const Sample s = sampler.at(epoch * 151 + i);
      EXPECT_EQ(s.epoch, epoch);
      EXPECT_LT(s.window, sampler.samples(s.file));
      order.emplace_back(s.file, s.window);
    }
    EXPECT_EQ(std::set(order.begin(), order.end()).size(), 151u);
    for (int64_t before = 0; before < epoch; ++before) EXPECT_NE(order, epochs[static_cast<size_t>(before)]);
  }
  // The files are mixed: the first third of an epoch is not one file's.
  std::set<int64_t> early;
  for (int64_t i = 0; i < 50; ++i) early.insert(epochs[0][static_cast<size_t>(i)].first);
  EXPECT_GE(early.size(), 2u);
  // Another seed, another order; the same seed, the same.
  const Sampler again(files({501, 11, 1001}), options), other(files({501, 11, 1001}), {.seq_length = 10, .seed = 6});
  int64_t equal = 0;
  for (int64_t i = 0; i < 151; ++i) {
    EXPECT_EQ(again.at(i).window, sampler.at(i).window);
    equal += other.at(i).window == sampler.at(i).window && other.at(i).file == sampler.at(i).file;
  }
  EXPECT_LT(equal, 20);
}

TEST(Sampler, WeightsGiveExactSharesInEveryRound) {
  for (bool shuffle : {false, true}) {
    const Sampler sampler(files({51, 1001, 101}, {0.7, 0.2, 0.1}), {.seq_length = 10, .seed = 3, .shuffle = shuffle});
    ASSERT_EQ(sampler.round(), 10);
    EXPECT_EQ(sampler.places(0), 7);
    EXPECT_EQ(sampler.places(1), 2);
    EXPECT_EQ(sampler.places(2), 1);
    std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> windows;  // by file and epoch
    for (int64_t round = 0; round < 200; ++round) {
      int64_t count[3] = {};
      for (int64_t i = 0; i < 10; ++i) {
        const Sample s = sampler.at(round * 10 + i);
        ++count[s.file];
        windows[{s.file, s.epoch}].push_back(s.window);
      }
      EXPECT_EQ(count[0], 7);
      EXPECT_EQ(count[1], 2);
      EXPECT_EQ(count[2], 1);
    }
    for (auto& [file_epoch, list] : windows) {  // each file runs through epochs of its own
      const int64_t samples = sampler.samples(file_epoch.first);
      std::ranges::sort(list);
      EXPECT_EQ(std::ranges::adjacent_find(list), list.end());
      EXPECT_TRUE(static_cast<int64_t>(list.size()) == samples || file_epoch.first == 1 ||
                  file_epoch.second == 1400 / samples);
      EXPECT_LT(list.back(), samples);
    }
  }
}

// Whatever the round: the samples of a file come once each before one of them comes again. Rounds that hold a file more
// often than it has samples are those of the files' own token counts.
TEST(Sampler, OnlyTheRatioOfWeightsCounts) {
  for (const double unit : {1.0, 1e-323, 5e307, 1e-300}) {
    const Sampler sampler(files({101, 101}, {3 * unit, unit}), {.seq_length = 10});
    EXPECT_EQ(sampler.round(), 4) << unit;
    EXPECT_EQ(sampler.places(0), 3) << unit;
  }
}

TEST(Sampler, WithWeightsAFileIsReadThroughBeforeItIsReadAgain) {
  const std::vector<std::vector<double>> weights = {
      {2, 1}, {0.667, 0.333}, {20001, 701}, {701, 20001}, {std::sqrt(2.0), 1e-3}};
  for (const std::vector<double>& w : weights) {
    for (const bool shuffle : {false, true}) {
      const Sampler sampler(files({20001, 701}, w), {.seq_length = 16, .seed = 9, .shuffle = shuffle});
      std::vector<std::vector<int64_t>> windows(2);
      for (int64_t n = 0; n < 20000; ++n)
        windows[static_cast<size_t>(sampler.at(n).file)].push_back(sampler.at(n).window);
      for (int64_t f = 0; f < 2; ++f) {
        const std::vector<int64_t>& all = windows[static_cast<size_t>(f)];
        const auto samples = static_cast<size_t>(sampler.samples(f));
        for (size_t begin = 0; begin < all.size(); begin += samples) {
          const size_t end = std::min(begin + samples, all.size());
          const std::set<int64_t> epoch(all.begin() + static_cast<int64_t>(begin),
                                        all.begin() + static_cast<int64_t>(end));
          EXPECT_EQ(epoch.size(), end - begin) << "file " << f << ", sample " << begin;
          EXPECT_LT(*epoch.rbegin(), sampler.samples(f));
        }
        if (shuffle) {
          EXPECT_FALSE(
              std::ranges::is_sorted(all.begin(), all.begin() + static_cast<int64_t>(std::min(samples, all.size()))));
        }
      }
    }
  }
}

TEST(Sampler, WeightsAreSpreadEvenly) {
  for (const bool shuffle : {false, true}) {
    const Sampler sampler(files({101, 101}, {3, 1}), {.seq_length = 10, .shuffle = shuffle});
    ASSERT_EQ(sampler.round(), 4);
    std::vector<int64_t> order, window;
    for (int64_t n = 0; n < 8; ++n) {
      order.push_back(sampler.at(n).file);
      window.push_back(sampler.at(n).window);
    }
    EXPECT_EQ(order, (std::vector<int64_t>{0, 0, 1, 0, 0, 0, 1, 0}));
    if (shuffle) continue;
    EXPECT_EQ(window, (std::vector<int64_t>{0, 1, 0, 2, 3, 4, 1, 5}));
  }
}

TEST(Sampler, WeightsWithoutASmallRoundAreWithinOnePlace) {
  const std::vector<double> weights = {std::sqrt(2.0), 1, 5e-5, 3.14159};
  const Sampler sampler(files({101, 101, 101, 101}, weights), {.seq_length = 10});
  ASSERT_EQ(sampler.round(), 65536);
  const double sum = weights[0] + weights[1] + weights[2] + weights[3];
  int64_t total = 0;
  for (int64_t f = 0; f < 4; ++f) {
    total += sampler.places(f);
    EXPECT_GE(sampler.places(f), 1);
    EXPECT_NEAR(static_cast<double>(sampler.places(f)), 65536 * weights[static_cast<size_t>(f)] / sum, 1.0);
  }
  EXPECT_EQ(total, 65536);
}

// Shares of 65536 with these fractions: .10, .79, .12, .92, .07. Two places are left after rounding down.
TEST(Sampler, TheLargestFractionsGetTheRemainingPlaces) {
  const auto places = [](const std::vector<double>& weights) {
    const Sampler sampler(files(std::vector<int64_t>(weights.size(), 101), weights), {.seq_length = 10});
    std::vector<int64_t> out;
    for (size_t f = 0; f < weights.size(); ++f) out.push_back(sampler.places(static_cast<int64_t>(f)));
    return out;
  };
  constexpr double kSqrt2 = 1.41421356237309505, kSqrt3 = 1.73205080756887729, kSqrt5 = 2.23606797749978970;
  EXPECT_EQ(places({kSqrt2, 3.14159265358979324, 2.71828182845904524, kSqrt3, kSqrt5}),
            (std::vector<int64_t>{8244, 18313 + 1, 15846, 10096 + 1, 13035}));
  // Equal fractions: the earlier files.
  EXPECT_EQ(places({kSqrt3, 1, 1, 1}), (std::vector<int64_t>{23987 + 1, 13849 + 1, 13849, 13849}));
  EXPECT_EQ(places({kSqrt2, 1, 1, 1}), (std::vector<int64_t>{20996, 14846 + 1, 14846 + 1, 14846}));
}

TEST(Sampler, RefusesWeightsThatMakeNoSense) {
  const auto build = [](std::vector<double> weights) {
    return error_of(Exit::bad_config, [&] { Sampler(files({100, 100}, weights), {.seq_length = 10}); });
  };
  EXPECT_EQ(build({1, 0}), "data.train: 1 of 2 files have a weight; give one to each or to none");
  EXPECT_EQ(build({1, -2}), "data.train: weight -2 of b.h5: expected a finite number above 0");
  EXPECT_EQ(build({1, std::nan("")}), "data.train: weight nan of b.h5: expected a finite number above 0");
  EXPECT_EQ(build({1, 1e-9}),
            "data.train: weight 1e-09 of b.h5 is less than one sample in 131072; give it more, or leave it out");
  EXPECT_EQ(build({HUGE_VAL, 1}), "data.train: weight inf of a.h5: expected a finite number above 0");
}

// A change of order is a change of every run's data: it must be meant, and kSampleOrder raised.
TEST(Sampler, OrderIsFrozen) {
  ASSERT_EQ(kSampleOrder, 2);
  const Sampler plain(files({10001}), {.seq_length = 10, .seed = 1234});
  const Sampler weighted(files({10001, 2001}, {2, 1}), {.seq_length = 10, .seed = 1234});
  std::vector<int64_t> windows, mixed;
  for (int64_t n : {0, 1, 2, 999, 1000, 123456789}) {
    windows.push_back(plain.at(n).window);
    mixed.push_back(weighted.at(n).file * 10000 + weighted.at(n).window);
  }
  EXPECT_EQ(windows, (std::vector<int64_t>{931, 267, 449, 874, 541, 951}));
  EXPECT_EQ(mixed, (std::vector<int64_t>{783, 10185, 338, 828, 10150, 642}));
}

}  // namespace
}  // namespace tael
