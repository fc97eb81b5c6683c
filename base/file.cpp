#include "base/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

namespace tael {

namespace {

// Linux moves at most 0x7ffff000 bytes in one call; smaller pieces also keep a signal's delay short.
constexpr size_t kPiece = size_t{64} << 20;

std::string reason(int error) { return std::generic_category().message(error); }

[[noreturn]] void fail_errno(const std::string& path, const char* what, int error) {
  fail(Exit::io, "{}: cannot {}: {}", path, what, reason(error));
}

template <class Call>
auto retry(const Call& call) {
  decltype(call()) result;
  do result = call();
  while (result < 0 && errno == EINTR);
  return result;
}

void check_filesystem(const std::string& path, const char* what, const std::error_code& error) {
  if (error) fail(Exit::io, "{}: cannot {}: {}", path, what, error.message());
}

}  // namespace

File File::open(const std::string& path, Exit missing) {
  const int descriptor = retry([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (descriptor < 0) {
    if (errno == ENOENT || errno == ENOTDIR) fail(missing, "{}: no such file", path);
    fail_errno(path, "open", errno);
  }
  File file(descriptor, path);
  struct stat info;
  if (::fstat(descriptor, &info) != 0) fail_errno(path, "examine", errno);
  if (!S_ISREG(info.st_mode)) fail(missing, "{}: {}", path, S_ISDIR(info.st_mode) ? "is a directory" : "is not a file");
  return file;
}

File File::create(const std::string& path, const std::string& named) {
  const int descriptor = retry([&] { return ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  const std::string& name = named.empty() ? path : named;
  if (descriptor < 0) fail_errno(name, "create", errno);
  return File(descriptor, name);
}

File File::update(const std::string& path) {
  const int descriptor = retry([&] { return ::open(path.c_str(), O_RDWR | O_CLOEXEC); });
  if (descriptor < 0) fail_errno(path, "open", errno);
  return File(descriptor, path);
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}

uint64_t File::size() const {
  struct stat info;
  if (::fstat(descriptor_, &info) != 0) fail_errno(path_, "examine", errno);
  return static_cast<uint64_t>(info.st_size);
}

void File::read_at(uint64_t offset, void* out, size_t bytes) const {
  auto* to = static_cast<std::byte*>(out);
  while (bytes > 0) {
    const ssize_t got =
        retry([&] { return ::pread(descriptor_, to, std::min(bytes, kPiece), static_cast<off_t>(offset)); });
    if (got < 0) fail_errno(path_, "read", errno);
    if (got == 0)  // the file's end, which may lie long before what was asked for
      fail(Exit::bad_data, "{}: ends at byte {}, but is needed up to byte {}", path_, size(), offset + bytes);
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
}

void File::write_at(uint64_t offset, const void* data, size_t bytes) const {
  const auto* from = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t put =
        retry([&] { return ::pwrite(descriptor_, from, std::min(bytes, kPiece), static_cast<off_t>(offset)); });
    if (put < 0) fail_errno(path_, "write", errno);
    from += put;
    offset += static_cast<uint64_t>(put);
    bytes -= static_cast<size_t>(put);
  }
}

void File::allocate(uint64_t bytes) const {
  int error = 0;
  do error = ::posix_fallocate(descriptor_, 0, static_cast<off_t>(bytes));
  while (error == EINTR);
  if (error != 0) fail_errno(path_, "take space for", error);
}

void File::sync() const {
  if (retry([&] { return ::fsync(descriptor_); }) != 0) fail_errno(path_, "sync", errno);
}

void File::forget(uint64_t offset, uint64_t bytes) const {
  // Advice: a file system that does not know it loses nothing.
  ::posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
}

void File::close() {
  if (descriptor_ < 0) return;
  // Not retried: on Linux the descriptor is gone even after EINTR.
  const int result = ::close(std::exchange(descriptor_, -1));
  if (result != 0 && errno != EINTR) fail_errno(path_, "close", errno);
}

MappedFile MappedFile::open(const std::string& path, Exit missing) {
  const File file = File::open(path, missing);
  MappedFile mapped;
  const uint64_t size = file.size();
  if (size == 0) return mapped;  // mmap knows no empty mapping
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (memory == MAP_FAILED) fail_errno(path, "map", errno);
  mapped.data_ = static_cast<std::byte*>(memory);
  mapped.size_ = size;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

File open_to_append(const std::string& path, uint64_t& size) {
  File file = path_exists(path) ? File::update(path) : File::create(path);
  size = file.size();
  char last = '\n';
  if (size > 0) file.read_at(size - 1, &last, 1);
  if (last != '\n') {
    file.write_at(size, "\n", 1);
    ++size;
  }
  return file;
}

std::string read_file(const std::string& path, uint64_t max_bytes, Exit missing) {
  const File file = File::open(path, missing);
  const uint64_t size = file.size();
  if (size > max_bytes) fail(Exit::bad_data, "{}: {} bytes, at most {} are read", path, size, max_bytes);
  std::string content(size, '\0');
  file.read_at(0, content.data(), size);
  return content;
}

std::string read_file_end(const std::string& path, uint64_t most) {
  const File file = File::open(path);
  const uint64_t size = file.size(), length = std::min(size, most);
  std::string text(length, '\0');
  file.read_at(size - length, text.data(), length);
  return text;
}

void replace_file(const std::string& path, std::string_view content) {
  const std::string prepared = path + ".tmp";
  remove_tree(prepared);  // of a writer that did not come to its end
  replace_file(path, content, prepared);
}

void replace_file(const std::string& path, std::string_view content, const std::string& prepared) {
  try {
    File file = File::create(prepared, path);
    file.write_at(0, content.data(), content.size());
    file.sync();
    file.close();
    publish(prepared, path);
  } catch (const Error&) {
    ::unlink(prepared.c_str());
    throw;
  }
}

void publish(const std::string& prepared, const std::string& path) {
  if (::rename(prepared.c_str(), path.c_str()) != 0)
    fail(Exit::io, "{}: cannot rename to {}: {}", prepared, path, reason(errno));
  sync_directory(parent_directory(path));
}

void sync_directory(const std::string& path) {
  const int descriptor = retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (descriptor < 0) fail_errno(path, "open", errno);
  const int result = retry([&] { return ::fsync(descriptor); });
  const int error = errno;
  ::close(descriptor);
  // EINVAL: a file system whose directories know no sync, and so keep their order in another way.
  if (result != 0 && error != EINVAL) fail_errno(path, "sync", error);
}

void make_whole_directory(const std::string& path, const std::function<void(const std::string&)>& fill) {
  make_directories(parent_directory(path));
  const std::string partial = free_name_beside(path);
  create_directory(partial);
  try {
    fill(partial);
    sync_directory(partial);
    publish(partial, path);
  } catch (...) {
    std::error_code ignored;  // the first failure is the one to report
    std::filesystem::remove_all(partial, ignored);
    throw;
  }
}

std::string free_name_beside(const std::string& path) {
  std::string base = path;
  while (base.size() > 1 && base.back() == '/') base.pop_back();
  std::error_code ignored;
  std::string name = fmt::format("{}.{}.tmp", base, ::getpid());
  for (int n = 2; std::filesystem::exists(std::filesystem::symlink_status(name, ignored)); ++n)
    name = fmt::format("{}.{}.{}.tmp", base, ::getpid(), n);
  return name;
}

bool path_exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

bool is_directory(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

namespace {

// The path itself or the closest directory above it that is there.
std::string nearest_existing(const std::string& path) {
  std::string place = path;
  while (!path_exists(place)) {
    const std::string parent = parent_directory(place);
    if (parent == place) break;
    place = parent;
  }
  return place;
}

}  // namespace

void make_directories(const std::string& path) {
  const std::string before = nearest_existing(path);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  check_filesystem(path, "create the directory", error);
  for (std::string made = path; made != before;) {
    made = parent_directory(made);
    // A directory may let others write into it and not read it; then it cannot be opened to be synced.
    if (::access(made.c_str(), R_OK) == 0) sync_directory(made);
  }
}

void create_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) != 0) fail_errno(path, "create the directory", errno);
}

void remove_tree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  check_filesystem(path, "remove", error);
}

std::string parent_directory(const std::string& path) {
  std::string_view rest = path;
  while (rest.size() > 1 && rest.back() == '/') rest.remove_suffix(1);
  const size_t slash = rest.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(rest.substr(0, slash));
}

void require_creatable(const std::string& path) {
  const std::string place = nearest_existing(parent_directory(path));
  if (!is_directory(place)) fail_errno(path, "create the directory", ENOTDIR);
  if (::access(place.c_str(), W_OK | X_OK) != 0) fail_errno(path, "create the directory", errno);
}

uint64_t free_bytes(const std::string& path) {
  const std::string place = nearest_existing(path);
  struct statvfs info;
  if (::statvfs(place.c_str(), &info) != 0) fail_errno(place, "ask for free space", errno);
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace tael
