// tael config check and diff.
#include "trainer/commands/config.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>

#include "base/json.hpp"
#include "tests/harness/configuration.hpp"
#include "tests/harness/training.hpp"

namespace tael {
namespace {

using testing::kSearch;
using testing::ScratchDirectory;

size_t count_keys() {
  size_t count = 0;
  for (const WrittenField& field : write_fields(Config{})) count += field.section ? 0 : 1;
  return count;
}

struct Printed {
  int code = -1;
  std::string text;
};
// What a command prints, or "CODE: message" of what it throws.
Printed printed(const std::function<int(std::FILE*)>& command) {
  char* data = nullptr;
  size_t size = 0;
  std::FILE* out = open_memstream(&data, &size);
  Printed result;
  try {
    result.code = command(out);
  } catch (const Error& error) {
    result = {static_cast<int>(error.code()), error.what()};
  }
  std::fclose(out);
  if (result.text.empty()) result.text.assign(data, size);
  std::free(data);
  return result;
}

std::string yaml(const ScratchDirectory& dir) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < 2000; ++i) tokens.push_back(i * 7 % 250);
  return fmt::format(
      "defaults: [models/deepseek_v3_tiny]\nrun: {{dir: {}}}\ndata: {{train: [{}]}}\n"
      "training: {{seq_length: 32, micro_batch_size: 1, global_batch_size: 8, train_steps: 3}}\n"
      "cluster: {{threads_per_rank: 1}}\n",
      dir.at("run"), testing::make_shard(dir, "stream", tokens, 256));
}

Printed check(const std::string& config, const std::vector<std::string>& overrides = {}, int64_t ranks = 0,
              int64_t hosts = 1) {
  return printed([&](std::FILE* out) {
    return run_config_check(
        {.config = config, .overrides = overrides, .search = kSearch, .ranks = ranks, .hosts = hosts}, out);
  });
}

TEST(ConfigCheck, SaysWhatARunWouldDoAndWritesNothing) {
  const ScratchDirectory dir;
  dir.write("a.yaml", yaml(dir));
  const Printed done = check(dir.at("a.yaml"), {"lr=1e-2"}, 4, 2);
  ASSERT_EQ(done.code, 0) << done.text;
  for (const char* part : {"config   lr is read as optimizer.lr\n", "world    4 ranks x 1 thread",
                           "data     2,000 training tokens", "a rank has 2 in micro-batches of 1; 3 steps",
                           "check    passed for 4 ranks on 2 hosts; run.dir can be made; nothing was written\n"}) {
    EXPECT_NE(done.text.find(part), std::string::npos) << part << "\nin\n" << done.text;
  }
  EXPECT_FALSE(std::filesystem::exists(dir.at("run")));
  // One rank unless parallelism says more; a run directory that exists is no reason to refuse.
  EXPECT_NE(check(dir.at("a.yaml")).text.find("passed for 1 rank on 1 host; "), std::string::npos);
  std::filesystem::create_directory(dir.at("run"));
  EXPECT_NE(check(dir.at("a.yaml"), {"parallelism.data_parallel=2"})
                .text.find("passed for 2 ranks on 1 host; run.dir exists already; nothing was written\n"),
            std::string::npos);
}

TEST(ConfigCheck, RefusesWhatTrainingRefuses) {
  const ScratchDirectory dir;
  dir.write("a.yaml", yaml(dir));
  const std::string file = dir.at("a.yaml");
  const struct {
    std::vector<std::string> overrides;
    int64_t ranks;
    Printed expected;
  } cases[] = {
      {{"training.seq_len=0"},
       1,
       {78,
        "command line: training.seq_len: expected a whole number such as 4096, 4k or 20M, from 1 to 2147483647, got "
        "0"}},
      {{"run.dir=" + file}, 1, {78, "run.dir: " + file + " exists and is no directory"}},
      {{"precision.compute=fp8"},
       1,
       {78, "command line: precision.compute: fp8 is not built yet; the nearest that is built is fp32"}},
      {{},
       3,
       {78, file +
                ": parallelism.reduction_lanes: 3 data ranks do not divide the 4 lanes (parallelism.reduction_lanes); "
                "the nearest that fits is 2 data ranks [lanes]"}},
      {{"parallelism.data_parallel=2"},
       4,
       {78,
        "command line: parallelism.data_parallel: pipeline 1 x data 2 x tensor 1 are 2 ranks, but 4 were started "
        "[world]"}},
      {{"parallelism.data_parallel=100000"}, 0, {78, "100000 ranks; a check is for at most 65536"}},
      {{"data.train=[none.h5]"}, 1, {65, "none.h5: no such file"}},
      {{"model.vocab_size=200"},
       4,
       {65, fmt::format("{}: its largest token is 249, the model's vocab_size is 200", dir.at("stream.h5"))}},
  };
  for (const auto& c : cases) {
    const Printed done = check(file, c.overrides, c.ranks);
    EXPECT_EQ(done.code, c.expected.code) << done.text;
    EXPECT_EQ(done.text, c.expected.text);
  }
  EXPECT_EQ(check(file, {}, 2, 3).text, "--hosts 3: more hosts than the 2 ranks");
  EXPECT_EQ(check(file, {}, 4, 3).text, "--hosts 3: 4 ranks are no equal parts of as many hosts");
  EXPECT_EQ(check("models/deepseek_v3").text,
            TAEL_SOURCE_DIR "/configs/models/deepseek_v3.yaml: run.dir: must be given [required]");
  EXPECT_EQ(check(dir.at("")).text.substr(dir.at("").size()),
            ": a directory without config.yaml; that of a run has one");
  // A damaged shard.
  std::ifstream in(dir.at("stream.h5"), std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(in), {});
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  dir.write("stream.h5", bytes);
  EXPECT_EQ(check(file).code, 65);
  EXPECT_FALSE(std::filesystem::exists(dir.at("run")));
}

// The plan for ranks that nobody started is the plan of ranks that were.
TEST(ConfigCheck, PlansTheMemoryOfRealRanks) {
  const ScratchDirectory dir;
  const LoadedConfig loaded = load_config_text(yaml(dir), "t.yaml", {}, kSearch);
  for (const int ranks : {1, 2, 4}) {
    const std::unique_ptr<Comm> alike = make_comm_alike(ranks, 1);
    const tael::Run planned(loaded, *alike);
    ThreadWorld world(ranks);
    world.run([&](Comm& comm) {
      const tael::Run run(loaded, comm);
      if (comm.rank() != 0) return;
      EXPECT_EQ(planned.memory_plan.total(), run.memory_plan.total());
      EXPECT_EQ(planned.batch_bytes, run.batch_bytes);
      EXPECT_EQ(planned.division.lanes, run.division.lanes);
      EXPECT_EQ(planned.steps, run.steps);
    });
  }
}

Printed diff(const std::string& first, const std::string& second, bool json = false) {
  return printed([&](std::FILE* out) {
    return run_config_diff({.first = first, .second = second, .json = json, .search = kSearch}, out);
  });
}

TEST(ConfigDiff, NamesKeysValuesAndPlaces) {
  const ScratchDirectory dir;
  dir.write("a.yaml", "run: {dir: x}\noptimizer:\n  lr: 0.5\nlr_scheduler: {warmup_steps: 7}\n");
  dir.write("b.yaml", "run: {dir: x}\nmin_lr: 0.25\nlr: 0.125\nlr_scheduler: {warmup_steps: 7}\n");
  const std::string a = dir.at("a.yaml"), b = dir.at("b.yaml");
  const Printed done = diff(a, b);
  EXPECT_EQ(done.code, 1);
  EXPECT_EQ(done.text, fmt::format("--- {0}\n+++ {1}\n"
                                   "optimizer.lr\n- 0.5    {0}:3\n+ 0.125  {1}:3 (written lr)\n"
                                   "lr_scheduler.min_lr\n- 3e-04  default\n+ 0.25   {1}:2 (written min_lr)\n"
                                   "2 of {2} keys differ\n",
                                   a, b, count_keys()));
  const Printed json = diff(a, b, true);
  EXPECT_EQ(json.code, 1);
  const JsonDocument document = JsonDocument::parse(json.text, "json");
  EXPECT_FALSE(document.root().at("equal").as_bool());
  const Json& first = document.root().at("differences").items().at(0);
  EXPECT_EQ(first.at("key").as_string(), "optimizer.lr");
  EXPECT_EQ(first.at("a").as_double(), 0.5);
  EXPECT_EQ(first.at("b").as_double(), 0.125);
  EXPECT_EQ(first.at("a_origin").as_string(), a + ":3:7");
  EXPECT_EQ(first.at("b_origin").as_string(), b + ":3:5");
  EXPECT_EQ(diff(a, a).code, 0);
  EXPECT_EQ(diff(a, a).text, fmt::format("none of {} keys differ\n", count_keys()));
  EXPECT_EQ(diff(a, dir.at("none.yaml")).code, 78);
}

TEST(ConfigDiff, RunsAndPresets) {
  const ScratchDirectory dir;
  // What a run leaves equals what it was started from.
  const LoadedConfig loaded = load_config("experiments/quickstart", {"optimizer.lr=0.5"}, kSearch);
  std::filesystem::create_directory(dir.at("run"));
  dir.write("run/config.yaml", resolved_yaml(loaded));
  const Printed done = diff("experiments/quickstart", dir.at("run"));
  EXPECT_EQ(done.code, 1);
  EXPECT_NE(done.text.find("optimizer.lr\n"), std::string::npos);
  EXPECT_NE(done.text.find("\n1 of "), std::string::npos) << done.text;
  // Bare names of presets; a model alone is compared with the model of a run.
  EXPECT_EQ(diff("deepseek-v3", "models/deepseek_v3").text, "none of 32 keys differ (models alone compared)\n");
  const Printed preset = diff("deepseek_v3", "experiments/deepseek_v3");
  EXPECT_NE(preset.text.find("2 of 32 keys differ (models alone compared)\n"), std::string::npos) << preset.text;
}

TEST(ConfigShow, OriginsAreInJsonToo) {
  const ScratchDirectory dir;
  dir.write("a.yaml", "defaults: [experiments/quickstart]\noptimizer: {lr: 1e-3}\n");
  const std::string text = config_show(
      {.config = dir.at("a.yaml"), .overrides = {"train_iters=9"}, .json = true, .origin = true, .search = kSearch});
  const JsonDocument document = JsonDocument::parse(text, "json");
  const Json& origins = document.root().at("origins");
  EXPECT_EQ(origins.at("optimizer.lr").as_string(), dir.at("a.yaml") + ":2:17");
  EXPECT_EQ(origins.at("training.train_steps").as_string(), "command line");
  EXPECT_EQ(origins.at("metrics.tensorboard").as_string(), "default");
  EXPECT_EQ(origins.members().size(), count_keys());
  const std::string plain =
      config_show({.config = dir.at("a.yaml"), .overrides = {"train_iters=9"}, .origin = true, .search = kSearch});
  EXPECT_NE(plain.find(fmt::format("# {}:2\n", dir.at("a.yaml"))), std::string::npos) << plain;
  EXPECT_NE(plain.find("# command line (written train_iters)\n"), std::string::npos) << plain;
}

}  // namespace
}  // namespace tael
