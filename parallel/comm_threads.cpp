#include "parallel/comm_threads.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

namespace tael {

namespace {

// What one rank has brought to the collective that is under way.
struct Offer {
  const char* what = "";
  size_t bytes = 0;
  int detail = 0;  // root or operation: must agree too
  const std::byte* in = nullptr;
  std::byte* out = nullptr;
};

// What one rank is sending to its partner.
struct Parcel {
  std::span<const std::byte> data;
  int to = -1;
  bool ready = false, being_copied = false;
};

}  // namespace

struct ThreadWorld::State {
  explicit State(int n)
      : ranks(n), returned(static_cast<size_t>(n)), offers(static_cast<size_t>(n)), parcels(static_cast<size_t>(n)) {}

  void reset() {
    arrived = 0;
    failed.reset();
    first_error = nullptr;
    std::fill(returned.begin(), returned.end(), false);
    std::fill(parcels.begin(), parcels.end(), Parcel{});
  }

  // Both are called with the lock held.
  void fail_world(int rank, Exit code, const std::string& message, std::exception_ptr error) {
    if (!failed) {
      failed.emplace(code, fmt::format("rank {} failed: {}", rank, message));
      first_error = std::move(error);
    }
    changed.notify_all();
  }
  void throw_if_failed() const {
    if (failed) throw *failed;
  }
  // Waiting for every rank, or for one.
  void throw_if_hopeless() const {
    throw_if_failed();
    for (int r = 0; r < ranks; ++r) throw_if_returned(r);
  }
  void throw_if_hopeless(int partner) const {
    throw_if_failed();
    throw_if_returned(partner);
  }
  void throw_if_returned(int rank) const {
    if (returned[static_cast<size_t>(rank)])
      fail(Exit::internal, "rank {} returned while another rank still waits for it", rank);
  }

  // Returns once all ranks have arrived. `closing`: every rank is sure to arrive, and may still be reading this rank's
  // memory, so a failure elsewhere does not let it go early.
  void meet(bool closing) {
    std::unique_lock lock(mutex);
    if (!closing) throw_if_hopeless();
    const uint64_t mine = round;
    if (++arrived == ranks) {
      arrived = 0;
      ++round;
      changed.notify_all();
      return;
    }
    while (round == mine) {
      if (!closing) throw_if_hopeless();
      changed.wait(lock);
    }
  }

  const int ranks;
  std::mutex mutex;
  std::condition_variable changed;
  int arrived = 0;
  uint64_t round = 0;
  std::vector<bool> returned;  // ranks whose body has ended
  std::optional<PeerError> failed;
  std::exception_ptr first_error;
  std::vector<Offer> offers;
  std::vector<Parcel> parcels;
};

namespace {

class ThreadComm final : public Comm {
 public:
  ThreadComm(ThreadWorld::State& world, int rank)
      : Comm(rank, std::vector<int>(static_cast<size_t>(world.ranks), 0)), world_(world) {}

  void barrier() override {
    collective({.what = "barrier"}, [] {});
  }

  void broadcast(std::span<std::byte> data, int root) override {
    CHECK(root >= 0 && root < size(), "root {} of {} ranks", root, size());
    collective({.what = "broadcast", .bytes = data.size(), .detail = root, .in = data.data()}, [&] {
      if (rank() != root && !data.empty()) std::memcpy(data.data(), offer(root).in, data.size());
    });
  }

  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    CHECK(all.size() == mine.size() * static_cast<size_t>(size()), "{} bytes of each of {} ranks gathered into {}",
          mine.size(), size(), all.size());
    collective({.what = "all_gather", .bytes = mine.size(), .in = mine.data()}, [&] {
      if (mine.empty()) return;
      for (int r = 0; r < size(); ++r)
        std::memcpy(all.data() + static_cast<size_t>(r) * mine.size(), offer(r).in, mine.size());
    });
  }

  void all_reduce(std::span<int64_t> values, ReduceOp op) override {
    reduce_in_place<int64_t>("all_reduce", values, static_cast<int>(op), [op](int64_t a, int64_t b) {
      switch (op) {
        case ReduceOp::sum: return a + b;
        case ReduceOp::max: return std::max(a, b);
        case ReduceOp::min: return std::min(a, b);
      }
      return a;
    });
  }

  void all_reduce_sum(std::span<float> values) override {
    reduce_in_place<float>("all_reduce_sum", values, 0, [](float a, float b) { return a + b; });
  }

  void exchange(std::span<const std::byte> send, std::span<std::byte> received, int partner) override {
    CHECK(partner >= 0 && partner < size() && partner != rank(), "rank {} of {} exchanges with {}", rank(), size(),
          partner);
    Parcel& mine = world_.parcels[static_cast<size_t>(rank())];
    Parcel& theirs = world_.parcels[static_cast<size_t>(partner)];
    std::unique_lock lock(world_.mutex);
    world_.throw_if_hopeless(partner);
    mine = {.data = send, .to = partner, .ready = true, .being_copied = false};
    world_.changed.notify_all();
    while (!(theirs.ready && theirs.to == rank())) {
      if (!mine.being_copied) withdraw_if_hopeless(mine, partner);
      world_.changed.wait(lock);
    }
    const bool fits = theirs.data.size() == received.size();
    const size_t sent = theirs.data.size();
    if (fits && sent > 0) {
      theirs.being_copied = true;
      lock.unlock();
      std::memcpy(received.data(), theirs.data.data(), sent);
      lock.lock();
    }
    theirs = Parcel{};
    world_.changed.notify_all();
    while (mine.ready) {
      if (!mine.being_copied) withdraw_if_hopeless(mine, partner);
      world_.changed.wait(lock);
    }
    CHECK(fits, "rank {} expects {} bytes of rank {}, which sends {}", rank(), received.size(), partner, sent);
  }

 protected:
  void release_others(Exit code, const std::string& message) override {
    std::lock_guard lock(world_.mutex);
    world_.fail_world(rank(), code, message, std::make_exception_ptr(Error(code, message)));
  }

 private:
  const Offer& offer(int rank) const { return world_.offers[static_cast<size_t>(rank)]; }

  // Between the two meetings every rank may read what the others have offered. `work` must not throw.
  template <class Work>
  void collective(const Offer& mine, const Work& work) {
    world_.offers[static_cast<size_t>(rank())] = mine;
    world_.meet(false);
    int odd = -1;
    for (int r = 0; r < size() && odd < 0; ++r)
      if (std::strcmp(offer(r).what, mine.what) != 0 || offer(r).bytes != mine.bytes || offer(r).detail != mine.detail)
        odd = r;
    const Offer other = odd < 0 ? mine : offer(odd);
    if (odd < 0) work();
    world_.meet(true);
    CHECK(odd < 0, "rank {} is in {} of {} bytes, rank {} in {} of {} bytes", rank(), mine.what, mine.bytes, odd,
          other.what, other.bytes);
  }

  // Each rank combines one slice, in rank order, and writes it to all: only one rank ever touches an element.
  template <class T, class Combine>
  void reduce_in_place(const char* what, std::span<T> values, int detail, const Combine& combine) {
    auto* bytes = reinterpret_cast<std::byte*>(values.data());
    collective({.what = what, .bytes = values.size_bytes(), .detail = detail, .in = bytes, .out = bytes}, [&] {
      const size_t n = values.size(), ranks = static_cast<size_t>(size()), r = static_cast<size_t>(rank());
      const size_t begin = n / ranks * r + std::min(r, n % ranks);
      const size_t end = begin + n / ranks + (r < n % ranks ? 1 : 0);
      for (size_t i = begin; i < end; ++i) {
        T total = reinterpret_cast<const T*>(offer(0).in)[i];
        for (int other = 1; other < size(); ++other)
          total = combine(total, reinterpret_cast<const T*>(offer(other).in)[i]);
        for (int other = 0; other < size(); ++other) reinterpret_cast<T*>(offer(other).out)[i] = total;
      }
    });
  }

  // With the lock held, and only while nobody copies the parcel: its memory may go away with this rank.
  void withdraw_if_hopeless(Parcel& mine, int partner) {
    if (!world_.failed && !world_.returned[static_cast<size_t>(partner)]) return;
    mine = Parcel{};
    world_.throw_if_hopeless(partner);
  }

  ThreadWorld::State& world_;
};

}  // namespace

ThreadWorld::ThreadWorld(int ranks) : state_(std::make_unique<State>(std::max(ranks, 1))) {}

ThreadWorld::~ThreadWorld() = default;

void ThreadWorld::run(const std::function<void(Comm&)>& body) {
  State& world = *state_;
  world.reset();
  const auto run_rank = [&](int rank) {
    ThreadComm comm(world, rank);
    const auto failed = [&](Exit code, const std::string& message) {
      std::lock_guard lock(world.mutex);
      world.fail_world(rank, code, message, std::current_exception());
    };
    try {
      body(comm);
    } catch (const Error& error) {
      return failed(error.code(), error.what());
    } catch (const std::exception& error) {
      return failed(Exit::internal, error.what());
    } catch (...) {
      return failed(Exit::internal, "an exception of unknown type");
    }
    std::lock_guard lock(world.mutex);
    world.returned[static_cast<size_t>(rank)] = true;
    world.changed.notify_all();
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(world.ranks));
  for (int rank = 0; rank < world.ranks; ++rank) threads.emplace_back(run_rank, rank);
  for (std::thread& thread : threads) thread.join();
  if (world.first_error) std::rethrow_exception(world.first_error);
}

}  // namespace tael
