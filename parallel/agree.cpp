#include "parallel/agree.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <new>
#include <string>
#include <vector>

namespace tael {

void agree_ok(Comm& comm, const std::optional<Error>& mine, bool took_part) {
  // The lowest rank that failed, and whether a rank that took part is well.
  int64_t lowest[2] = {mine ? comm.rank() : comm.size(), mine || !took_part ? 1 : 0};
  comm.all_reduce(lowest, ReduceOp::min);
  const int speaker = static_cast<int>(lowest[0]);
  if (speaker == comm.size()) return;
  const bool all_failed = lowest[1] == 1;
  int64_t code = 0;
  std::string message;
  if (comm.rank() == speaker) {
    code = static_cast<int64_t>(mine->code());
    message = all_failed ? mine->what() : fmt::format("rank {}: {}", speaker, mine->what());
  }
  int64_t length = static_cast<int64_t>(message.size());
  comm.broadcast(std::as_writable_bytes(std::span(&code, 1)), speaker);
  comm.broadcast(std::as_writable_bytes(std::span(&length, 1)), speaker);
  message.resize(static_cast<size_t>(length));
  comm.broadcast(std::as_writable_bytes(std::span(message)), speaker);
  throw AgreedError(static_cast<Exit>(code), message);
}

double longest_of(Comm& comm, double seconds) {
  int64_t nanoseconds = static_cast<int64_t>(seconds * 1e9);
  comm.all_reduce({&nanoseconds, 1}, ReduceOp::max);
  return static_cast<double>(nanoseconds) * 1e-9;
}

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {Exit::io, "out of memory"};
  } catch (const std::filesystem::filesystem_error& error) {
    const std::string path = error.path1().string();
    return {Exit::io, fmt::format("{}{}", path.empty() ? "" : path + ": ", error.code().message())};
  } catch (const std::exception& error) {
    return {Exit::internal, fmt::format("internal error: {}", error.what())};
  } catch (...) {
    return {Exit::internal, "internal error: an exception of unknown type"};
  }
}

void agree_equal(Comm& comm, std::string_view what, uint64_t digest, Exit code) {
  std::vector<uint64_t> digests(static_cast<size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&digest, 1)), std::as_writable_bytes(std::span(digests)));
  std::map<uint64_t, int> votes;
  for (const uint64_t d : digests) ++votes[d];
  if (votes.size() == 1) return;
  uint64_t common = digests[0];
  for (const uint64_t d : digests)
    if (votes[d] > votes[common]) common = d;
  std::string odd;
  int odd_count = 0;
  for (size_t r = 0; r < digests.size(); ++r) {
    if (digests[r] == common) continue;
    // A long list helps nobody: the first few say which host or node to look at.
    if (++odd_count <= 8) odd += fmt::format("{}{}", odd.empty() ? "" : ", ", r);
  }
  if (odd_count > 8) odd += fmt::format(" and {} more", odd_count - 8);
  throw AgreedError(code, fmt::format("{} differs on rank{} {} from the other {}", what, odd_count == 1 ? "" : "s", odd,
                                      digests.size() - static_cast<size_t>(odd_count)));
}

int run_rank(Comm& comm, const std::function<int()>& body, const std::function<void(std::string_view)>& report) {
  try {
    return body();
  } catch (const AgreedError& error) {
    if (comm.rank() == 0) report(error.what());
    return static_cast<int>(error.code());
  } catch (const PeerError& error) {
    return static_cast<int>(error.code());
  } catch (...) {
    const Error error = current_error();
    if (comm.size() == 1) {
      report(error.what());
      return static_cast<int>(error.code());
    }
    report(fmt::format("rank {}: {}", comm.rank(), error.what()));
    comm.abort(error.code(), error.what());
  }
}

}  // namespace tael
