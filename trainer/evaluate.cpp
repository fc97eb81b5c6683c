#include "trainer/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "data/eval_windows.hpp"

namespace tael {

namespace {

struct Window {
  const TokenShard* shard = nullptr;
  EvalWindow place;
};

// `count` windows of equal length.
void score(const Evaluation& e, const Window* windows, int64_t count, double* nats) {
  const int64_t length = windows[0].place.targets;
  std::vector<int32_t> tokens(static_cast<size_t>(count * (length + 1))), starts;
  for (int64_t b = 0; b < count; ++b)
    windows[b].shard->read(windows[b].place.first, vec(tokens.data() + b * (length + 1), length + 1));
  const Mat<const int32_t> token_BS = mat<const int32_t>(tokens.data(), count, length + 1);
  MicroBatch batch{{count, length}, token_BS, {}};
  if (e.separator >= 0) {
    starts.resize(static_cast<size_t>(count * length));
    fill_document_starts(mat(starts.data(), count, length), token_BS, e.separator);
    batch.document_start_T = vec<const int32_t>(starts.data(), count * length);
  }
  Context context{e.stream, e.scratch, e.segments};
  e.network.evaluate(context, e.saved, e.weights, batch, vec(nats, count));
  e.stream.synchronize();
}

}  // namespace

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

EvalResult evaluate(Comm& comm, const Evaluation& e) {
  EvalResult result;
  std::vector<Window> windows;
  result.has_text = !e.shards.empty();
  for (const TokenShard& shard : e.shards) {
    const int64_t count = eval_window_count(shard.tokens(), e.seq_length);
    for (int64_t i = 0; i < count; ++i) windows.push_back({&shard, eval_window(shard.tokens(), e.seq_length, i)});
    if (count > 0) result.targets += shard.tokens() - 1;
    result.has_text = result.has_text && shard.info().has_text();
    result.text_bytes += count > 0 ? shard.info().target_text_bytes : 0;
  }
  CHECK(!windows.empty(), "an evaluation without targets");

  // Rank r scores windows [r n, (r + 1) n); each window's sum is kept apart until all are there.
  const int64_t total = static_cast<int64_t>(windows.size()), ranks = comm.size();
  const int64_t per_rank = (total + ranks - 1) / ranks;
  const int64_t begin = std::min(total, comm.rank() * per_rank), end = std::min(total, begin + per_rank);
  std::vector<double> mine(static_cast<size_t>(per_rank), 0.0), all(static_cast<size_t>(per_rank * ranks));
  for (int64_t i = begin; i < end;) {
    const Window* first = &windows[static_cast<size_t>(i)];
    int64_t count = 1;
    while (count < e.batch && i + count < end && first[count].place.targets == first->place.targets) ++count;
    score(e, first, count, mine.data() + (i - begin));
    i += count;
  }
  comm.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  for (int64_t i = 0; i < total; ++i) result.nats += all[static_cast<size_t>(i)];
  return result;
}

}  // namespace tael
