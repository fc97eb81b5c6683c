#include "trainer/record.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "base/file.hpp"
#include "tests/harness/scratch_directory.hpp"
#include "tests/harness/training.hpp"

namespace tael::testing {
namespace {

std::map<std::string, std::string> files_of(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    const std::string path = entry.path().string();
    if (entry.is_regular_file() && !path.ends_with(".alive")) files[path] = read_file(path);
  }
  return files;
}

// A job that was frozen while another one took its directory over writes nothing into what is that one's by now.
TEST(Record, WritesNothingWhenAnotherOwnsTheDirectory) {
  const ScratchDirectory scratch;
  double now = 0;
  CostClock clock([&] { return now; }, 0, CostKind::startup);
  const LoadedConfig loaded = load_config_text(kTinyRun, "test.yaml", {"run.dir=" + scratch.at("run")}, {});
  Environment here;
  here.hosts = {"here"};
  Record record(loaded, here, clock, 0);
  record.begin_at(0);
  const auto write_all = [&](int64_t step) {
    now += 100;  // the ledger has been silent for long
    record.write(StepReport{.step = step, .tokens = 64 * step});
    record.write(EvalReport{.step = step, .tokens = 64 * step});
    record.write(CheckpointReport{.step = step, .tokens = 64 * step});
    record.event(step, 64 * step, "something");
    record.status({.state = "running", .step = step});
    record.beat();
  };
  std::map<std::string, std::string> before = files_of(scratch.at("run"));
  write_all(1);
  for (const char* name : {"metrics.jsonl", "ledger.jsonl", "status.json"})
    EXPECT_NE(files_of(scratch.at("run"))[record.directory().file(name)], before[record.directory().file(name)])
        << name;
  EXPECT_TRUE(record.owned());
  replace_file(record.directory().file("attempts/00000002.json"), "of another job");
  EXPECT_FALSE(record.owned());
  before = files_of(scratch.at("run"));
  write_all(2);
  record.release(0, "done");
  EXPECT_EQ(files_of(scratch.at("run")), before);
}

}  // namespace
}  // namespace tael::testing
