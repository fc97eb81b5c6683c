// What all ranks must know together: that nobody failed, and that all have the same.
//
// Three ways out of trouble, so that there is one message, no rank hangs, and all leave with one exit code:
// - a failure at a point where all ranks meet (start-up, the border of a step): agree_ok. Every rank learns of it and
//   throws the same AgreedError.
// - a failure of one rank in the middle of a step: the exception goes up to run_rank, which reports it with the rank's
//   number and aborts the communicator.
// - a rank that differs from the others: agree_equal names it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <type_traits>

#include "base/check.hpp"
#include "parallel/comm.hpp"

namespace tael {

// An error that every rank throws at the same point, with the same code and message. One rank reports it for all.
class AgreedError : public Error {
 public:
  using Error::Error;
};

// Collective. Returns if no rank brings an error; otherwise every rank throws AgreedError with the code and the message
// of the lowest rank that failed. The message begins with "rank N: " unless all ranks that took part failed, as they do
// when they all read the same bad file. One small all-reduce when all is well; nothing is allocated then.
void agree_ok(Comm& comm, const std::optional<Error>& mine, bool took_part = true);

// Collective. The largest of all ranks' seconds, the same on all of them.
double longest_of(Comm& comm, double seconds);

// The current exception as an Error: an Error as it is, anything else as an internal one. Inside a catch block only.
Error current_error();

// Runs body() on every rank, then agrees: auto config = agreed(comm, [&] { return load_config(path); });
// The body must not communicate: a rank that fails in it would leave the others waiting inside.
template <class Body>
auto agreed(Comm& comm, const Body& body) -> std::invoke_result_t<const Body&> {
  using Result = std::invoke_result_t<const Body&>;
  std::optional<Error> error;
  const auto keep = [&](auto&& work) {
    try {
      work();
    } catch (...) {
      error = current_error();
    }
  };
  if constexpr (std::is_void_v<Result>) {
    keep(body);
    agree_ok(comm, error);
  } else {
    std::optional<Result> result;
    keep([&] { result.emplace(body()); });
    agree_ok(comm, error);
    return *std::move(result);
  }
}

// The same where only some ranks have the work to do: one of each host, or rank 0 alone.
template <class Body>
void agreed_by(Comm& comm, bool takes_part, const Body& body) {
  std::optional<Error> error;
  try {
    if (takes_part) body();
  } catch (...) {
    error = current_error();
  }
  agree_ok(comm, error, takes_part);
}

// Collective. Throws AgreedError(code) on every rank unless `digest` is the same on all; names `what` and the ranks
// that differ from the most common digest (the lowest rank's, if several are as common).
void agree_equal(Comm& comm, std::string_view what, uint64_t digest, Exit code);

// One rank's work from start to exit code. Errors do not leave it while other ranks might wait: an AgreedError is
// reported by rank 0 only; any other error of this rank is reported by it, with its number if there are several ranks,
// and aborts the communicator; a PeerError is not reported, its cause has been. `report` receives one line without its
// end. Returns what body returned or the error's exit code (under MPI an abort does not return; with rank threads it
// throws the error on, for ThreadWorld::run).
int run_rank(Comm& comm, const std::function<int()>& body, const std::function<void(std::string_view)>& report);

}  // namespace tael
