#include "base/bulk_copy.hpp"

#include <gtest/gtest.h>

#include <string>

#include "tests/harness/random.hpp"

namespace tael {
namespace {

TEST(BulkCopy, MovesEveryByteAndNoOther) {
  testing::Random random(5);
  constexpr size_t kLongest = 70'000;  // several pages go together
  std::string from(kLongest + 400, '\0');
  for (char& c : from) c = static_cast<char>(random.below(256));
  for (size_t bytes = 0; bytes <= kLongest; bytes += bytes < 300 ? 1 : bytes < 1100 ? 97 : 2731) {
    for (const size_t to_at : {0, 1, 15, 16, 63, 64}) {
      for (const size_t from_at : {0, 1, 8, 63}) {
        std::string to(bytes + 200, 'x'), expected = to;
        bulk_copy(to.data() + to_at, from.data() + from_at, bytes);
        expected.replace(to_at, bytes, from, from_at, bytes);
        ASSERT_EQ(to, expected) << bytes << " bytes to " << to_at << " from " << from_at;
      }
    }
  }
  bulk_copy(nullptr, nullptr, 0);
}

}  // namespace
}  // namespace tael
