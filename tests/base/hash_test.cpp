#include "base/hash.hpp"

#include <array>
#include <numeric>
#include <string>
#include <vector>

#include "base/rng.hpp"

namespace tael {
namespace {

// RFC 3720 (iSCSI) appendix B.4, and the check value of the CRC catalogue.
TEST(Hash, Crc32cKnownAnswers) {
  std::array<unsigned char, 32> bytes{};
  for (auto* crc : {&crc32c, &crc32c_portable}) {
    bytes.fill(0);
    EXPECT_EQ(crc(bytes.data(), 32, 0), 0x8A9136AAu);
    bytes.fill(0xff);
    EXPECT_EQ(crc(bytes.data(), 32, 0), 0x62A8AB43u);
    std::iota(bytes.begin(), bytes.end(), 0);
    EXPECT_EQ(crc(bytes.data(), 32, 0), 0x46DD794Eu);
    EXPECT_EQ(crc("123456789", 9, 0), 0xE3069283u);
    EXPECT_EQ(crc("", 0, 0), 0u);
  }
}

TEST(Hash, Crc32cOfPiecesAndBothImplementations) {
  const Rng rng(7, "hash test");
  std::vector<unsigned char> data(1000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<unsigned char>(rng.bits(i));
  for (size_t n = 0; n < data.size(); n += 13) {
    const uint32_t whole = crc32c_portable(data.data(), n);
    EXPECT_EQ(crc32c(data.data(), n), whole);
    const size_t cut = n / 3;
    EXPECT_EQ(crc32c(data.data() + cut, n - cut, crc32c(data.data(), cut)), whole);
    EXPECT_EQ(crc32c_portable(data.data() + cut, n - cut, crc32c_portable(data.data(), cut)), whole);
  }
}

// The values of `xxhsum -H3` and `xxhsum -H128`.
TEST(Hash, Xxh3KnownAnswers) {
  EXPECT_EQ(xxh3_64(""), 0x2d06800538d394c2u);
  EXPECT_EQ(to_hex(xxh3_128("", 0)), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(xxh3_64("abc"), 0x78af5f94892f3950u);
  EXPECT_EQ(to_hex(xxh3_128("abc", 3)), "06b05ab6733a618578af5f94892f3950");
}

TEST(Hash, Xxh3OfPieces) {
  std::string text(100000, 'a');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 % 251);
  Xxh3 stream;
  for (size_t cut : {size_t{0}, size_t{1}, size_t{255}, size_t{4096}, text.size()}) {
    stream.reset();
    stream.update(text.data(), cut);
    stream.update(text.data() + cut, text.size() - cut);
    EXPECT_EQ(stream.digest_128(), xxh3_128(text.data(), text.size()));
  }
  Xxh3 moved = std::move(stream);
  EXPECT_EQ(moved.digest_128(), xxh3_128(text.data(), text.size()));
}

}  // namespace
}  // namespace tael
