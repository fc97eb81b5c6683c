// Files: descriptors that close themselves, whole reads and writes, and replacing a file so that it is old or new,
// never half. What the system refuses is Error(io) with the path, what was tried and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.hpp"

namespace tael {

// An open file. Owns its descriptor; reads and writes name their place, so one File may be used by many threads.
class File {
 public:
  File() = default;
  // For reading. A path that does not exist, or is no regular file, is Error(missing).
  static File open(const std::string& path, Exit missing = Exit::io);
  // For reading and writing; the file must not exist yet. Errors speak of `named`, where it is not empty.
  static File create(const std::string& path, const std::string& named = {});
  // For reading and writing what is there.
  static File update(const std::string& path);
  ~File();
  File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}
  File& operator=(File&& other) noexcept;

  explicit operator bool() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  const std::string& path() const { return path_; }

  uint64_t size() const;
  // All `bytes` bytes from `offset` on; a file that ends before them is Error(bad_data).
  void read_at(uint64_t offset, void* out, size_t bytes) const;
  void write_at(uint64_t offset, const void* data, size_t bytes) const;
  // Takes space on the disk for the first `bytes` bytes, so that writing them cannot fail for want of it; the file is
  // then at least as long.
  void allocate(uint64_t bytes) const;
  void sync() const;  // returns when the content is on the disk
  // Says that these bytes will not be read again soon, so that they need not stay in the page cache. Clean pages only:
  // sync first what was written.
  void forget(uint64_t offset, uint64_t bytes) const;
  // Closes now and reports what close reports, which for some file systems is the first word about a failed write.
  void close();

 private:
  File(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  int descriptor_ = -1;
  std::string path_;
};

// A whole file mapped for reading. The memory is valid while the object lives; a file cut by someone else meanwhile is
// a bus error, so map only what nobody writes to.
class MappedFile {
 public:
  MappedFile() = default;
  static MappedFile open(const std::string& path, Exit missing = Exit::io);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A file of lines that grows: made if it is not there, else gone on with, after a last line that somebody tore was
// ended. `size` is where the next line begins.
File open_to_append(const std::string& path, uint64_t& size);

// The content of a file; larger than `max_bytes` is Error(bad_data), not there is Error(missing).
std::string read_file(const std::string& path, uint64_t max_bytes = uint64_t{1} << 30, Exit missing = Exit::io);
// Its last `most` bytes, or all of it.
std::string read_file_end(const std::string& path, uint64_t most);

// Afterwards `path` has this content, even if the machine loses power; until then, and after a failure, what it had.
// Writes `path` + ".tmp" beside it, syncs, renames, syncs the directory. One writer of a path at a time.
void replace_file(const std::string& path, std::string_view content);
// By way of `prepared`, for one of several writers; what one leaves that is killed stays there.
void replace_file(const std::string& path, std::string_view content, const std::string& prepared);

// The same for what was prepared under another name on the same file system: a file or a directory.
// The new name must not be that of an existing directory.
void publish(const std::string& prepared, const std::string& path);
void sync_directory(const std::string& path);
// Makes the directory `path`, complete or not at all: `fill` writes into another one beside it, whose name it receives.
// Missing parents are made. After a failure nothing of it is left.
void make_whole_directory(const std::string& path, const std::function<void(const std::string&)>& fill);

// "a.h5.1234.tmp": a name beside `path` that nothing has, not even a dangling link, for what is not whole yet. Whatever
// lies there under other names is somebody's.
std::string free_name_beside(const std::string& path);

bool path_exists(const std::string& path);  // false also for a dangling link
bool is_directory(const std::string& path);
void make_directories(const std::string& path);         // with parents, synced; fine if it is there
void create_directory(const std::string& path);         // one; Error(io) if the name is taken
void remove_tree(const std::string& path);              // a file or a directory with all in it; fine if it is not there
std::string parent_directory(const std::string& path);  // "." for a bare name; "/a/b/" and "/a/b" both give "/a"
// Error(io) in create_directory's words where `path` and what is missing above it could not be made; makes nothing.
void require_creatable(const std::string& path);

// Bytes that this user can still write on the file system of `path` or of its nearest parent that exists.
uint64_t free_bytes(const std::string& path);

}  // namespace tael
