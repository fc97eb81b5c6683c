#include "data/loader.hpp"

#include <chrono>
#include <utility>

#include "base/thread_pool.hpp"

namespace tael {

SampleRange rank_range(int64_t first_sample, int64_t global_batch, int64_t rank, int64_t ranks) {
  CHECK(ranks >= 1 && rank >= 0 && rank < ranks && global_batch % ranks == 0, "batch {}, rank {} of {}", global_batch,
        rank, ranks);
  const int64_t count = global_batch / ranks;
  return {first_sample + rank * count, count};
}

LoaderBuffers plan_loader(Arena& arena, const LoaderShape& shape) {
  LoaderBuffers buffers;
  for (Mat<int32_t>& tokens : buffers.tokens)
    tokens = arena.mat<int32_t>(shape.max_sequences, shape.seq_length + 1 + shape.mtp_depth);
  return buffers;
}

Loader::Loader(std::span<const TokenShard> shards, const Sampler& sampler, const LoaderShape& shape,
               const LoaderBuffers& buffers)
    : shards_(shards), sampler_(sampler), shape_(shape), buffers_(buffers), thread_(start_thread([this] { work(); })) {}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Loader::read(SampleRange range, Mat<int32_t> out) const {
  for (int64_t b = 0; b < range.count; ++b) {
    const Sample sample = sampler_.at(range.first + b);
    shards_[static_cast<size_t>(sample.file)].read(sample.window * shape_.seq_length, vec(out.row(b), out.cols()));
  }
}

void Loader::request(SampleRange range) {
  range_ = range;
  slot_ = 1 - slot_;
  state_ = State::requested;
  changed_.notify_all();
}

void Loader::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || state_ == State::requested; });
    if (stop_) return;
    const SampleRange range = range_;
    const Mat<int32_t> out = buffers_.tokens[slot_];
    std::exception_ptr error;
    lock.unlock();
    try {
      read(range, out);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    error_ = std::move(error);
    state_ = State::ready;
    changed_.notify_all();
  }
}

Batch Loader::next(SampleRange range, SampleRange following) {
  CHECK(range.count >= 1 && range.count <= shape_.max_sequences && following.count <= shape_.max_sequences,
        "{} sequences, then {}, planned for {}", range.count, following.count, shape_.max_sequences);
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  const auto is_ready = [this] { return state_ != State::requested; };
  changed_.wait(lock, is_ready);
  if (state_ == State::idle || range_ != range) {  // not what was read ahead
    error_ = nullptr;
    request(range);
    changed_.wait(lock, is_ready);
  }
  seconds_waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  state_ = State::idle;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  const Batch batch{rows(buffers_.tokens[slot_], 0, range.count), range.first};
  if (following.count > 0) request(following);
  return batch;
}

}  // namespace tael
