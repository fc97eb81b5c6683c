#include "checkpoint/safetensors.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

// A file with this header and so many bytes after it.
std::string file_bytes(const std::string& header, size_t data_bytes) {
  const uint64_t size = header.size();
  std::string bytes(reinterpret_cast<const char*>(&size), sizeof size);
  return bytes + header + std::string(data_bytes, '\x11');
}

struct BadFile {
  const char* what;
  std::string bytes;
  std::string message;  // DIR stands for the directory
};

std::vector<BadFile> bad_files() {
  const auto tensor = [](const std::string& entry, size_t bytes) { return file_bytes("{\"a\":" + entry + "}", bytes); };
  const std::string f = "DIR/x.safetensors: ", a = f + "tensor \"a\": ";
  std::vector<BadFile> files = {
      {"empty", "", f + "0 bytes, too short for a safetensors file"},
      {"cut in the length", "\x08\x00\x00", f + "1 bytes, too short for a safetensors file"},
      {"header cut", file_bytes("{}", 0).substr(0, 9),
       f + "the header claims 2 bytes, the file has 1 after its length"},
      {"header of 100 GB", std::string("\x00\x00\x00\x00\x19\x00\x00\x00{}", 10),
       f + "the header claims 107374182400 bytes, more than the 100000000 that the format allows"},
      {"length of all ones", std::string(8, '\xff') + "{}",
       f + "the header claims 18446744073709551615 bytes, more than the 100000000 that the format allows"},
      {"no header", std::string(8, '\0'), f + "the header does not begin with '{'"},
      {"leading space", file_bytes(" {}", 0), f + "the header does not begin with '{'"},
      {"a list", file_bytes("[]", 0), f + "the header does not begin with '{'"},
      {"dtype missing", tensor(R"({"shape":[1],"data_offsets":[0,4]})", 4), a + "\"dtype\" is missing"},
      {"dtype a number", tensor(R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})", 4), a + "\"dtype\" is not a string"},
      {"dtype unknown", tensor(R"({"dtype":"F12","shape":[1],"data_offsets":[0,4]})", 4),
       a + "the format \"F12\" is not known here"},
      {"shape missing", tensor(R"({"dtype":"F32","data_offsets":[0,4]})", 4), a + "\"shape\" is missing"},
      {"shape no list", tensor(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", 4), a + "\"shape\" is not a list"},
      {"negative size", tensor(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4),
       a + "\"shape\" holds something that is not a size"},
      {"fractional size", tensor(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", 4),
       a + "\"shape\" holds something that is not a size"},
      {"size beyond 63 bits", tensor(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]})", 4),
       a + "\"shape\" holds something that is not a size"},
      {"overflow", tensor(R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]})", 0),
       a + "the size of shape [4611686018427387904, 4] overflows"},
      {"nine dimensions", tensor(R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]})", 1),
       a + "9 dimensions, at most 8 are read"},
      {"offsets missing", tensor(R"({"dtype":"F32","shape":[1]})", 4), a + "\"data_offsets\" is missing"},
      {"one offset", tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4]})", 4),
       a + "\"data_offsets\" is not [begin, end]"},
      {"offsets reversed", tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4),
       a + "\"data_offsets\" is not [begin, end]"},
      {"beyond the end", tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 7),
       a + "its bytes end at 8, the file has 7 after the header"},
      {"size against shape", tensor(R"({"dtype":"BF16","shape":[2,3],"data_offsets":[0,8]})", 8),
       a + "BF16 [2, 3] needs 12 bytes, \"data_offsets\" give it 8"},
      {"hole before the first", tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", 8),
       a + "its bytes begin at 4, the tensor before it ends at 0"},
      {"bytes after the last", tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 5),
       f + "1 bytes after the last tensor belong to none"},
      {"overlap",
       file_bytes(
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
           12),
       a + "its bytes begin at 4, the tensor before it ends at 8"},
      {"entry no object", tensor("[]", 0), a + "its entry in the header is not an object"},
      {"the same name twice",
       file_bytes(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
           8),
       "DIR/x.safetensors (header):1:55: the key \"a\" stands twice in one object"},
      {"metadata not text", file_bytes(R"({"__metadata__":{"format":1}})", 0),
       "DIR/x.safetensors (header):1:27: expected a string, found an integer"},
      {"metadata a list", file_bytes(R"({"__metadata__":[]})", 0),
       "DIR/x.safetensors (header):1:17: expected an object, found an array"},
      {"deep", file_bytes(R"({"a":[[[[1]]]]})", 0), "DIR/x.safetensors (header):1:9: nested deeper than 4 levels"},
      {"a name that breaks lines", file_bytes("{\"a\\nb/../c\":{}}", 0),
       f + "tensor \"a\\nb/../c\": \"dtype\" is missing"},
  };
  files[1].message = f + std::to_string(files[1].bytes.size()) + " bytes, too short for a safetensors file";
  return files;
}

TEST(Safetensors, RefusesWhatIsWrongAndSaysWhere) {
  for (const BadFile& bad : bad_files()) {
    const ScratchDirectory scratch;
    scratch.write("x.safetensors", bad.bytes);
    EXPECT_EQ(scratch.relative(error_of(Exit::bad_data, [&] { SafetensorsFile::open(scratch.at("x.safetensors")); })),
              bad.message)
        << bad.what;
  }
  const ScratchDirectory scratch;
  EXPECT_EQ(scratch.relative(error_of(Exit::bad_data, [&] { SafetensorsFile::open(scratch.at("x")); })),
            "DIR/x: no such file");
  scratch.write("x", file_bytes("{\"a\": }", 0));
  EXPECT_EQ(scratch.relative(error_of(Exit::bad_data, [&] { SafetensorsFile::open(scratch.at("x")); })),
            "DIR/x (header):1:7: not JSON: syntax error while parsing value - unexpected '}'; expected '[', '{', or a "
            "literal");
}

TEST(Safetensors, EveryCutOfAFileIsRefused) {
  const ScratchDirectory scratch;
  write_safetensors(scratch.at("good"), {{"a", DType::f32, {3}}, {"b", DType::bf16, {2, 2}}},
                    [](const TensorSpec&, uint64_t, void* out, size_t bytes) { std::memset(out, 7, bytes); });
  const std::string good = read_file(scratch.at("good"));
  for (size_t length = 0; length < good.size(); ++length) {
    scratch.write("cut", good.substr(0, length));
    EXPECT_NE(error_of(Exit::bad_data, [&] { SafetensorsFile::open(scratch.at("cut")); }), "no error") << length;
  }
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  const ScratchDirectory scratch;
  // An empty tensor, a number without dimensions, spaces after the header, no metadata, any order in the header.
  const std::string header =
      R"({"b":{"dtype":"I64","shape":[],"data_offsets":[4,12]},"e":{"data_offsets":[4,4],"shape":[0,7],"dtype":"F32"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}    )";
  scratch.write("x", file_bytes(header, 12));
  const SafetensorsFile file = SafetensorsFile::open(scratch.at("x"));
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.find("e")->elements(), 0);
  EXPECT_EQ(file.find("b")->elements(), 1);
  EXPECT_EQ(file.find("b")->bytes(), 8u);
  EXPECT_EQ(file.find("c"), nullptr);
  int64_t number = 0;
  file.read(*file.find("b"), 0, &number, 8);
  EXPECT_EQ(number, 0x1111111111111111);
  scratch.write("none", file_bytes("{}", 0));
  EXPECT_TRUE(SafetensorsFile::open(scratch.at("none")).tensors().empty());
}

TEST(Safetensors, WritesInTheUsualOrderWhateverTheCallersWas) {
  const ScratchDirectory scratch;
  std::vector<TensorSpec> tensors = {{"z", DType::bf16, {3}},   {"a", DType::u8, {5}},
                                     {"m", DType::f32, {2, 2}}, {"b", DType::f32, {}},
                                     {"i", DType::i64, {1}},    {"big", DType::f32, {1, 1234567}},
                                     {"h", DType::f16, {1}},    {"e", DType::f32, {0, 4}}};
  // Byte i of a tensor is a function of name and i.
  const TensorSource source = [](const TensorSpec& tensor, uint64_t begin, void* out, size_t bytes) {
    EXPECT_LE(bytes, kStreamBytes);
    EXPECT_EQ(begin % size_of(tensor.dtype), 0u);
    EXPECT_EQ(bytes % size_of(tensor.dtype), 0u);
    for (size_t i = 0; i < bytes; ++i)
      static_cast<uint8_t*>(out)[i] = static_cast<uint8_t>((begin + i) * 13 + ((begin + i) >> 9) + tensor.name[0]);
  };
  write_safetensors(scratch.at("one"), tensors, source);
  std::reverse(tensors.begin(), tensors.end());
  write_safetensors(scratch.at("two"), tensors, source);
  EXPECT_EQ(read_file(scratch.at("one")), read_file(scratch.at("two")));
  EXPECT_EQ(read_file(scratch.at("one")).size(), safetensors_file_bytes(tensors));

  const SafetensorsFile file = SafetensorsFile::open(scratch.at("one"));
  std::string order;
  for (const auto& tensor : file.tensors()) {
    order += tensor.name + " ";
    EXPECT_EQ(tensor.offset % size_of(tensor.dtype), 0u) << tensor.name;
    std::vector<uint8_t> bytes(tensor.bytes());
    file.read(tensor, 0, bytes.data(), bytes.size());
    bool good = true;
    for (size_t i = 0; i < bytes.size(); ++i)
      good = good && bytes[i] == static_cast<uint8_t>(i * 13 + (i >> 9) + tensor.name[0]);
    EXPECT_TRUE(good) << tensor.name;
  }
  EXPECT_EQ(order, "i b big e m z h a ");
  EXPECT_EQ(error_of(Exit::io, [&] { write_safetensors(scratch.at("one"), tensors, source); }),
            scratch.at("one") + ": cannot create: File exists");
}

// The files of the golden models came from the usual writer: ours makes the same bytes, header and all.
TEST(Safetensors, WritesTheBytesThatTheUsualWriterWrote) {
  for (const char* name : {"v3/model-00001-of-00002", "v3/model-00002-of-00002", "v3_mtp2/model", "v2/model"}) {
    const std::string path = fmt::format("{}/tests/golden/{}.safetensors", TAEL_SOURCE_DIR, name);
    const SafetensorsFile file = SafetensorsFile::open(path);
    const ScratchDirectory scratch;
    std::vector<TensorSpec> tensors(file.tensors().begin(), file.tensors().end());
    write_safetensors(scratch.at("copy"), tensors,
                      [&](const TensorSpec& tensor, uint64_t begin, void* out, size_t bytes) {
                        file.read(*file.find(tensor.name), begin, out, bytes);
                      });
    std::string original = read_file(path), copy = read_file(scratch.at("copy"));
    EXPECT_EQ(original.size(), copy.size()) << name;
    EXPECT_TRUE(original == copy) << name;
  }
}

TEST(DType, HalvesAreExact) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float x = to_float(f16{static_cast<uint16_t>(bits)});
    const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 0x3ff);
    EXPECT_EQ(std::signbit(x), bits >> 15 != 0);
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(x), fraction != 0);
      EXPECT_EQ(std::isinf(x), fraction == 0);
    } else {
      const double expected = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
      EXPECT_EQ(std::fabs(static_cast<double>(x)), expected) << bits;
    }
  }
}

TEST(DType, EveryBf16SurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bf16 x{static_cast<uint16_t>(bits)};
    const bool nan = (bits & 0x7fff) > 0x7f80;
    EXPECT_EQ(to_bf16(to_float(x)).bits, nan ? (bits | 0x40) : bits);
  }
  // Ties to even, and beyond the largest to infinity.
  EXPECT_EQ(to_bf16(1.00390625f).bits, 0x3f80);  // 1 + 2^-8
  EXPECT_EQ(to_bf16(1.01171875f).bits, 0x3f82);  // 1 + 3 * 2^-8
  EXPECT_EQ(to_bf16(std::nextafter(1.00390625f, 2.0f)).bits, 0x3f81);
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);
}

TEST(DType, NamesGoBothWays) {
  for (const DType type : {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i64, DType::i32, DType::u16,
                           DType::u8, DType::f8_e4m3, DType::f8_e5m2}) {
    DType back = DType::u8;
    ASSERT_TRUE(dtype_from_safetensors_name(safetensors_name(type), back));
    EXPECT_EQ(back, type);
  }
  DType untouched = DType::u8;
  EXPECT_FALSE(dtype_from_safetensors_name("f32", untouched));
}

}  // namespace
}  // namespace tael
