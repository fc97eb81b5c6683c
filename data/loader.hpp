// Batches for one rank, read one step ahead by a thread. Which samples they hold is the sampler's business and the
// caller's range; a loader has no state that a resume would need.
//
// Memory is planned first (plan_loader, on a measuring arena or a real one); next allocates nothing. An error of the
// thread is thrown by the call that asks for the samples it concerns.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <thread>

#include "base/arena.hpp"
#include "data/batch.hpp"
#include "data/sampler.hpp"
#include "data/token_shard.hpp"

namespace tael {

struct SampleRange {
  int64_t first = 0, count = 0;
  bool operator==(const SampleRange&) const = default;
};
// The part of a global batch that a rank reads: ranks have contiguous, equal ranges in rank order, so that the lanes of
// a canonical reduction stay whole. REQUIRES that ranks divide global_batch.
SampleRange rank_range(int64_t first_sample, int64_t global_batch, int64_t rank, int64_t ranks);

struct LoaderShape {
  int64_t seq_length = 0, mtp_depth = 0;
  int64_t max_sequences = 0;  // the largest count that will be asked for
};
struct LoaderBuffers {
  Mat<int32_t> tokens[2];  // [max_sequences, seq_length + 1 + mtp_depth]
};
LoaderBuffers plan_loader(Arena& arena, const LoaderShape& shape);

class Loader {
 public:
  // The shards in the order of the sampler's files; shards, sampler and buffers outlive the loader.
  Loader(std::span<const TokenShard> shards, const Sampler& sampler, const LoaderShape& shape,
         const LoaderBuffers& buffers);
  ~Loader();
  Loader(const Loader&) = delete;

  // The samples of `range`, valid until the next call; meanwhile those of `following` are read (count 0: nothing).
  // Any ranges are right; it is quick when `range` is what `following` was in the call before.
  Batch next(SampleRange range, SampleRange following);

  double seconds_waited() const { return seconds_waited_; }  // in next, over all calls

 private:
  enum class State : uint8_t { idle, requested, ready };
  void work();
  void request(SampleRange range);  // with the lock held
  void read(SampleRange range, Mat<int32_t> out) const;

  const std::span<const TokenShard> shards_;
  const Sampler& sampler_;
  const LoaderShape shape_;
  const LoaderBuffers buffers_;
  double seconds_waited_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::idle;
  bool stop_ = false;
  SampleRange range_;         // requested or ready
  int slot_ = 0;              // the buffer that it goes to
  std::exception_ptr error_;  // with ready
  std::thread thread_;        // last: it uses all of the above
};

}  // namespace tael
