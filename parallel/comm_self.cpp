#include <cstring>

#include "parallel/comm.hpp"

namespace tael {

namespace {

// A world of one rank: everything is already where it should be.
class SelfComm final : public Comm {
 public:
  SelfComm() : Comm(0, {0}) {}

  void barrier() override {}
  void broadcast(std::span<std::byte>, int root) override { CHECK(root == 0, "root {} of one rank", root); }
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    CHECK(all.size() == mine.size(), "{} bytes gathered into {}", mine.size(), all.size());
    if (!mine.empty()) std::memcpy(all.data(), mine.data(), mine.size());
  }
  void all_reduce(std::span<int64_t>, ReduceOp) override {}
  void all_reduce_sum(std::span<float>) override {}
  void exchange(std::span<const std::byte>, std::span<std::byte>, int partner) override {
    CHECK(false, "one rank has no partner {}", partner);
  }

 protected:
  void release_others(Exit, const std::string&) override {}
};

}  // namespace

std::unique_ptr<Comm> make_comm_self() { return std::make_unique<SelfComm>(); }

}  // namespace tael
