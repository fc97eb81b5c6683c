#include "trainer/completion.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/harness/configuration.hpp"

namespace tael {
namespace {

using testing::kSearch;

const CommandTree kTree{
    .name = "tael",
    .does = "",
    .options = {{.name = "--color", .help = "colour", .words = {"auto", "always", "never"}}},
    .verbs = {
        {.name = "train",
         .does = "train a model",
         .options = {{.name = "--dry-run", .help = "write nothing", .takes_value = false},
                     {.name = "--resume", .help = "from where", .kind = ValueKind::file, .words = {"auto", "never"}}},
         .arguments = {{.name = "config", .help = "", .kind = ValueKind::config},
                       {.name = "overrides", .help = "", .many = true, .kind = ValueKind::overrides}}},
        {.name = "data",
         .does = "shards",
         .verbs = {{.name = "inspect",
                    .does = "look\tinto\none",
                    .arguments = {{.name = "shard", .help = "", .kind = ValueKind::file}}}}},
        {.name = "trace", .does = ""}}};

std::vector<std::string> words(const std::vector<std::string>& typed) {
  std::vector<std::string> out;
  for (const Candidate& c : complete(kTree, typed, kSearch).words) out.push_back(c.word);
  return out;
}
bool files(const std::vector<std::string>& typed) { return complete(kTree, typed, kSearch).files; }
using Words = std::vector<std::string>;

TEST(Completion, VerbsAndOptionsOfTheTree) {
  EXPECT_EQ(words({""}), (Words{"train", "data", "trace"}));
  EXPECT_EQ(words({"tra"}), (Words{"train", "trace"}));
  EXPECT_EQ(words({}), (Words{"train", "data", "trace"}));
  EXPECT_EQ(words({"data", ""}), Words{"inspect"});
  EXPECT_EQ(words({"-"}), Words{"--color"});
  EXPECT_EQ(words({"train", "--"}), (Words{"--dry-run", "--resume", "--color"}));
  EXPECT_EQ(words({"nonsense", ""}), Words{});
  EXPECT_EQ(words({"train", "--nonsense", "x", "y", "optimizer.l"}), Words{"optimizer.lr="});
  const Candidates found = complete(kTree, Words{"data", "in"}, kSearch);
  EXPECT_EQ(found.words[0].help, "look into");  // one line without tabs
}

TEST(Completion, ValuesOfOptions) {
  EXPECT_EQ(words({"--color", ""}), (Words{"auto", "always", "never"}));
  EXPECT_EQ(words({"--color", "al"}), Words{"always"});
  EXPECT_EQ(words({"train", "--color=a"}), (Words{"--color=auto", "--color=always"}));
  EXPECT_EQ(words({"train", "--resume", "n"}), Words{"never"});
  EXPECT_TRUE(files({"train", "--resume", "n"}));
  EXPECT_EQ(words({"train", "--dry-run=a"}), Words{});
  // A flag takes no value: what follows it is an argument; an option's value is none.
  EXPECT_EQ(words({"train", "--dry-run", "models/deepseek_v3_t"}), Words{"models/deepseek_v3_tiny"});
  EXPECT_EQ(words({"train", "--resume", "auto", "models/deepseek_v3_t"}), Words{"models/deepseek_v3_tiny"});
}

TEST(Completion, ConfigurationsAndFiles) {
  EXPECT_EQ(words({"train", "experiments/q"}), Words{"experiments/quickstart"});
  EXPECT_TRUE(files({"train", ""}));
  EXPECT_TRUE(files({"data", "inspect", "x"}));
  EXPECT_FALSE(files({"data", "inspect", "x", ""}));  // one argument only
  EXPECT_EQ(complete(kTree, Words{"train", ""}, {}).words.size(), 0u);
}

TEST(Completion, EveryKeyWithItsSection) {
  const Words keys = words({"train", "x", ""});
  size_t expected = 0;
  for (const SchemaEntry& entry : config_schema().entries) {
    if (entry.section || entry.use != FieldUse::value) continue;
    ++expected;
    EXPECT_NE(std::find(keys.begin(), keys.end(), entry.path + "="), keys.end()) << entry.path;
  }
  EXPECT_EQ(keys.size(), expected + 1);  // model.preset
  for (const Candidate& c : complete(kTree, Words{"train", "x", ""}, kSearch).words) {
    EXPECT_TRUE(c.open && !c.help.empty()) << c.word;
  }
  EXPECT_EQ(words({"train", "x", "a=1", "run."}), (Words{"run.dir=", "run.seed="}));
}

TEST(Completion, WordsBehindTheEqualsSign) {
  EXPECT_EQ(words({"train", "x", "precision.compute="}), (Words{"precision.compute=auto", "precision.compute=fp32",
                                                                "precision.compute=bf16", "precision.compute=fp8"}));
  EXPECT_EQ(words({"train", "x", "data.shuffle=t"}), Words{"data.shuffle=true"});
  EXPECT_EQ(words({"train", "x", "parallelism.data_parallel="}), Words{"parallelism.data_parallel=auto"});
  EXPECT_EQ(words({"train", "x", "optimizer.lr="}), Words{"optimizer.lr=0.003"});  // the default
  EXPECT_EQ(words({"train", "x", "lr_scheduler.decay=c"}),
            (Words{"lr_scheduler.decay=constant", "lr_scheduler.decay=cosine"}));
  EXPECT_EQ(words({"train", "x", "model.preset=moon"}), Words{"model.preset=moonlight"});
  EXPECT_TRUE(files({"train", "x", "data.train="}));
  EXPECT_FALSE(files({"train", "x", "optimizer.lr="}));
  EXPECT_EQ(words({"train", "x", "nothing.known="}), Words{});
  EXPECT_EQ(words({"train", "x", "training="}), Words{});
}

TEST(Completion, TheAnswerIsOneLineEach) {
  EXPECT_EQ(completion_answer({.words = {{"run.dir=", "A path.", true}, {"auto", "", false}}, .files = true}),
            "run.dir=\tA path.\topen\nauto\t\n:files\n");
}

TEST(Completion, ScriptsNameTheProgram) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = completion_script(shell, "/opt/it's/tael");
    EXPECT_NE(script.find("'/opt/it'\\''s/tael'"), std::string::npos) << shell;
    EXPECT_EQ(script.find("PROGRAM"), std::string::npos) << shell;
    EXPECT_NE(script.find("__complete"), std::string::npos) << shell;
  }
  EXPECT_THROW(completion_script("tcsh", "tael"), Error);
}

}  // namespace
}  // namespace tael
