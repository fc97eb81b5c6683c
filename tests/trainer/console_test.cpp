#include "trainer/console.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <limits>
#include <string>

#include "base/file.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

StepReport report(int64_t step, double loss) {
  StepReport r{.step = step, .tokens = step * 2048};
  r.loss = loss;
  r.mtp_loss = 6.94;
  r.grad_norm = 1.823;
  r.lr = 1.2e-5;
  r.tokens_per_s = 7412.4;
  r.step_ms = 276.31;
  r.mfu = 0.512;
  r.peak_gib = 0.2;
  r.max_violation = 1.41;
  r.gpu_hours = 0.0123;
  return r;
}

TEST(Console, Counts) {
  EXPECT_EQ(counted(0, 9), "0");
  EXPECT_EQ(counted(999, 9), "999");
  EXPECT_EQ(counted(40960, 9), "40,960");
  EXPECT_EQ(counted(1234567, 9), "1,234,567");
  EXPECT_EQ(counted(1234567, 8), "1.235M");
  EXPECT_EQ(counted(12345678, 9), "12.35M");
  EXPECT_EQ(counted(123456789, 9), "123.5M");
  EXPECT_EQ(counted(999960000, 9), "1.000B");
  EXPECT_EQ(counted(14.8e12, 9), "14.80T");
  EXPECT_EQ(counted(1.5e18, 9), "1.50e+18");
  EXPECT_EQ(counted(kNan, 9), "nan");
  EXPECT_EQ(grouped(-1234567), "-1,234,567");
  EXPECT_EQ(grouped(-123), "-123");
  EXPECT_EQ(count_of(1, "step"), "1 step");
  EXPECT_EQ(count_of(0, "step"), "0 steps");
  EXPECT_EQ(count_of(1200, "step"), "1,200 steps");
  EXPECT_EQ(grouped(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
}

TEST(Console, Durations) {
  EXPECT_EQ(duration(0), "00:00");
  EXPECT_EQ(duration(49.4), "00:49");
  EXPECT_EQ(duration(3599.6), "1:00:00");
  EXPECT_EQ(duration(3723), "1:02:03");
  EXPECT_EQ(duration(44 * 86400.0 + 17 * 3600), "44d17h");
  for (const double unknown : {-1.0, kNan, std::numeric_limits<double>::infinity()}) EXPECT_EQ(duration(unknown), "-");
}

TEST(Console, AStepLineStandsUnderItsHead) {
  const Console console({.mtp = true, .experts = true});
  EXPECT_EQ(console.head(),
            "    step      loss      mtp     gnorm        lr    tokens     tok/s      ms    mfu     mem maxvio     "
            "hours      left");
  EXPECT_EQ(console.line(report(20, 5.22074), 49),
            "      20   5.22074  6.94000    1.8230  1.20e-05    40,960     7,412   276.3  51.2%   0.20G  1.410    "
            "0.0123     00:49");
}

TEST(Console, ColumnsThatTheRunDoesNotHaveAreNotThere) {
  const Console console({});
  EXPECT_EQ(console.head().find("mtp"), std::string::npos);
  EXPECT_EQ(console.head().find("maxvio"), std::string::npos);
  StepReport r = report(20, 5.22074);
  r.mfu.reset();
  EXPECT_EQ(console.line(r, -1).size(), console.head().size());
  EXPECT_NE(console.line(r, -1).find("       -"), std::string::npos);
}

TEST(Console, NoLineIsWiderThan150) {
  const Console console({.mtp = true, .experts = true});
  for (const double wild : {kNan, 1e300, -1e300, -std::numeric_limits<double>::infinity(), 1e-300, 99999.999999}) {
    StepReport r{.step = std::numeric_limits<int64_t>::max(), .tokens = std::numeric_limits<int64_t>::max()};
    r.loss = r.grad_norm = r.lr = r.tokens_per_s = r.step_ms = r.peak_gib = wild;
    r.mtp_loss = r.max_violation = r.mfu = wild;
    EXPECT_LE(console.line(r, wild).size(), 150u) << console.line(r, wild);
  }
  EXPECT_LE(console.head().size(), 150u);
}

TEST(Console, LossKeepsFiveDecimals) {
  const Console console({});
  EXPECT_NE(console.line(report(1, 2.103874), 0).find(" 2.10387 "), std::string::npos);
  EXPECT_NE(console.line(report(1, 123.456789), 0).find(" 123.45679 "), std::string::npos);
}

TEST(Console, Evaluation) {
  const Console console({});
  EvalReport r{.step = 100, .loss = 3.87421, .ppl = 48.1456, .bits_per_byte = 5.5893, .targets = 13107};
  EXPECT_EQ(console.line(r), "   valid  step 100  loss 3.87421  ppl 48.146  bits/byte 5.5893  (13,107 targets)");
  r.bits_per_byte.reset();
  EXPECT_EQ(console.line(r).find("bits"), std::string::npos);
}

TEST(Console, ColourOnlyWhereItIsWanted) {
  EXPECT_TRUE(use_color(ColorMode::automatic, true, nullptr, "xterm"));
  EXPECT_TRUE(use_color(ColorMode::automatic, true, "", "xterm"));
  EXPECT_FALSE(use_color(ColorMode::automatic, true, "1", "xterm"));
  EXPECT_FALSE(use_color(ColorMode::automatic, false, nullptr, "xterm"));
  EXPECT_FALSE(use_color(ColorMode::automatic, true, nullptr, "dumb"));
  EXPECT_FALSE(use_color(ColorMode::automatic, true, nullptr, nullptr));
  EXPECT_TRUE(use_color(ColorMode::always, false, "1", "dumb"));
  EXPECT_FALSE(use_color(ColorMode::never, true, nullptr, "xterm"));
}

// Everything printed by `use` on a console with these options.
template <class Use>
std::string printed(ConsoleOptions options, const Use& use) {
  const std::string path = testing::process_scratch().at("console.txt");
  options.out = std::fopen(path.c_str(), "w");
  Console console(options);
  use(console);
  std::fclose(options.out);
  return read_file(path);
}

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(Console, TheHeadComesBack) {
  const auto steps = [](Console& console) {
    for (int64_t i = 1; i <= 501; ++i) console.step(report(i, 5), 0);
  };
  EXPECT_EQ(count(printed({.is_terminal = true}, steps), "gnorm"), 13u);  // before 1, 41, ..., 481
  EXPECT_EQ(count(printed({.is_terminal = false}, steps), "gnorm"), 2u);
}

TEST(Console, NoEscapesWithoutColour) {
  const auto all = [](Console& console) {
    console.fact("model", "4 layers");
    console.step(report(1, 5), 0);
    console.eval({});
    console.warn("step 5: gradient norm 1.94");
    console.error("gone");
  };
  const std::string plain = printed({}, all), painted = printed({.color = true}, all);
  EXPECT_EQ(plain.find('\033'), std::string::npos);
  EXPECT_EQ(plain.substr(0, plain.find('\n')), "model    4 layers");
  EXPECT_NE(plain.find("! step 5: gradient norm 1.94\ntael: gone\n"), std::string::npos);
  EXPECT_NE(painted.find("\033[33m! step 5: gradient norm 1.94\033[0m\n"), std::string::npos);
  EXPECT_EQ(count(painted, "\033[0m"), 5u);  // the plain step line has none
}

}  // namespace
}  // namespace tael
