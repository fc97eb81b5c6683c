#include "base/file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>
#include <vector>

#include "tests/harness/scratch_directory.hpp"

namespace tael {
namespace {

using testing::error_of;
using testing::ScratchDirectory;

class FileTest : public ::testing::Test {
 protected:
  std::string at(const std::string& name) const { return scratch_.at(name); }

  ScratchDirectory scratch_;
  const std::string directory_ = scratch_.path();
};

TEST_F(FileTest, WritesAndReadsAtPlaces) {
  File file = File::create(at("a"));
  file.write_at(4, "efgh", 4);
  file.write_at(0, "abcd", 4);
  EXPECT_EQ(file.size(), 8u);
  char text[5] = {};
  file.read_at(2, text, 4);
  EXPECT_STREQ(text, "cdef");
  file.sync();
  file.forget(0, 8);
  file.close();
  EXPECT_FALSE(file);
  EXPECT_EQ(read_file(at("a")), "abcdefgh");
}

TEST_F(FileTest, SaysWhatIsMissing) {
  EXPECT_EQ(error_of(Exit::bad_data, [&] { File::open(at("no"), Exit::bad_data); }), at("no") + ": no such file");
  EXPECT_EQ(error_of(Exit::io, [&] { read_file(directory_); }), directory_ + ": is a directory");
  EXPECT_EQ(error_of(Exit::io, [&] { File::create(at("x/y")); }),
            at("x/y") + ": cannot create: No such file or directory");
  replace_file(at("a"), "abc");
  EXPECT_EQ(error_of(Exit::io, [&] { File::create(at("a")); }), at("a") + ": cannot create: File exists");
  EXPECT_EQ(error_of(Exit::bad_data,
                     [&] {
                       char text[8];
                       File::open(at("a")).read_at(1, text, 8);
                     }),
            at("a") + ": ends at byte 3, but is needed up to byte 9");
  EXPECT_EQ(error_of(Exit::bad_data,
                     [&] {
                       char text[8];
                       File::open(at("a")).read_at(5, text, 8);
                     }),
            at("a") + ": ends at byte 3, but is needed up to byte 13");
  EXPECT_EQ(error_of(Exit::bad_data, [&] { read_file(at("a"), 2); }), at("a") + ": 3 bytes, at most 2 are read");
  EXPECT_EQ(error_of(Exit::io, [&] { create_directory(at("a")); }),
            at("a") + ": cannot create the directory: File exists");
  EXPECT_EQ(error_of(Exit::io, [&] { make_directories(at("a/b")); }),
            at("a/b") + ": cannot create the directory: Not a directory");
}

TEST_F(FileTest, DoesNotWaitForAWriterOfAPipe) {
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  EXPECT_EQ(error_of(Exit::bad_data, [&] { File::open(at("pipe"), Exit::bad_data); }), at("pipe") + ": is not a file");
}

TEST_F(FileTest, ReplaceLeavesOldOrNew) {
  replace_file(at("a"), "one");
  replace_file(at("a"), std::string(100'000, 'x'));
  EXPECT_EQ(read_file(at("a")).size(), 100'000u);
  replace_file(at("a"), "");
  EXPECT_EQ(read_file(at("a")), "");
  EXPECT_FALSE(path_exists(at("a.tmp")));
  // What a writer that died left behind is in nobody's way.
  replace_file(at("a.tmp"), "half");
  replace_file(at("a"), "two");
  EXPECT_EQ(read_file(at("a")), "two");
  // A name that cannot be replaced: the old one stays, nothing is left over.
  create_directory(at("d"));
  replace_file(at("d/inside"), "z");
  EXPECT_EQ(error_of(Exit::io, [&] { replace_file(at("d"), "x"); }),
            at("d.tmp") + ": cannot rename to " + at("d") + ": Is a directory");
  EXPECT_FALSE(path_exists(at("d.tmp")));
  EXPECT_EQ(read_file(at("d/inside")), "z");
}

TEST_F(FileTest, MapsFiles) {
  replace_file(at("a"), "hello");
  MappedFile mapped = MappedFile::open(at("a"));
  EXPECT_EQ(mapped.text(), "hello");
  MappedFile moved = std::move(mapped);
  EXPECT_EQ(moved.text(), "hello");
  replace_file(at("e"), "");
  EXPECT_EQ(MappedFile::open(at("e")).size(), 0u);
}

TEST_F(FileTest, Directories) {
  make_directories(at("p/q/r"));
  make_directories(at("p/q/r"));
  EXPECT_TRUE(is_directory(at("p/q/r")));
  remove_tree(at("p"));
  remove_tree(at("p"));
  EXPECT_FALSE(path_exists(at("p")));
  EXPECT_EQ(parent_directory("a"), ".");
  EXPECT_EQ(parent_directory("/a"), "/");
  EXPECT_EQ(parent_directory("a/b/"), "a");
  EXPECT_EQ(parent_directory("/a/b"), "/a");
  EXPECT_EQ(parent_directory("/"), "/");
  EXPECT_GT(free_bytes(at("not/there/yet")), 0u);
}

TEST_F(FileTest, APlaceWhereNothingCanBeMadeIsNamed) {
  require_creatable(at("not/there/yet"));
  EXPECT_FALSE(path_exists(at("not")));
  replace_file(at("file"), "x");
  EXPECT_EQ(error_of(Exit::io, [&] { require_creatable(at("file/run")); }),
            at("file/run") + ": cannot create the directory: Not a directory");
}

TEST_F(FileTest, OneFileServesManyThreads) {
  std::string content(1 << 20, '\0');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 >> 8);
  replace_file(at("a"), content);
  const File file = File::open(at("a"));
  std::vector<std::thread> threads;
  std::vector<int> good(4, 0);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::string piece(1 << 18, '\0');
      file.read_at(static_cast<uint64_t>(t) << 18, piece.data(), piece.size());
      good[t] = piece == content.substr(static_cast<size_t>(t) << 18, piece.size());
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, std::vector<int>(4, 1));
}

}  // namespace
}  // namespace tael
