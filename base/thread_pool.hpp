// A fixed set of threads that share out numbered tasks. One pool per rank; no global state, so many ranks live in one
// process. Which thread runs which task is not defined: kernels make every task's result independent of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/arena.hpp"
#include "base/check.hpp"

namespace tael {

// A thread that runs `body`, one of `of` that are wanted together; Error(io) where the system gives no more.
template <class Body>
std::thread start_thread(Body&& body, int of = 1) {
  try {
    return std::thread(std::forward<Body>(body));
  } catch (const std::system_error& error) {
    fail(Exit::io, "cannot start {} thread{}: {}; limits on memory (ulimit -v) and on processes (ulimit -u) bound them",
         of, of == 1 ? "" : "s", error.code().message());
  }
}

class ThreadPool {
 public:
  static constexpr size_t kWorkspaceBytes = size_t{4} << 20;  // per thread, for packing inside a kernel

  // `threads` in total, the caller among them (so threads - 1 are started). At least 1. Error(io) if they cannot be.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Runs body(task, thread) for every task in [0, tasks) and returns when all are done; thread is in [0, threads()).
  // The body must not throw and must not call parallel_for. Nothing is allocated. One caller at a time.
  template <class Body>
  void parallel_for(int64_t tasks, const Body& body) {
    run(
        tasks,
        [](const void* context, int64_t task, int thread) { (*static_cast<const Body*>(context))(task, thread); },
        &body);
  }

  // Scratch of one thread, kWorkspaceBytes, 64-byte aligned; contents are not kept between parallel_for calls.
  std::byte* workspace(int thread) const { return workspaces_.data + thread * static_cast<int64_t>(kWorkspaceBytes); }

 private:
  using Call = void (*)(const void* context, int64_t task, int thread);
  void run(int64_t tasks, Call call, const void* context);
  void work(int thread);
  void stop();

  const int threads_;
  Arena arena_;
  Vec<std::byte> workspaces_;
  std::vector<std::thread> workers_;
  // One round of work: written by the caller before `round_` moves, read by workers after they saw it move.
  Call call_ = nullptr;
  const void* context_ = nullptr;
  int64_t tasks_ = 0;
  bool stop_ = false;
  int spins_ = 0;
  alignas(64) std::atomic<uint32_t> round_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<int> busy_{0};
};

}  // namespace tael
