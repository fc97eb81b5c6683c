#include "kernels/pieces.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/pieces_reference.hpp"
#include "tests/harness/random.hpp"
#include "tests/harness/tolerance.hpp"
#include "tests/kernels/isa_cases.hpp"

namespace tael {
namespace {

using testing::Random;
using testing::same_bits;

class PiecesTest : public testing::IsaTest {
 protected:
  Random random{11};
};

TEST_P(PiecesTest, TreeBitForBit) {
  for (int64_t pieces : {1, 2, 3, 5, 8, 13})
    for (int64_t rows : {0, 1, 17})
      for (int64_t cols : {0, 1, 15, 16, 37}) {
        const int64_t pitch = cols + 3, x_pitch = cols + 5;
        const std::vector<float> x = random.normals(pieces * rows * x_pitch), before = random.normals(rows * pitch);
        const std::vector<float> base = random.normals(rows * pitch);
        const Cube<const float> x_PMN = {x.data(), {pieces, rows, cols}, x_pitch};
        for (int kind = 0; kind < 3; ++kind) {  // no base, a base elsewhere, in place
          std::vector<float> y = before, expected = before;
          const auto args = [&](std::vector<float>& out) {
            JoinPieces<float> a = {mat(out.data(), rows, cols, pitch), {}, x_PMN};
            if (kind == 1) a.base_MN = mat<const float>(base.data(), rows, cols, pitch);
            if (kind == 2) a.base_MN = a.y_MN;
            return a;
          };
          join_pieces(stream(), args(y));
          reference::join_pieces<float>(args(expected));
          EXPECT_TRUE(same_bits(y, expected)) << pieces << " pieces of " << rows << " x " << cols << ", kind " << kind;
        }
      }
}

// Written out: the order of addition is part of the contract.
TEST_P(PiecesTest, TheTreeOfFiveAndOfEight) {
  const auto join = [&](std::vector<float> x) {
    float y = 0;
    const auto pieces = static_cast<int64_t>(x.size());
    join_pieces(stream(), {mat(&y, 1, 1), {}, cube<const float>(x.data(), pieces, 1, 1)});
    return y;
  };
  const std::vector<float> v = random.normals(8);
  EXPECT_EQ(join({v[0], v[1], v[2], v[3], v[4]}), (v[0] + v[1]) + (v[2] + (v[3] + v[4])));
  EXPECT_EQ(join(v), ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])));
  EXPECT_EQ(join({1e8f, 1.0f, -1e8f}), 1e8f + (1.0f + -1e8f));
}

TEST_P(PiecesTest, YMayBeTheFirstPiece) {
  std::vector<float> x = random.normals(3 * 4 * 21);
  std::vector<float> expected(4 * 21);
  reference::join_pieces<float>({mat(expected.data(), 4, 21), {}, cube<const float>(x.data(), 3, 4, 21)});
  join_pieces(stream(), {mat(x.data(), 4, 21), {}, cube<const float>(x.data(), 3, 4, 21)});
  x.resize(expected.size());
  EXPECT_TRUE(same_bits(x, expected));
}

TEST_P(PiecesTest, AddToBitForBit) {
  for (int64_t rows : {0, 1, 33})
    for (int64_t cols : {1, 16, 50}) {
      std::vector<float> y = random.normals(rows * (cols + 2));
      const std::vector<float> x = random.normals(rows * (cols + 1));
      std::vector<float> expected = y;
      const Mat<const float> x_MN = mat(x.data(), rows, cols, cols + 1);
      add_to(stream(), {mat(y.data(), rows, cols, cols + 2), x_MN});
      reference::add_to<float>({mat(expected.data(), rows, cols, cols + 2), x_MN});
      EXPECT_TRUE(same_bits(y, expected)) << rows << " x " << cols;
    }
}

INSTANTIATE_FOR_EVERY_ISA(PiecesTest);

}  // namespace
}  // namespace tael
