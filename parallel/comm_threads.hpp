// N ranks as N threads of one process: what the tests run many ranks on, with no launcher and under every sanitizer.
//
//   ThreadWorld world(8);
//   world.run([&](Comm& comm) { ... });
//
// Messages are copied straight from the sender's memory. A rank that throws fails the world: every rank that waits, or
// will wait, gets PeerError, and a rank that returns while others still wait for it does the same. Ranks that call
// different operations, or one with different sizes, get an internal error that names both.
#pragma once

#include <functional>
#include <memory>

#include "parallel/comm.hpp"

namespace tael {

class ThreadWorld {
 public:
  explicit ThreadWorld(int ranks);  // at least 1
  ~ThreadWorld();
  ThreadWorld(const ThreadWorld&) = delete;

  // Runs body once per rank, each on a thread of its own, and returns when all have returned. Throws what the first
  // rank that failed threw, after all have left. May be called again, also after a failure.
  void run(const std::function<void(Comm&)>& body);

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace tael
