// Memory by lifetime. An Arena hands out views one after the other; mark and release give back what came last.
//
// The code that plans memory is the code that allocates it: an arena made by Arena::measuring() hands out views of
// addresses that must not be touched (but are not null, so that no code takes another path) and only counts. A function
// `plan(arena, shape)` run on it gives the size that a second run on a real arena will take, so the plan that is
// printed cannot drift from the truth.
//
// Memory is zero when the arena is made and is not cleared by release. Every view starts on a 64-byte border. One
// thread at a time. Asking for more than there is is an internal error: sizes were measured before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/view.hpp"

namespace tael {

class Arena {
 public:
  static constexpr size_t kAlign = 64;

  static Arena measuring();
  // Owns `bytes` of zeroed memory of the host. `name` appears in errors and in the memory plan.
  // Throws Error(io) with the size when the system refuses it.
  Arena(std::string name, size_t bytes);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&&) = delete;

  template <class T>
  Vec<T> vec(int64_t n) {
    return tael::vec(take<T>(n), n);
  }
  template <class T>
  Mat<T> mat(int64_t rows, int64_t cols) {
    return tael::mat(take<T>(checked_product(rows, cols)), rows, cols);
  }
  template <class T>
  Cube<T> cube(int64_t a, int64_t b, int64_t c) {
    return tael::cube(take<T>(checked_product(checked_product(a, b), c)), a, b, c);
  }

  // Makes the system give all of it now, not at the first use of each page. Fills it with zeros.
  void touch();

  size_t mark() const { return used_; }
  void release(size_t mark);
  bool is_measuring() const { return measuring_; }
  size_t used() const { return used_; }
  size_t peak() const { return peak_; }
  size_t capacity() const { return capacity_; }
  const std::string& name() const { return name_; }

 private:
  Arena() = default;
  template <class T>
  T* take(int64_t n) {
    return static_cast<T*>(take_bytes(checked_product(n, static_cast<int64_t>(sizeof(T)))));
  }
  void* take_bytes(int64_t bytes);
  static int64_t checked_product(int64_t a, int64_t b);  // Error(bad_config) on overflow

  std::string name_;
  std::byte* base_ = nullptr;
  bool measuring_ = false;
  size_t capacity_ = 0, used_ = 0, peak_ = 0;
};

// Gives back what was taken from the arena since the scope began.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  size_t mark_;
};

}  // namespace tael
