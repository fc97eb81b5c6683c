// Damage of every file of a checkpoint, at seeded places: none is accepted, neither by `verify` nor by what a run reads
// to go on, and each message names the file and what lies at the damaged place.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "base/file.hpp"
#include "checkpoint/saver.hpp"
#include "checkpoint/training_state.hpp"
#include "parallel/comm_threads.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "tests/harness/training_numbers.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::Random;
using testing::ScratchDirectory;
using testing::tiny_shape;
using testing::TrainingNumbers;

constexpr int kRanks = 3;
// A sanitizer takes ten times as long for the same reads; the whole count runs in every other build.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kTrials = 600;
#else
constexpr int kTrials = 10'000;
#endif

ModelShape small() {
  ModelShape s = tiny_shape();
  s.n_routed_experts = 2;
  s.num_experts_per_tok = 1;
  return s;
}

// What the trainer reads of a checkpoint before its first step (trainer/training_start.cpp).
void read_as_a_run_does(const std::string& path, const ParamTable& table, TrainingNumbers& into) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  checkpoint.verify_beside_tensors();
  require_training_state(checkpoint, table, true);
  read_training_state(checkpoint, table, into.arrays(), true);
}

class DamageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ThreadWorld world(kRanks);
    world.run([&](Comm& comm) {
      ThreadPool pool(1);
      const Stream stream(pool, Isa::portable);
      TrainingNumbers live(table_, 5);
      CheckpointSaver saver(store_, comm, stream,
                            {.boxes = training_boxes(table_, live.arrays(), comm.rank(), kRanks), .snapshot = {}});
      const SaveResult saved = saver.save_now(
          {.training = true, .step = 7, .samples = 56, .tokens = 448, .attempt = 1, .tokenizer = "bytes"},
          {{"config.yaml", "run: {seed: 1}\n"}, {"config.json", "{\"vocab_size\": 29}\n"}});
      EXPECT_FALSE(saved.error) << saved.error->what();
    });
    manifest_ = Checkpoint::open(path_).manifest();
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      names_.insert(entry.path().filename().string());
  }

  // The words for what the manifest has at a byte of a shard.
  std::string at(size_t file, uint64_t byte) const {
    for (const StoredBox& stored : manifest_.boxes)
      if (stored.file == file && byte >= stored.offset && byte < stored.offset + stored.box.bytes())
        return in_words(stored.box);
    return "its HDF5 structure";
  }
  void expect_refused(const std::string& file, const std::set<std::string>& places) {
    const auto check = [&](const std::string& message) {
      ASSERT_EQ(message.find(file + ": "), 0u) << message;
      const auto said = [&](const std::string& place) { return message.find(place) != std::string::npos; };
      ASSERT_TRUE(places.empty() || std::ranges::any_of(places, said)) << message << "\nbut hit: " << *places.begin();
    };
    check(error_of(Exit::bad_data, [&] { Checkpoint::open(path_).verify(); }));
    check(error_of(Exit::bad_data, [&] { read_as_a_run_does(path_, table_, scratch_); }));
  }

  const ParamTable table_ = make_param_table(small());
  ScratchDirectory directory_;
  const CheckpointStore store_{directory_.at("checkpoints")};
  const std::string path_ = store_.path(7);
  TrainingNumbers scratch_{table_, 1};
  Manifest manifest_;
  std::set<std::string> names_;
};

TEST_F(DamageTest, NoneIsAcceptedAndEachNamesWhatItHit) {
  // Nothing lies in a checkpoint that the manifest does not vouch for.
  std::set<std::string> vouched = {std::string(kManifestName)};
  for (const StoredFile& file : manifest_.files) vouched.insert(file.name);
  ASSERT_EQ(names_, vouched);
  ASSERT_EQ(names_.size(), kRanks + 1u);

  enum Kind { bit, bytes, cut, added, gone, kinds };
  std::array<int, kinds> count{};
  std::set<std::string> hit;
  Random random(20261124);
  const std::vector<std::string> names(names_.begin(), names_.end());
  for (int trial = 0; trial < kTrials; ++trial) {
    const std::string& name = names[static_cast<size_t>(trial) % names.size()];
    const std::string file = path_ + "/" + name, content = read_file(file);
    const auto size = static_cast<int64_t>(content.size());
    size_t index = manifest_.files.size();  // the manifest's own
    for (size_t f = 0; f < manifest_.files.size(); ++f)
      if (manifest_.files[f].name == name) index = f;
    std::set<std::string> places;
    const auto touch = [&](int64_t byte) {
      if (index < manifest_.files.size()) places.insert(at(index, static_cast<uint64_t>(byte)));
    };
    // Half of it single bits; a file is gone in one of a hundred.
    const int64_t draw = random.below(100);
    const Kind kind = draw < 50 ? bit : draw < 70 ? bytes : draw < 85 ? cut : draw < 99 ? added : gone;
    ++count[kind];
    const int64_t first = random.below(size);
    if (kind == bit || kind == bytes) {
      std::string changed = content.substr(static_cast<size_t>(first), kind == bit ? 1 : 1 + random.below(64));
      if (kind == bit) changed[0] = static_cast<char>(changed[0] ^ (1 << random.below(8)));
      while (kind == bytes && changed == content.substr(static_cast<size_t>(first), changed.size()))
        for (char& c : changed) c = static_cast<char>(random.below(256));
      for (size_t i = 0; i < changed.size(); ++i)
        if (changed[i] != content[static_cast<size_t>(first) + i]) touch(first + static_cast<int64_t>(i));
      File::update(file).write_at(static_cast<uint64_t>(first), changed.data(), changed.size());
      expect_refused(file, places);
      File::update(file).write_at(static_cast<uint64_t>(first), content.data() + first, changed.size());
    } else if (kind == cut) {
      touch(first);
      std::filesystem::resize_file(file, static_cast<uintmax_t>(first));
      expect_refused(file, places);
      File::update(file).write_at(static_cast<uint64_t>(first), content.data() + first,
                                  static_cast<size_t>(size - first));
    } else if (kind == added) {
      touch(size - 1);
      std::string more(static_cast<size_t>(1 + random.below(trial % 2 == 0 ? 4 : 5000)), '\0');
      if (trial % 3 != 0)
        for (char& c : more) c = static_cast<char>(random.below(256));
      File::update(file).write_at(static_cast<uint64_t>(size), more.data(), more.size());
      expect_refused(file, places);
      std::filesystem::resize_file(file, static_cast<uintmax_t>(size));
    } else {
      for (const StoredBox& stored : manifest_.boxes)
        if (stored.file == index) places.insert(in_words(stored.box));
      std::filesystem::rename(file, directory_.at("gone"));
      expect_refused(file, places);
      std::filesystem::rename(directory_.at("gone"), file);
    }
    if (HasFatalFailure()) {
      ADD_FAILURE() << "trial " << trial << ": " << name << ", kind " << kind << ", byte " << first << " of " << size;
      return;
    }
    hit.insert(places.begin(), places.end());
  }
  for (const int each : count) EXPECT_GT(each, 0);
  EXPECT_TRUE(hit.contains("its HDF5 structure"));
  EXPECT_TRUE(hit.contains("file \"config.yaml\""));
  EXPECT_GT(hit.size(), manifest_.boxes.size() * 9 / 10);  // nearly every tensor was hit at least once
  // And what is there now is what was saved.
  Checkpoint::open(path_).verify();
  read_as_a_run_does(path_, table_, scratch_);
  EXPECT_EQ(scratch_.exp_avg_sq, TrainingNumbers(table_, 5).exp_avg_sq);
}

}  // namespace
}  // namespace tael
