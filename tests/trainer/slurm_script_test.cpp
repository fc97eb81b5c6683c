#include "trainer/slurm_script.hpp"

#include <gtest/gtest.h>

#include "base/check.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using Words = std::vector<std::string>;

SlurmRequest request_of(Words words) { return take_slurm_request(words); }
std::string refusal(const std::string& word) {
  return error_of(Exit::bad_config, [&] { request_of({word}); });
}

SlurmScript small() {
  return {.program = "/opt/tael/bin/tael",
          .version = "tael 1.2.3",
          .words = {"my.yaml", "run.dir=runs/first"},
          .directory = "/data/ada/work",
          .run = "/data/ada/work/runs/first",
          .nodes = 2,
          .ranks_per_node = 4,
          .threads_per_rank = 8,
          .minutes = 90,
          .signal_seconds = 75,
          .options = {}};
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(SlurmRequest, IsTakenOutOfTheWords) {
  Words words = {"optimizer.lr=1e-3", "time_limit=20h",      "slurm.partition=gpu", "slurm.exclusive=true",
                 "run.dir=a",         "slurm.comment=a b=c", "time_limit=90 min"};
  const SlurmRequest request = take_slurm_request(words);
  EXPECT_EQ(words, (Words{"optimizer.lr=1e-3", "run.dir=a"}));
  EXPECT_EQ(request.time_limit_seconds, 5400);
  EXPECT_EQ(request.options,
            (std::vector<SlurmOption>{{"partition", "gpu"}, {"exclusive", std::nullopt}, {"comment", "a b=c"}}));
  EXPECT_EQ(request.find("partition")->value, "gpu");
  EXPECT_EQ(request.find("qos"), nullptr);
}

TEST(SlurmRequest, RefusesWhatIsNoOption) {
  EXPECT_EQ(refusal("time_limit=20"),
            "time_limit: expected a duration such as 600s, 10 min or 20h, at least 1s, or 1-12:00:00, got 20");
  for (const auto& [text, seconds] :
       {std::pair{"12:00:00", 43200.0}, {"100:30:05", 361805.0}, {"1-12:00:00", 129600.0}}) {
    Words words = {std::string("time_limit=") + text};
    EXPECT_EQ(take_slurm_request(words).time_limit_seconds, seconds) << text;
  }
  for (const char* text : {"30:00", "1-12", "1:2:3:4", "0:00:00", "1:60:00", "1-24:00:00", "-1:00:00", "1:00:00 "})
    EXPECT_NE(refusal(std::string("time_limit=") + text).find("expected a duration"), std::string::npos) << text;
  EXPECT_EQ(refusal("time_limit=9000d"), "time_limit: 9000d is longer than a year");
  for (const std::string& key : Words{"Partition", "", "-p", "par tition", "a\nb", "p;", "mem-", std::string(41, 'a')})
    EXPECT_TRUE(has(refusal("slurm." + key + "=x"), "expected the name of an sbatch option")) << key;
  EXPECT_EQ(refusal("slurm.qos"), "slurm.qos: expected slurm.qos=VALUE, or slurm.qos=true for an option alone");
  EXPECT_EQ(refusal("slurm.qos="), "slurm.qos: expected a value, or true for an option alone");
}

TEST(SlurmRequest, RefusesValuesThatCouldLeaveTheirLine) {
  for (const std::string value : {"a\nrm -rf x", "a\rb", "a\"b", "a\\", "a\tb", "\x7f"})
    EXPECT_TRUE(has(refusal("slurm.comment=" + value), "cannot stand in a line of sbatch")) << value;
}

TEST(SlurmRequest, LeavesToTheScriptWhatItDependsOn) {
  EXPECT_EQ(refusal("slurm.time=10"), "slurm.time: --time is left to tael submit: give time_limit");
  EXPECT_EQ(refusal("slurm.nodes=3"), "slurm.nodes: --nodes is left to tael submit: give cluster.nodes");
  for (const char* key :
       {"output", "signal", "ntasks", "tasks-per-node", "open-mode", "array", "no-requeue", "time-min", "wrap"})
    EXPECT_TRUE(has(refusal(std::string("slurm.") + key + "=x"), "is left to tael submit")) << key;
  // sbatch takes a beginning for the whole name.
  EXPECT_TRUE(has(refusal("slurm.tim=10"), "--time is left to tael submit"));
}

TEST(SlurmRequest, KnowsTheMemoryItAsksFor) {
  const auto bytes = [](const Words& words, std::optional<int64_t> processors = {}) {
    return requested_node_bytes(request_of(words), processors);
  };
  constexpr size_t kMib = size_t{1} << 20;
  EXPECT_EQ(bytes({"slurm.mem=8000"}), 8000 * kMib);
  EXPECT_EQ(bytes({"slurm.mem=64G"}), 65536 * kMib);
  EXPECT_EQ(bytes({"slurm.mem=64g"}), 65536 * kMib);
  EXPECT_EQ(bytes({"slurm.mem=2T"}), 2097152 * kMib);
  EXPECT_EQ(bytes({"slurm.mem=1024K"}), kMib);
  EXPECT_EQ(bytes({"slurm.mem-per-cpu=2G"}, 16), 32768 * kMib);
  EXPECT_FALSE(bytes({"slurm.mem-per-cpu=2G"}));
  EXPECT_FALSE(bytes({"slurm.mem=0"}));
  EXPECT_FALSE(bytes({"slurm.qos=high"}));
  for (const char* size : {"64GB", "-1", "G", "1.5G", "99999999999999999999", "9999999999T"})
    EXPECT_TRUE(has(error_of(Exit::bad_config, [&] { bytes({std::string("slurm.mem=") + size}); }), "expected a size"))
        << size;
}

TEST(SlurmScript, AsksForNodesRanksAndTime) {
  const std::string text = slurm_script(small());
  EXPECT_EQ(text.rfind("#!/bin/bash\n", 0), 0U);
  EXPECT_TRUE(has(text,
                  "#SBATCH --job-name=tael-first\n"
                  "#SBATCH --nodes=2\n"
                  "#SBATCH --ntasks=8\n"
                  "#SBATCH --ntasks-per-node=4\n"
                  "#SBATCH --cpus-per-task=8\n"
                  "#SBATCH --time=01:30:00\n"
                  "#SBATCH --signal=B:USR1@75\n"
                  "#SBATCH --requeue\n"
                  "#SBATCH --open-mode=append\n"
                  "#SBATCH --output=/data/ada/work/runs/first/log/slurm-%j.out\n"))
      << text;
  EXPECT_TRUE(has(text, "\ncd /data/ada/work || exit 74\n")) << text;
  EXPECT_TRUE(has(text,
                  "\nmpirun -n 8 --map-by ppr:4:node --bind-to none \"${pass[@]}\" \\\n"
                  "  /opt/tael/bin/tael train my.yaml run.dir=runs/first &\nlauncher=$!\n"))
      << text;
}

// sbatch reads its options up to the first command; the ledger's clock is that command.
// No program is started before a signal is remembered, and none before the clock.
TEST(SlurmScript, BeginsWithItsTrapAndTheClock) {
  const std::string text = slurm_script(small());
  const size_t options = text.rfind("#SBATCH"), clock = text.find("TAEL_JOB_STARTED=$(date +%s.%N)\n");
  ASSERT_NE(clock, std::string::npos);
  std::string between = text.substr(options, clock - options);
  std::string commands;
  while (!between.empty()) {
    const size_t end = between.find('\n') + 1;
    if (between.front() != '#') commands += between.substr(0, end);
    between.erase(0, end);
  }
  EXPECT_EQ(commands, "\nasked=\ntrap 'asked=1' USR1\n");
}

TEST(SlurmScript, PassesOptionsOn) {
  SlurmScript script = small();
  script.threads_per_rank.reset();
  EXPECT_TRUE(has(slurm_script(script), "#SBATCH --exclusive\n"));
  script.options = {{"exclusive", "user"}, {"partition", "gpu"}, {"constraint", "[a|b]&c"}, {"job-name", "mine"}};
  const std::string text = slurm_script(script);
  EXPECT_FALSE(has(text, "--exclusive\n"));
  EXPECT_TRUE(has(text, "#SBATCH --exclusive=user\n"));
  EXPECT_TRUE(has(text, "#SBATCH --partition=gpu\n"));
  EXPECT_TRUE(has(text, "#SBATCH --constraint=\"[a|b]&c\"\n"));
  EXPECT_TRUE(has(text, "#SBATCH --job-name=mine\n"));
  EXPECT_FALSE(has(text, "tael-first"));
  script.options = {{"exclusive", "false"}};
  EXPECT_FALSE(has(slurm_script(script), "--exclusive"));
}

TEST(SlurmScript, StartsWithSrunOnRequest) {
  SlurmScript script = small();
  script.launcher = Launcher::srun;
  const std::string text = slurm_script(script);
  EXPECT_TRUE(has(text, "srun --mpi=pmix --ntasks=8 --ntasks-per-node=4 --cpus-per-task=8 --cpu-bind=none "));
  EXPECT_FALSE(has(text, "mpirun -n"));
}

TEST(SlurmScript, QuotesWhatPeopleName) {
  SlurmScript script = small();
  script.directory = "/data/ada/it's $HOME";
  script.run = "/data/ada/100% `here`";
  script.words = {"my file.yaml", "data.train=[a.h5, b.h5]", "run.dir=it's"};
  const std::string text = slurm_script(script);
  EXPECT_TRUE(has(text, "\ncd '/data/ada/it'\\''s $HOME' || exit 74\n")) << text;
  EXPECT_TRUE(has(text, "#SBATCH --output=\"/data/ada/100%% `here`/log/slurm-%j.out\"\n")) << text;
  EXPECT_TRUE(has(text, "#SBATCH --job-name=tael-100___here_\n"));
  EXPECT_TRUE(has(text, "train 'my file.yaml' 'data.train=[a.h5, b.h5]' 'run.dir=it'\\''s' &\n")) << text;
  script.run = "/data/ada/a\"b";
  EXPECT_TRUE(has(error_of(Exit::bad_config, [&] { slurm_script(script); }), "run.dir: /data/ada/a\"b"));
  EXPECT_EQ(shell_quoted(""), "''");
  EXPECT_EQ(shell_quoted("a=1,b:2"), "a=1,b:2");
}

TEST(SlurmScript, WritesTimesAsSlurmDoes) {
  EXPECT_EQ(slurm_time(1), "00:01:00");
  EXPECT_EQ(slurm_time(1200), "20:00:00");
  EXPECT_EQ(slurm_time(1440), "1-00:00:00");
  EXPECT_EQ(slurm_time(1440 * 7 + 61), "7-01:01:00");
}

}  // namespace
}  // namespace tael
