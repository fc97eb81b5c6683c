#include "base/arena.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

namespace tael {

Arena::Arena(std::string name, size_t bytes) : name_(std::move(name)), capacity_(bytes) {
  if (bytes == 0) bytes = kAlign;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    fail(Exit::io, "cannot reserve {:.1f} MiB for {}: {}", static_cast<double>(bytes) / (1 << 20), name_,
         std::strerror(errno));
  // Large pages: a GEMM walks megabytes, and a page table of 4 KiB pages costs it several percent.
  if (bytes >= (4u << 20)) madvise(memory, bytes, MADV_HUGEPAGE);
  base_ = static_cast<std::byte*>(memory);
}

Arena Arena::measuring() {
  Arena arena;
  arena.name_ = "measuring";
  arena.measuring_ = true;
  arena.base_ = reinterpret_cast<std::byte*>(uintptr_t{1} << 21);
  return arena;
}

Arena::~Arena() {
  if (base_ != nullptr && !measuring_) munmap(base_, capacity_ == 0 ? kAlign : capacity_);
}

Arena::Arena(Arena&& other) noexcept
    : name_(std::move(other.name_)),
      base_(std::exchange(other.base_, nullptr)),
      measuring_(other.measuring_),
      capacity_(std::exchange(other.capacity_, 0)),
      used_(std::exchange(other.used_, 0)),
      peak_(std::exchange(other.peak_, 0)) {}

void Arena::touch() {
  CHECK(!measuring_);
  std::memset(base_, 0, capacity_);
}

void Arena::release(size_t mark) {
  CHECK(mark <= used_, "arena {}: mark {} lies beyond {}", name_, mark, used_);
  used_ = mark;
}

void* Arena::take_bytes(int64_t bytes) {
  CHECK(bytes >= 0, "arena {}: negative size", name_);
  const size_t start = used_;
  const size_t end = start + (static_cast<size_t>(bytes) + kAlign - 1) / kAlign * kAlign;
  if (!measuring_) CHECK(end <= capacity_, "arena {}: {} bytes asked for beyond the planned {}", name_, end, capacity_);
  used_ = end;
  peak_ = used_ > peak_ ? used_ : peak_;
  return base_ + start;
}

int64_t Arena::checked_product(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product))
    fail(Exit::bad_config, "a tensor of {} x {} elements is larger than any memory", a, b);
  return product;
}

}  // namespace tael
