#include "cost/job_time.hpp"

#include <gtest/gtest.h>

namespace tael {
namespace {

TEST(MeasuredSteps, AreTheMedianOfTheLastLineOfEachStep) {
  const auto steps = measured_steps(R"(a": 9}
{"kind":"step","step":1,"perf/tflops_per_gpu":0.9}
{"kind":"step","step":2,"perf/tflops_per_gpu":0.01}
{"kind":"eval","step":2,"valid/loss":1.5}
{"kind":"step","step":3,"perf/tflops_per_gpu":0.9}
{"kind":"step","step":3,"perf/tflops_per_gpu":0.02}
{"kind":"step","step":4,"perf/tflops_per_gpu":0.005}
{"kind":"step","step":5,"perf/tflops_per_gpu":null,"nonfinite":["perf/tflops_per_gpu"]}
{"kind":"end","step":5,"state":"stopped"}
{"kind":"step","step":6,"perf/tfl)");
  ASSERT_TRUE(steps);
  EXPECT_EQ(steps->count, 4);
  EXPECT_DOUBLE_EQ(steps->median_flops, 0.01e12);  // of 0.005, 0.01, 0.02, 0.9
}

TEST(MeasuredSteps, AreNothingWithoutAStep) {
  EXPECT_FALSE(measured_steps(""));
  EXPECT_FALSE(measured_steps("{\"kind\":\"end\",\"step\":0,\"state\":\"failed\"}\n"));
  EXPECT_FALSE(measured_steps("{\"kind\":\"step\",\"step\":1,\"perf/tflops_per_gpu\":3.0}"));  // torn: no end of line
}

TEST(JobTime, PredictsFromArithmeticAndBytes) {
  EXPECT_DOUBLE_EQ(predicted_step_seconds(1e12, 1e12), 4.0);        // a quarter of the peak
  EXPECT_DOUBLE_EQ(predicted_save_seconds(2e9), 11.0);              // 200 MB/s
  EXPECT_DOUBLE_EQ(predicted_start_up_seconds(2e9, 4e9), 15 + 30);  // both are read
}

TEST(JobTime, CountsTheEvaluationsThatAreLeft) {
  EXPECT_EQ(evaluations_left(0, 10, 0), 1);  // at the end
  EXPECT_EQ(evaluations_left(0, 10, 5), 2);  // 5, 10
  EXPECT_EQ(evaluations_left(0, 11, 5), 3);  // 5, 10, 11
  EXPECT_EQ(evaluations_left(5, 11, 5), 2);  // that of step 5 was made
  EXPECT_EQ(evaluations_left(4, 10, 5), 2);
  EXPECT_EQ(evaluations_left(10, 10, 5), 0);
  for (int64_t steps = 1; steps < 30; ++steps) {
    for (int64_t done = 0; done <= steps; ++done) {
      for (int64_t interval = 0; interval < 8; ++interval) {
        int64_t count = 0;
        for (int64_t step = done + 1; step <= steps; ++step)
          count += step == steps || (interval > 0 && step % interval == 0) ? 1 : 0;
        EXPECT_EQ(evaluations_left(done, steps, interval), count) << done << " " << steps << " " << interval;
      }
    }
  }
}

TEST(JobTime, ChoosesALimit) {
  const JobTime time{.start_up_seconds = 20, .step_seconds = 2, .save_seconds = 4};
  EXPECT_EQ(default_limit_minutes(time, 30), 10);        // at least ten minutes
  EXPECT_EQ(default_limit_minutes(time, 7200), 181);     // 1.5 x 2 h and 24 s
  EXPECT_EQ(default_limit_minutes(time, 1e6), 24 * 60);  // the job goes on by itself
  EXPECT_EQ(default_limit_minutes({.start_up_seconds = 1e5, .step_seconds = 1e4, .save_seconds = 1e3}, 1e6),
            (112'000 + 60 + 59) / 60);  // but an attempt must be able to do something
}

TEST(JobTime, AsksForTheSignalInTime) {
  const JobTime time{.start_up_seconds = 20, .step_seconds = 2.5, .save_seconds = 4};
  EXPECT_EQ(signal_seconds(time, 3600), 71);  // 2 x 4 + 2.5 + 60, rounded up
  EXPECT_EQ(signal_seconds(time, 60), 38);    // not before the first step has ended
  EXPECT_EQ(signal_seconds(time, 10), 1);
  EXPECT_EQ(signal_seconds({.start_up_seconds = 1, .step_seconds = 1e5, .save_seconds = 1}, 1e7), 65535);
}

}  // namespace
}  // namespace tael
