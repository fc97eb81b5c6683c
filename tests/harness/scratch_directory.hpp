// A directory of its own for one test, gone when the test is over; and the text of an expected error.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "base/check.hpp"

namespace tael::testing {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "tael_test_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string at(const std::string& name) const { return path_ + "/" + name; }
  // A file with this content, in directories of its own if need be, and its path; unlike replace_file it does not wait
  // for the disk.
  std::string write(const std::string& name, std::string_view content) const {
    const std::string path = at(name);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  // The text with this directory's path replaced by "DIR", so that messages can be compared whole.
  std::string relative(std::string text) const {
    for (size_t at = text.find(path_); at != std::string::npos; at = text.find(path_, at))
      text.replace(at, path_.size(), "DIR");
    return text;
  }

 private:
  std::string path_;
};

// One for all tests of the process, gone when it ends.
inline const ScratchDirectory& process_scratch() {
  static const ScratchDirectory directory;
  return directory;
}

// Files and directories that a directory holds.
inline int64_t count_entries(const std::string& directory) {
  return std::distance(std::filesystem::directory_iterator(directory), std::filesystem::directory_iterator());
}

// What `body` threw; the code must be `code`. "no error" if it returned.
template <class Body>
std::string error_of(Exit code, const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  return "no error";
}

// "78: message" of what it throws, or "accepted".
template <class Body>
std::string refusal_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
  }
  return "accepted";
}

}  // namespace tael::testing
