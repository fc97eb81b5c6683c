#include "trainer/evaluate.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <numbers>
#include <vector>

#include "data/eval_windows.hpp"
#include "parallel/agree.hpp"

namespace tael {

namespace {

struct Window {
  const TokenShard* shard = nullptr;
  EvalWindow place;
};

// All windows of all shards, numbered in their order; none is kept.
class Windows {
 public:
  Windows(std::span<const TokenShard> shards, int64_t seq_length) : seq_length_(seq_length) {
    for (const TokenShard& shard : shards) {
      shards_.push_back({&shard, count_});
      count_ += eval_window_count(shard.tokens(), seq_length);
    }
  }
  int64_t count() const { return count_; }
  Window at(int64_t i) const {
    const auto next = std::ranges::upper_bound(shards_, i, {}, &Placed::first);
    const Placed& placed = *(next - 1);  // of shards without a window the last, which has one
    return {placed.shard, eval_window(placed.shard->tokens(), seq_length_, i - placed.first)};
  }

 private:
  struct Placed {
    const TokenShard* shard;
    int64_t first;  // number of its first window
  };
  int64_t seq_length_, count_ = 0;
  std::vector<Placed> shards_;
};

struct Buffers {
  std::vector<int32_t> tokens, starts;
  std::vector<double> nats;
};

// `count` windows of equal length from number `first` on.
void score(const Evaluation& e, const Windows& windows, int64_t first, int64_t count, Buffers& buffers) {
  const int64_t length = windows.at(first).place.targets;
  for (int64_t b = 0; b < count; ++b) {
    const Window window = windows.at(first + b);
    window.shard->read(window.place.first, vec(buffers.tokens.data() + b * (length + 1), length + 1));
  }
  const Mat<const int32_t> token_BS = mat<const int32_t>(buffers.tokens.data(), count, length + 1);
  MicroBatch batch{{count, length}, token_BS, {}};
  if (e.separator >= 0) {
    fill_document_starts(mat(buffers.starts.data(), count, length), token_BS, e.separator);
    batch.document_start_T = vec<const int32_t>(buffers.starts.data(), count * length);
  }
  Context context{e.stream, e.scratch, e.segments};
  e.network.evaluate(context, e.saved, e.weights, batch, vec(buffers.nats.data(), count));
  e.stream.synchronize();
}

// Sums of windows that are kept apart until all are there: their number bounds memory, whatever the data's size.
constexpr int64_t kMostSums = 4096;

// Between two questions whether to give up.
constexpr std::chrono::milliseconds kRound(200);

}  // namespace

size_t evaluation_buffer_bytes(int64_t batch, int64_t seq_length, int ranks) {
  return static_cast<size_t>(batch * (2 * seq_length + 3)) * sizeof(int32_t) +
         static_cast<size_t>(2 * kMostSums + ranks) * sizeof(double);
}

double EvalResult::ppl() const { return std::exp(loss()); }

std::optional<double> EvalResult::bits_per_byte() const {
  if (!has_text || text_bytes == 0) return std::nullopt;
  return nats / std::numbers::ln2 / static_cast<double>(text_bytes);
}

void require_targets(std::span<const TokenShard> shards) {
  for (const TokenShard& shard : shards)
    if (shard.tokens() > 1) return;
  fail(Exit::bad_data, "{}: no token to predict in it", shards.empty() ? "no shard" : shards[0].info().path);
}

std::optional<EvalResult> evaluate(Comm& comm, const Evaluation& e) {
  EvalResult result;
  result.has_text = !e.shards.empty();
  int64_t longest = 0;
  for (const TokenShard& shard : e.shards) {
    const bool any = shard.tokens() > 1;
    longest = std::max(longest, std::min(e.seq_length, shard.tokens() - 1));
    if (any) result.targets += shard.tokens() - 1;
    result.has_text = result.has_text && shard.info().has_text();
    result.text_bytes += any ? shard.info().target_text_bytes : 0;
  }
  const Windows windows(e.shards, e.seq_length);
  CHECK(windows.count() > 0, "an evaluation without targets");

  // Consecutive windows make groups, whose number depends on the data alone. Each group's sum is one chain, and so is
  // the sum of groups; rank r scores groups [r n, (r + 1) n).
  const int64_t total = windows.count(), size = (total + kMostSums - 1) / kMostSums, groups = (total + size - 1) / size;
  const int64_t per_rank = (groups + comm.size() - 1) / comm.size();
  const int64_t begin = std::min(groups, comm.rank() * per_rank), end = std::min(groups, begin + per_rank);
  std::vector<double> mine(static_cast<size_t>(per_rank), 0.0), all(static_cast<size_t>(per_rank * comm.size()));
  const size_t tokens = static_cast<size_t>(e.batch * longest);
  Buffers buffers{std::vector<int32_t>(tokens + static_cast<size_t>(e.batch)),
                  std::vector<int32_t>(e.separator >= 0 ? tokens : 0),
                  std::vector<double>(static_cast<size_t>(e.batch))};
  const int64_t last = std::min(total, end * size);
  int64_t i = begin * size;
  for (bool any_left = true; any_left;) {
    const auto round_ends = std::chrono::steady_clock::now() + kRound;
    agreed(comm, [&] {  // the shards may be damaged where only one rank reads
      while (i < last && std::chrono::steady_clock::now() < round_ends) {
        const int64_t length = windows.at(i).place.targets;
        int64_t count = 1;
        while (count < e.batch && i + count < last && windows.at(i + count).place.targets == length) ++count;
        score(e, windows, i, count, buffers);
        for (int64_t b = 0; b < count; ++b)
          mine[static_cast<size_t>((i + b) / size - begin)] += buffers.nats[static_cast<size_t>(b)];
        i += count;
      }
    });
    std::array<int64_t, 2> left_and_give_up = {i < last ? 1 : 0, e.give_up && e.give_up() ? 1 : 0};
    comm.all_reduce(left_and_give_up, ReduceOp::max);
    any_left = left_and_give_up[0] != 0;
    if (any_left && left_and_give_up[1] != 0) return std::nullopt;
    if (any_left && e.between) e.between();
  }
  comm.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  for (int64_t g = 0; g < groups; ++g) result.nats += all[static_cast<size_t>(g)];
  return result;
}

}  // namespace tael
