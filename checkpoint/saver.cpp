#include "checkpoint/saver.hpp"

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "base/bulk_copy.hpp"
#include "base/thread_pool.hpp"
#include "parallel/agree.hpp"

namespace tael {

namespace {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

uint64_t total_bytes(const std::vector<BoxData>& boxes) {
  uint64_t sum = 0;
  for (const BoxData& b : boxes) sum += b.box.bytes();
  return sum;
}

// The live boxes to their copies, in pieces that all threads share.
void copy(const Stream& stream, const std::vector<BoxData>& boxes, const std::vector<std::byte*>& copies) {
  struct Piece {
    std::byte* to;
    const std::byte* from;
    size_t bytes;
  };
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  std::vector<Piece> pieces;
  for (size_t i = 0; i < boxes.size(); ++i)
    for (uint64_t at = 0; at < boxes[i].box.bytes(); at += kPiece)
      pieces.push_back({copies[i] + at, static_cast<const std::byte*>(boxes[i].data) + at,
                        static_cast<size_t>(std::min(kPiece, boxes[i].box.bytes() - at))});
  stream.synchronize();
  stream.pool().parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t task, int) {
    const Piece& piece = pieces[static_cast<size_t>(task)];
    bulk_copy(piece.to, piece.from, piece.bytes);
  });
}

}  // namespace

std::vector<std::byte*> plan_snapshot(Arena& arena, const std::vector<BoxData>& boxes) {
  std::vector<std::byte*> copies;
  for (const BoxData& b : boxes) copies.push_back(arena.vec<std::byte>(static_cast<int64_t>(b.box.bytes())).data);
  return copies;
}

size_t checkpoint_list_bytes(size_t own, size_t all) {
  // Of a box that is laid out and listed, and of one whose report comes as a text and is read. The first boxes take
  // more: the library's lists of free pieces.
  constexpr size_t kOwn = 1600, kForeign = 2000, kFirst = 800, kMostFirst = size_t{16} << 20;
  return own * kOwn + std::min(own * kFirst, kMostFirst) + (all - own) * kForeign;
}

struct CheckpointSaver::Job {
  explicit Job(const std::function<double()>& clock) : now(clock), begun(now()) {}

  const std::function<double()>& now;
  RunState state;
  std::vector<std::pair<std::string, std::string>> texts;
  std::vector<BoxData> boxes;
  const double begun;
  double stall = 0;
  bool publishing = false;

  // The thread's until `done`; the caller's after it.
  std::atomic<bool> done{false};
  std::optional<Error> error;
  std::string warning;
  double busy = 0;                    // seconds
  double busy_before = 0, since = 0;  // the caller's: of the thread that works now
  Manifest report;                    // of this rank's shard; on rank 0 in the end of all
  std::vector<std::string> reports;   // of the other shards, until they are part of it
  std::thread thread;

  ~Job() {
    if (thread.joinable()) thread.join();
  }
  template <class Work>
  void run(Work work) {
    busy_before = busy;
    since = now();
    done = false;
    try {
      thread = start_thread([this, work = std::move(work)] {
        const double start = now();
        try {
          work();
        } catch (...) {
          error = current_error();
        }
        busy += now() - start;
        done = true;
      });
    } catch (...) {  // as if it had failed to write
      error = current_error();
      done = true;
    }
  }
  void join() {
    if (thread.joinable()) thread.join();
  }
};

CheckpointSaver::CheckpointSaver(CheckpointStore store, Comm& comm, const Stream& stream, Options options)
    : store_(std::move(store)),
      comm_(comm),
      stream_(stream),
      options_(std::move(options)),
      now_(options_.now ? options_.now : steady_seconds) {}

CheckpointSaver::~CheckpointSaver() = default;

bool CheckpointSaver::busy() const { return job_ != nullptr; }

double CheckpointSaver::busy_so_far() const {
  if (!job_) return 0;
  const double mine = job_->stall + (job_->done ? job_->busy : job_->busy_before + now_() - job_->since);
  return longest_of(comm_, mine);
}

std::optional<SaveResult> CheckpointSaver::begin(const RunState& state,
                                                 std::vector<std::pair<std::string, std::string>> texts, bool copied) {
  CHECK(!busy());
  job_ = std::make_unique<Job>(now_);
  Job& job = *job_;
  job.state = state;
  job.texts = std::move(texts);
  int64_t bytes = static_cast<int64_t>(total_bytes(options_.boxes));
  comm_.all_reduce({&bytes, 1}, ReduceOp::sum);
  try {
    agreed_by(comm_, comm_.rank() == 0, [&] { store_.begin(state.step, state.attempt, static_cast<uint64_t>(bytes)); });
  } catch (const AgreedError& error) {
    job.stall = now_() - job.begun;
    return over(error);
  }
  job.boxes = options_.boxes;
  if (copied) {
    CHECK(options_.snapshot.size() == job.boxes.size());
    copy(stream_, job.boxes, options_.snapshot);
    for (size_t i = 0; i < job.boxes.size(); ++i) job.boxes[i].data = options_.snapshot[i];
  }
  if (comm_.rank() == 0)
    for (const auto& [name, content] : job.texts)
      job.boxes.push_back(
          {Box::whole(StateKind::text, name, DType::u8, {static_cast<int64_t>(content.size())}), content.data()});
  const ShardLabel label{.step = state.step,
                         .tokens = state.tokens,
                         .samples = state.samples,
                         .shard = comm_.rank(),
                         .shards = comm_.size()};
  const std::string directory = store_.prepared_path(state.step, state.attempt);
  job.run([&job, label, directory] { job.report = write_shard(directory, label, job.boxes); });
  job.stall = now_() - job.begun;
  return std::nullopt;
}

SaveResult CheckpointSaver::over(std::optional<Error> error) {
  Job& job = *job_;
  job.join();
  SaveResult result{.step = job.state.step,
                    .tokens = job.state.tokens,
                    .stall_seconds = job.stall,
                    .seconds = now_() - job.begun,
                    .busy_seconds = job.stall + job.busy,
                    .warning = job.warning,
                    .error = std::move(error)};
  for (const StoredFile& file : job.report.files) result.bytes += file.bytes;
  if (result.error && comm_.rank() == 0) store_.abandon(job.state.step, job.state.attempt);
  job_.reset();
  return result;
}

std::optional<SaveResult> CheckpointSaver::move_on(bool wait) {
  Job& job = *job_;
  if (wait) {
    job.join();
  } else {
    int64_t done = job.done ? 1 : 0;
    comm_.all_reduce({&done, 1}, ReduceOp::min);
    if (done == 0) return std::nullopt;
    job.join();
  }
  // What a failed one took says what a whole one may take.
  if (!job.publishing) job.busy = longest_of(comm_, job.busy);
  try {
    agree_ok(comm_, job.error, job.publishing ? comm_.rank() == 0 : true);
  } catch (const AgreedError& error) {
    return over(error);
  }
  if (job.publishing) return over(std::nullopt);
  job.reports = comm_.gather_text(comm_.rank() == 0 ? std::string() : job.report.text());
  job.report.state = job.state;
  job.publishing = true;
  if (comm_.rank() == 0) {
    job.run([this, &job] {
      for (const std::string& text : std::exchange(job.reports, {}))
        if (!text.empty()) job.report.append(Manifest::parse(text, "a shard's report", Manifest::Extent::shard));
      if (options_.may_publish) options_.may_publish();
      job.report.state.milestone = store_.is_milestone(job.state, options_.retention);
      store_.commit(job.report);
      job.warning = store_.settle(options_.retention);
    });
  }
  return std::nullopt;
}

std::optional<SaveResult> CheckpointSaver::start(const RunState& state,
                                                 std::vector<std::pair<std::string, std::string>> texts) {
  return begin(state, std::move(texts), true);
}

std::optional<SaveResult> CheckpointSaver::poll(bool next_is_due) {
  if (!busy()) return std::nullopt;
  std::optional<SaveResult> result = move_on(false);
  if (result || !job_->publishing || !next_is_due) return result;
  const double begin = now_();
  result = move_on(true);
  result->stall_seconds += now_() - begin;
  return result;
}

std::optional<SaveResult> CheckpointSaver::finish() {
  std::optional<SaveResult> result;
  while (busy() && !result) result = move_on(true);
  return result;
}

SaveResult CheckpointSaver::save_now(const RunState& state, std::vector<std::pair<std::string, std::string>> texts) {
  std::optional<SaveResult> result = begin(state, std::move(texts), false);
  if (!result) result = finish();
  result->stall_seconds = result->busy_seconds = result->seconds;
  return *result;
}

}  // namespace tael
