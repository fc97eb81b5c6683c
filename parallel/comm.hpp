// Many ranks acting as one: the messages they exchange, whatever carries them.
//
// Every operation is collective unless it names a partner: all ranks call it in the same order with the same sizes.
// It returns when this rank's part is done and its buffers may be used again; nothing is allocated on the caller's
// side. One thread per rank calls. Rank-indexed operations (broadcast, all_gather, exchange) and integer reductions are
// exact. Sums of floats here are `fast` only: their order belongs to the backend; canonical sums are in
// parallel/grad_reduce.hpp.
//
// Failure: an operation that cannot complete because another rank failed throws PeerError or Error(peer_lost); it never
// waits for a rank that is known to be gone. A rank that fails alone calls abort (parallel/agree.hpp does), so that no
// other rank waits for it.
//
// Backends: comm_self.cpp (one rank), comm_mpi.cpp (one process a rank), comm_threads.hpp (one thread a rank). A new
// one is comm_<name>.cpp and a row of the table in comm.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.hpp"

namespace tael {

enum class ReduceOp : uint8_t { sum, max, min };

// Thrown on a rank that was waiting for one that failed. Carries the exit code of the rank that failed, which has
// told people what happened: it is not to be printed again.
class PeerError : public Error {
 public:
  using Error::Error;
};

class Comm {
 public:
  virtual ~Comm() = default;
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(host_of_rank_.size()); }
  // Ranks that share memory with each other are on one host; hosts are numbered by their lowest rank.
  int host_of(int rank) const { return host_of_rank_[static_cast<size_t>(rank)]; }
  int hosts() const;
  int local_rank() const;  // among the ranks of this host, in [0, local_size())
  int local_size() const;

  virtual void barrier() = 0;
  // Afterwards `data` holds on every rank what it held on `root`.
  virtual void broadcast(std::span<std::byte> data, int root) = 0;
  // all[r * mine.size() ...] = mine of rank r. REQUIRES all.size() == size() * mine.size(), mine.size() < 2 GiB; the
  // two do not overlap.
  virtual void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  // In place, exact. A sum must fit in 64 bits.
  virtual void all_reduce(std::span<int64_t> values, ReduceOp op) = 0;
  // In place, any order of summation, but all ranks receive the same bits.
  virtual void all_reduce_sum(std::span<float> values) = 0;
  // Sends to and receives from one partner at the same time; the partner calls it with this rank as its partner.
  // REQUIRES partner != rank(); send.size() here equals received.size() there; the two do not overlap.
  virtual void exchange(std::span<const std::byte> send, std::span<std::byte> received, int partner) = 0;
  // This rank cannot go on and no other rank knows: every rank leaves with `code`, and none hangs. Prints nothing.
  // Under MPI the process ends here. In other backends throws Error(code, message).
  [[noreturn]] void abort(Exit code, const std::string& message) {
    release_others(code, message);
    throw Error(code, message);
  }

  // Text of any length from every rank, in rank order. For start-up and errors: it allocates.
  std::vector<std::string> all_gather_text(std::string_view mine);
  // The same for long texts that rank 0 alone needs; nothing on the others.
  std::vector<std::string> gather_text(std::string_view mine);

 protected:
  // What abort does for the other ranks.
  virtual void release_others(Exit code, const std::string& message) = 0;
  Comm(int rank, std::vector<int> host_of_rank) : rank_(rank), host_of_rank_(std::move(host_of_rank)) {}

 private:
  int rank_;
  std::vector<int> host_of_rank_;
};

enum class CommKind : uint8_t { self, mpi };

std::string_view name_of(CommKind kind);
// mpi if an MPI launcher started this process (`mpirun`, `srun --mpi=pmix`), else self. `is_set` says whether an
// environment variable exists; the environment itself is read in trainer/main.cpp only.
CommKind comm_kind_of_launch(const std::function<bool(const char* name)>& is_set);
// The ranks that the launcher started. mpi: once per process; starts MPI, and the destructor ends it. Without a
// launcher it is a world of one rank. Throws Error(missing_resource) if MPI cannot be used as asked.
std::unique_ptr<Comm> make_comm(CommKind kind);

// Rank 0 of `ranks` on `hosts` in equal blocks, in one process: every other rank is taken to hold what this one holds.
// For checks and plans of a run that nobody started. REQUIRES 1 <= hosts <= ranks, and no messages (exchange).
std::unique_ptr<Comm> make_comm_alike(int ranks, int hosts);

// Backends, for the table in comm.cpp.
std::unique_ptr<Comm> make_comm_self();
std::unique_ptr<Comm> make_comm_mpi();

}  // namespace tael
