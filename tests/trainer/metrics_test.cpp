#include "trainer/metrics.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "base/json.hpp"
#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

std::string place(const char* name) {
  const std::string path = testing::process_scratch().at(name);
  remove_tree(path);
  return path;
}

Clock::time_point at(int64_t milliseconds) { return Clock::time_point(std::chrono::milliseconds(milliseconds)); }

StepReport full_report() {
  return {.step = 3,
          .tokens = 6144,
          .loss = 5.25,
          .mtp_loss = 5.5,
          .balance_loss = 1e-4,
          .grad_norm = 0.1,
          .lr = 3e-3,
          .tokens_per_s = 7412,
          .tokens_per_s_per_rank = 3706,
          .step_ms = 276.3,
          .tflops_per_rank = 0.05,
          .mfu = 0.5,
          .peak_gib = 0.25,
          .max_violation = 1.5,
          .bias_abs_max = 0.003,
          .bytes_between_hosts = 0,
          .bytes_within_host = 9007199254740991,
          .gpu_hours = 0.001,
          .money = 0.002};
}

TEST(Metrics, TimeIsUtcWithMilliseconds) {
  EXPECT_EQ(iso_time(at(0)), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(iso_time(at(1732435205067)), "2024-11-24T08:00:05.067Z");
  EXPECT_EQ(iso_time(at(-1)), "1969-12-31T23:59:59.999Z");
}

TEST(Metrics, AStepIsOneLineUnderTheNamesOfTheContract) {
  const std::string path = place("step");
  MetricsFile file(path, 2);
  file.write(full_report(), at(0));
  EXPECT_EQ(read_file(path),
            R"({"t":"1970-01-01T00:00:00.000Z","attempt":2,"step":3,"tokens":6144,"kind":"step","train/loss":5.25,)"
            R"("train/mtp_loss":5.5,"train/balance_loss":1e-04,"train/grad_norm":0.1,"train/lr":0.003,)"
            R"("perf/tokens_per_s":7412.0,"perf/tokens_per_s_per_gpu":3706.0,"perf/step_ms":276.3,)"
            R"("perf/tflops_per_gpu":0.05,"perf/mfu":0.5,"mem/peak_gib":0.25,"moe/max_violation":1.5,)"
            R"("moe/bias_abs_max":0.003,"comm/bytes_between_hosts":0,"comm/bytes_within_host":9007199254740991,)"
            R"("cost/gpu_hours":0.001,"cost/money":0.002})"
            "\n");
}

TEST(Metrics, WhatARunDoesNotHaveIsAbsent) {
  const std::string path = place("absent");
  MetricsFile(path, 1).write(StepReport{.step = 1}, at(0));
  const std::string line = read_file(path);
  for (const char* name : {"mtp_loss", "balance_loss", "perf/mfu", "moe/", "cost/money", "nonfinite"})
    EXPECT_EQ(line.find(name), std::string::npos) << name;
}

TEST(Metrics, NumbersThatAreNotFiniteAreNullAndNamed) {
  const std::string path = place("nonfinite");
  StepReport report{.step = 1};
  report.loss = kNan;
  report.grad_norm = -kInf;
  MetricsFile(path, 1).write(report, at(0));
  const JsonDocument line = JsonDocument::parse(read_file(path), path);
  EXPECT_TRUE(line.root().at("train/loss").is_null());
  EXPECT_TRUE(line.root().at("train/grad_norm").is_null());
  const auto& names = line.root().at("nonfinite").items();
  ASSERT_EQ(names.size(), 2u);
  EXPECT_EQ(names[0].as_string(), "train/loss");
  EXPECT_EQ(names[1].as_string(), "train/grad_norm");
}

TEST(Metrics, EveryKindOfLineIsJsonWithTheSameHead) {
  const std::string path = place("kinds");
  MetricsFile file(path, 1);
  file.write(full_report(), at(0));
  file.write(EvalReport{.step = 3, .tokens = 6144, .loss = 3.5, .ppl = 33.1, .bits_per_byte = 5.05, .targets = 100},
             at(1));
  file.write_event(3, 6144, "lr 3e-3 -> \"1e-3\"\n", at(2));
  file.write_end(4, 8192, "done", at(3));
  file.sync();
  std::string text = read_file(path), kinds;
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    ASSERT_NE(end, std::string::npos);
    const JsonDocument line = JsonDocument::parse(text.substr(0, end), path, {.first_line = ++number});
    const auto& members = line.root().members();
    ASSERT_GE(members.size(), 5u);
    const char* head[] = {"t", "attempt", "step", "tokens", "kind"};
    std::set<std::string> names;
    for (size_t i = 0; i < members.size(); ++i) {
      if (i < 5) {
        EXPECT_EQ(members[i].key, head[i]);
      }
      EXPECT_TRUE(names.insert(members[i].key).second) << members[i].key << " twice";
    }
    kinds += line.root().at("kind").as_string() + " ";
    text.erase(0, end + 1);
  }
  EXPECT_EQ(kinds, "step eval event end ");
}

TEST(Metrics, ASecondAttemptGoesOnBehindATornLine) {
  const std::string path = place("exists");
  MetricsFile(path, 1).write_event(1, 10, "first", at(0));
  const std::string whole = read_file(path), torn = whole + "{\"t\":\"19";
  replace_file(path, torn);
  MetricsFile(path, 2).write_event(1, 10, "second", at(0));
  const std::string text = read_file(path);
  EXPECT_EQ(text.substr(0, torn.size() + 1), torn + "\n");
  EXPECT_NE(text.find("\"attempt\":2"), std::string::npos);
  EXPECT_EQ(text.back(), '\n');
}

}  // namespace
}  // namespace tael
