// MPI, and the only file that knows it. Written for Open MPI 4.1; uses nothing beyond MPI 3.0.
#include <mpi.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <exception>

#include "parallel/comm.hpp"

namespace tael {

namespace {

// Counts are int: longer messages go in pieces.
constexpr size_t kPieceBytes = size_t{1} << 30;

void check(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail(Exit::peer_lost, "{}: {}", what, std::string_view(text, static_cast<size_t>(length)));
}

int count(size_t n) { return static_cast<int>(n); }

// MPI from start to end, once per process.
class MpiSession {
 public:
  MpiSession() {
    int initialized = 0;
    MPI_Initialized(&initialized);
    CHECK(initialized == 0, "MPI was started before in this process");
    int provided = MPI_THREAD_SINGLE;
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
      fail(Exit::missing_resource, "MPI could not be started");
    if (provided < MPI_THREAD_FUNNELED) {
      MPI_Finalize();
      fail(Exit::missing_resource, "this MPI does not allow threads beside the one that communicates");
    }
    // Errors come back as codes, so that they leave with our exit code and one line.
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  }
  // Finalizing waits for the other ranks. While an exception carries this rank out alone they would wait for it too.
  ~MpiSession() {
    if (std::uncaught_exceptions() > 0) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(Exit::internal));
    MPI_Finalize();
  }
  MpiSession(const MpiSession&) = delete;
};

class MpiComm final : public Comm {
 public:
  MpiComm(std::unique_ptr<MpiSession> session, MPI_Comm comm, int rank, std::vector<int> host_of_rank)
      : Comm(rank, std::move(host_of_rank)), session_(std::move(session)), comm_(comm) {}
  ~MpiComm() override {
    if (std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
  }

  void barrier() override { check(MPI_Barrier(comm_), "MPI_Barrier"); }

  void broadcast(std::span<std::byte> data, int root) override {
    CHECK(root >= 0 && root < size(), "root {} of {} ranks", root, size());
    for (; !data.empty(); data = data.subspan(std::min(data.size(), kPieceBytes)))
      check(MPI_Bcast(data.data(), count(std::min(data.size(), kPieceBytes)), MPI_BYTE, root, comm_), "MPI_Bcast");
  }

  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    CHECK(all.size() == mine.size() * static_cast<size_t>(size()), "{} bytes of each of {} ranks gathered into {}",
          mine.size(), size(), all.size());
    CHECK(mine.size() <= INT_MAX, "{} bytes of each rank gathered at once", mine.size());
    if (mine.empty()) return;
    check(MPI_Allgather(mine.data(), count(mine.size()), MPI_BYTE, all.data(), count(mine.size()), MPI_BYTE, comm_),
          "MPI_Allgather");
  }

  void all_reduce(std::span<int64_t> values, ReduceOp op) override {
    const MPI_Op ops[] = {MPI_SUM, MPI_MAX, MPI_MIN};  // in the order of ReduceOp
    reduce_in_place(values, MPI_INT64_T, ops[static_cast<int>(op)]);
  }

  void all_reduce_sum(std::span<float> values) override { reduce_in_place(values, MPI_FLOAT, MPI_SUM); }

  void exchange(std::span<const std::byte> send, std::span<std::byte> received, int partner) override {
    CHECK(partner >= 0 && partner < size() && partner != rank(), "rank {} of {} exchanges with {}", rank(), size(),
          partner);
    do {
      const size_t out = std::min(send.size(), kPieceBytes), in = std::min(received.size(), kPieceBytes);
      MPI_Request requests[2];
      MPI_Status statuses[2];
      check(MPI_Irecv(received.data(), count(in), MPI_BYTE, partner, 0, comm_, &requests[0]), "MPI_Irecv");
      check(MPI_Isend(send.data(), count(out), MPI_BYTE, partner, 0, comm_, &requests[1]), "MPI_Isend");
      const int status = MPI_Waitall(2, requests, statuses);
      if (status == MPI_ERR_IN_STATUS) {
        check(statuses[0].MPI_ERROR, "receiving");
        check(statuses[1].MPI_ERROR, "sending");
      }
      check(status, "MPI_Waitall");
      int arrived = 0;
      MPI_Get_count(&statuses[0], MPI_BYTE, &arrived);
      CHECK(arrived == count(in), "rank {} expects {} bytes of rank {}, which sends {}", rank(), in, partner, arrived);
      send = send.subspan(out);
      received = received.subspan(in);
    } while (!send.empty() || !received.empty());
  }

 protected:
  void release_others(Exit code, const std::string&) override {
    MPI_Abort(comm_, static_cast<int>(code));
    std::_Exit(static_cast<int>(code));
  }

 private:
  template <class T>
  void reduce_in_place(std::span<T> values, MPI_Datatype type, MPI_Op op) {
    constexpr size_t kPiece = kPieceBytes / sizeof(T);
    for (; !values.empty(); values = values.subspan(std::min(values.size(), kPiece)))
      check(MPI_Allreduce(MPI_IN_PLACE, values.data(), count(std::min(values.size(), kPiece)), type, op, comm_),
            "MPI_Allreduce");
  }

  std::unique_ptr<MpiSession> session_;  // destroyed last, after comm_ was freed
  MPI_Comm comm_;
};

// For every rank the number of its host: hosts in order of their lowest rank.
std::vector<int> find_hosts(MPI_Comm comm, int rank, int size) {
  MPI_Comm host = MPI_COMM_NULL;
  check(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &host), "MPI_Comm_split_type");
  int leader = rank;  // the key orders ranks inside a host as in the world, so its rank 0 is its lowest
  check(MPI_Bcast(&leader, 1, MPI_INT, 0, host), "MPI_Bcast");
  check(MPI_Comm_free(&host), "MPI_Comm_free");
  std::vector<int> leaders(static_cast<size_t>(size));
  check(MPI_Allgather(&leader, 1, MPI_INT, leaders.data(), 1, MPI_INT, comm), "MPI_Allgather");
  std::vector<int> distinct = leaders;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (int& l : leaders) l = static_cast<int>(std::lower_bound(distinct.begin(), distinct.end(), l) - distinct.begin());
  return leaders;
}

}  // namespace

std::unique_ptr<Comm> make_comm_mpi() {
  auto session = std::make_unique<MpiSession>();
  MPI_Comm comm = MPI_COMM_NULL;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  int rank = 0, size = 0;
  check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  check(MPI_Comm_size(comm, &size), "MPI_Comm_size");
  return std::make_unique<MpiComm>(std::move(session), comm, rank, find_hosts(comm, rank, size));
}

}  // namespace tael
