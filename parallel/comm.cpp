#include "parallel/comm.hpp"

#include <algorithm>

namespace tael {

namespace {

struct Backend {
  CommKind kind;
  std::string_view name;
  std::unique_ptr<Comm> (*make)();
};

constexpr Backend kBackends[] = {
    {CommKind::self, "self", make_comm_self},
    {CommKind::mpi, "mpi", make_comm_mpi},
};

const Backend& backend(CommKind kind) {
  for (const Backend& row : kBackends)
    if (row.kind == kind) return row;
  CHECK(false, "no backend for communicator kind {}", static_cast<int>(kind));
}

}  // namespace

int Comm::hosts() const { return *std::max_element(host_of_rank_.begin(), host_of_rank_.end()) + 1; }

int Comm::local_rank() const {
  return static_cast<int>(std::count(host_of_rank_.begin(), host_of_rank_.begin() + rank_, host_of(rank_)));
}

int Comm::local_size() const {
  return static_cast<int>(std::count(host_of_rank_.begin(), host_of_rank_.end(), host_of(rank_)));
}

std::vector<std::string> Comm::all_gather_text(std::string_view mine) {
  const auto ranks = static_cast<size_t>(size());
  const int64_t length = static_cast<int64_t>(mine.size());
  std::vector<int64_t> lengths(ranks);
  all_gather(std::as_bytes(std::span(&length, 1)), std::as_writable_bytes(std::span(lengths)));
  // Padded to the longest: texts are short, and every backend then needs one kind of gather only.
  const auto longest = static_cast<size_t>(*std::max_element(lengths.begin(), lengths.end()));
  std::string padded(mine);
  padded.resize(longest);
  std::string all(longest * ranks, '\0');
  all_gather(std::as_bytes(std::span(padded)), std::as_writable_bytes(std::span(all)));
  std::vector<std::string> texts(ranks);
  for (size_t r = 0; r < ranks; ++r) texts[r] = all.substr(r * longest, static_cast<size_t>(lengths[r]));
  return texts;
}

std::vector<std::string> Comm::gather_text(std::string_view mine) {
  const auto ranks = static_cast<size_t>(size());
  const int64_t length = static_cast<int64_t>(mine.size());
  std::vector<int64_t> lengths(ranks);
  all_gather(std::as_bytes(std::span(&length, 1)), std::as_writable_bytes(std::span(lengths)));
  if (rank() != 0) {
    exchange(std::as_bytes(std::span(mine)), {}, 0);
    return {};
  }
  std::vector<std::string> texts = {std::string(mine)};
  for (size_t r = 1; r < ranks; ++r) {
    texts.emplace_back(static_cast<size_t>(lengths[r]), '\0');
    exchange({}, std::as_writable_bytes(std::span(texts.back())), static_cast<int>(r));
  }
  return texts;
}

std::string_view name_of(CommKind kind) { return backend(kind).name; }

CommKind comm_kind_of_launch(const std::function<bool(const char* name)>& is_set) {
  // Open MPI's mpirun sets the first; srun --mpi=pmix the second. Slurm's own variables say nothing: they are also set
  // in a shell of salloc, and under mpirun in a batch job SLURM_PROCID is 0 on every rank.
  return is_set("OMPI_COMM_WORLD_SIZE") || is_set("PMIX_RANK") ? CommKind::mpi : CommKind::self;
}

std::unique_ptr<Comm> make_comm(CommKind kind) { return backend(kind).make(); }

}  // namespace tael
