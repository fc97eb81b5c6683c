// How a world of processes ends when a rank fails: the launcher's exit code, one message, and nobody hangs.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

namespace tael {
namespace {

struct Ended {
  int code = -1;
  std::string output;
  int messages = 0;  // lines of the program itself
};

Ended run_probe(int ranks, const std::string& arguments) {
  const std::string command =
      fmt::format("{} {} -n {} {} {} 2>&1", TAEL_MPI_ENVIRONMENT, TAEL_MPIRUN, ranks, TAEL_MPI_EXIT_PROBE, arguments);
  Ended ended;
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> buffer;
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) ended.output.append(buffer.data(), n);
  const int status = pclose(pipe);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  for (size_t at = 0; (at = ended.output.find("probe: ", at)) != std::string::npos; ++at) ++ended.messages;
  return ended;
}

TEST(MpiExit, AllIsWell) {
  const Ended ended = run_probe(2, "agreed 9 78");
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_EQ(ended.messages, 0) << ended.output;
}

TEST(MpiExit, AnAgreedFailurePrintsOnceAndReturnsItsCode) {
  const Ended one = run_probe(3, "agreed 1 78");
  EXPECT_EQ(one.code, 78) << one.output;
  EXPECT_EQ(one.messages, 1) << one.output;
  EXPECT_NE(one.output.find("probe: rank 1: broken on purpose\n"), std::string::npos) << one.output;
  const Ended all = run_probe(2, "agreed -1 65");
  EXPECT_EQ(all.code, 65) << all.output;
  EXPECT_EQ(all.messages, 1) << all.output;
  EXPECT_NE(all.output.find("probe: broken on purpose\n"), std::string::npos) << all.output;
}

TEST(MpiExit, AFailureOfOneRankAbortsAllWithItsCode) {
  for (const int failing : {0, 2})
    for (const int code : {1, 71, 75, 78}) {
      const Ended ended = run_probe(3, fmt::format("alone {} {}", failing, code));
      EXPECT_EQ(ended.code, code) << ended.output;
      EXPECT_EQ(ended.messages, 1) << ended.output;
      EXPECT_NE(ended.output.find(fmt::format("probe: rank {}: broken on purpose\n", failing)), std::string::npos)
          << ended.output;
    }
}

TEST(MpiExit, AnErrorThatDestroysTheCommunicatorDoesNotHang) {
  const Ended ended = run_probe(2, "escape 1 74");
  EXPECT_EQ(ended.code, 70) << ended.output;
}

}  // namespace
}  // namespace tael
