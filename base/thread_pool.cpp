#include "base/thread_pool.hpp"

namespace tael {

namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads)
    : threads_(threads < 1 ? 1 : threads),
      arena_("thread workspaces", static_cast<size_t>(threads_) * kWorkspaceBytes),
      workspaces_(arena_.vec<std::byte>(static_cast<int64_t>(threads_) * static_cast<int64_t>(kWorkspaceBytes))) {
  // Spinning for a few microseconds saves the price of a futex between two kernels; with more threads than processors
  // it would only take the processor from whoever has work.
  spins_ = threads_ <= static_cast<int>(std::thread::hardware_concurrency()) ? 4000 : 0;
  workers_.reserve(static_cast<size_t>(threads_ - 1));
  try {
    for (int t = 1; t < threads_; ++t) workers_.push_back(start_thread([this, t] { work(t); }, threads_ - 1));
  } catch (...) {
    stop();  // those that were started
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stop_ = true;
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t tasks, Call call, const void* context) {
  if (tasks <= 0) return;
  if (threads_ == 1 || tasks == 1) {
    for (int64_t task = 0; task < tasks; ++task) call(context, task, 0);
    return;
  }
  call_ = call;
  context_ = context;
  tasks_ = tasks;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(threads_ - 1, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks;) call(context, task, 0);
  for (int spin = 0; busy_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < spins_)
      pause();
    else if (const int busy = busy_.load(std::memory_order_acquire); busy != 0)
      busy_.wait(busy, std::memory_order_acquire);
  }
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  while (true) {
    for (int spin = 0; round_.load(std::memory_order_acquire) == seen; ++spin) {
      if (spin < spins_)
        pause();
      else
        round_.wait(seen, std::memory_order_acquire);
    }
    seen = round_.load(std::memory_order_acquire);
    if (stop_) return;
    for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) call_(context_, task, thread);
    if (busy_.fetch_sub(1, std::memory_order_release) == 1) busy_.notify_one();
  }
}

}  // namespace tael
