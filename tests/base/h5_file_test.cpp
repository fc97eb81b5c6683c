#include "base/h5_file.hpp"

#include <unistd.h>

#include <filesystem>
#include <functional>
#include <thread>
#include <vector>

#include "base/file.hpp"

namespace tael {
namespace {

class H5File : public testing::Test {
 protected:
  H5File() : path(testing::TempDir() + "h5_file_test_" + std::to_string(getpid()) + ".h5") {}
  ~H5File() override { std::filesystem::remove(path); }

  // Two reserved datasets, one of text, an attribute of each kind.
  void write(uint64_t n, uint64_t user_block) {
    alignment = user_block == 512 ? 512 : 4096;
    H5Writer writer(path, {.user_block = user_block, .alignment = alignment});
    const uint64_t shape[] = {2, 3};
    numbers = writer.reserve("numbers", H5Type::u16, {&n, 1});
    grid = writer.reserve("grid", H5Type::f64, shape);
    const std::string names[] = {"one", "three", ""};
    writer.write_text("names", names);
    writer.attribute("/", "format", "a test");
    writer.attribute("/", "nothing", "");
    writer.attribute("/", "count", uint64_t{1} << 63);
    writer.attribute("numbers", "least", int64_t{-5});
    writer.attribute("grid", "step", 0.1);
    writer.close();
  }
  std::string message(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::bad_data);
      return error.what();
    }
    return "no error";
  }
  std::string path;
  uint64_t alignment = 0;
  H5Region numbers, grid;
};

void expect_content(const H5Reader& reader, uint64_t n, const H5Region& numbers) {
  EXPECT_EQ(reader.datasets(), (std::vector<std::string>{"grid", "names", "numbers"}));
  const auto d = reader.dataset("numbers");
  EXPECT_EQ(d.type, H5Type::u16);
  EXPECT_EQ(d.dims, std::vector<uint64_t>{n});
  EXPECT_EQ(d.region.offset, numbers.offset);
  EXPECT_EQ(d.region.bytes, 2 * n);
  EXPECT_EQ(reader.dataset("grid").dims, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(reader.dataset("grid").elements, 6u);
  EXPECT_EQ(reader.read_text("names", 1000), (std::vector<std::string>{"one", "three", ""}));
  EXPECT_EQ(reader.text_attribute("/", "format"), "a test");
  EXPECT_EQ(reader.text_attribute("/", "nothing"), "");
  EXPECT_EQ(reader.uint_attribute("/", "count"), uint64_t{1} << 63);
  EXPECT_EQ(reader.int_attribute("numbers", "least"), -5);
  EXPECT_EQ(reader.real_attribute("grid", "step"), 0.1);
  EXPECT_TRUE(reader.has_attribute("grid", "step"));
  EXPECT_FALSE(reader.has_attribute("/", "step"));
}

TEST_F(H5File, RoundTripBehindUserBlocksFromFileAndMemory) {
  for (uint64_t user_block : {0, 512, 65536})
    for (uint64_t n : {1, 2047, 100000}) {
      write(n, user_block);
      EXPECT_GE(numbers.offset, user_block);
      EXPECT_EQ(numbers.offset % alignment, 0u);
      expect_content(H5Reader(path, Exit::bad_data), n, numbers);
      const std::string bytes = read_file(path);
      const auto image = std::as_bytes(std::span(bytes));
      expect_content(H5Reader("memory", image.subspan(user_block), Exit::bad_data), n,
                     {numbers.offset - user_block, numbers.bytes});
    }
}

TEST_F(H5File, EqualCallsGiveEqualBytes) {
  write(100, 512);
  const std::string first = read_file(path);
  std::filesystem::remove(path);
  write(100, 512);
  EXPECT_EQ(read_file(path), first);
}

TEST_F(H5File, RefusesWhatIsNotThere) {
  write(3, 0);
  const H5Reader reader(path, Exit::bad_data);
  EXPECT_EQ(message([&] { reader.dataset("none"); }), path + ": dataset 'none' is missing");
  EXPECT_EQ(message([&] { reader.dataset("../numbers"); }), path + ": dataset '../numbers' is missing");
  EXPECT_EQ(message([&] { reader.dataset("/numbers"); }), path + ": no dataset is called '/numbers'");
  EXPECT_EQ(message([&] { reader.dataset("names"); }), path + ": dataset 'names' holds no plain little-endian numbers");
  EXPECT_EQ(message([&] { reader.read_text("names", 3); }), path + ": 'names' has 15 bytes, at most 3 are read");
  EXPECT_EQ(message([&] { reader.read_text("grid", 1000); }),
            path + ": 'grid' is not text of a fixed length up to 65536 bytes");
  EXPECT_EQ(message([&] { reader.uint_attribute("/", "count2"); }), path + ": attribute 'count2' of '/' is missing");
  EXPECT_EQ(message([&] { reader.uint_attribute("/", "format"); }),
            path + ": attribute 'format' of '/' is not a 64-bit count");
  EXPECT_EQ(message([&] { reader.int_attribute("/", "count"); }),
            path + ": attribute 'count' of '/' is not a 64-bit integer");
}

TEST_F(H5File, RefusesWhatIsNoHdf5AndWhatIsCut) {
  const std::string text(5000, 'x');
  EXPECT_EQ(message([&] { H5Reader("memory", std::as_bytes(std::span(text)), Exit::bad_data); }),
            "memory: cannot read it as HDF5: file signature not found");
  EXPECT_EQ(message([&] { H5Reader("memory", {}, Exit::bad_data); }), "memory: empty");
  EXPECT_EQ(message([&] { H5Reader(path, Exit::bad_data); }), path + ": no such file");
  write(3, 0);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_NE(message([&] { H5Reader(path, Exit::bad_data); }).find("cannot read it as HDF5: truncated file"),
            std::string::npos);
}

TEST_F(H5File, WriterReportsWhatTheSystemRefuses) {
  try {
    H5Writer writer("/nonexistent/x.h5", {});
    FAIL() << "created a file in a directory that is not there";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::io);
    EXPECT_EQ(std::string(error.what()).find("/nonexistent/x.h5: cannot write the file: "), 0u) << error.what();
  }
}

TEST_F(H5File, ManyThreadsReadAtOnce) {
  write(2000, 512);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) expect_content(H5Reader(path, Exit::bad_data), 2000, numbers);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tael
