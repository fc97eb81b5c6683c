// Where work happens, with which instructions, and in what order.
//
// A stream is a value that is passed down; nothing about it is global. On the CPU it is in order and immediate:
// enqueue runs its work before it returns. Kernels go through enqueue so that a later stream may run them later.
#pragma once

#include <string_view>

#include "base/thread_pool.hpp"

namespace tael {

// Instruction sets of the CPU kernels. Results are bitwise equal for every thread count on one of them.
enum class Isa : uint8_t { portable, avx2, avx512 };

std::string_view name_of(Isa isa);
bool isa_from_name(std::string_view name, Isa& isa);  // false: no such name
bool machine_has(Isa isa);
Isa best_isa();

class Stream {
 public:
  Stream(ThreadPool& pool, Isa isa) : pool_(&pool), isa_(isa) {}
  // A stream that runs nothing: the same code then only measures (base/arena.hpp).
  static Stream dry(ThreadPool& pool) {
    Stream stream(pool, Isa::portable);
    stream.dry_ = true;
    return stream;
  }
  ThreadPool& pool() const { return *pool_; }
  Isa isa() const { return isa_; }

  template <class Work>
  void enqueue(const Work& work) const {
    if (!dry_) work();
  }
  void synchronize() const {}  // returns when all enqueued work is done

 private:
  ThreadPool* pool_;
  Isa isa_;
  bool dry_ = false;
};

}  // namespace tael
