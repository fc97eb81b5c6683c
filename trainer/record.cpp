#include "trainer/record.hpp"

#include <unistd.h>

#include "base/thread_pool.hpp"

namespace tael {

namespace {

// A killed attempt misses at most this much in the ledger.
constexpr double kLedgerBeatSeconds = 20;

}  // namespace

Record::Record(const LoadedConfig& loaded, const Environment& environment, const CostClock& clock, double began)
    : loaded_(loaded),
      environment_(environment),
      directory_(loaded.config.run.dir),
      lock_(RunLock::acquire(directory_.path(), {.attempt = 0,
                                                 .owner = this_process(environment.job),
                                                 .ranks = environment.ranks,
                                                 .hosts = environment.hosts,
                                                 .branched_from = environment.branched_from,
                                                 .began = {},
                                                 .ended = {},
                                                 .exit_code = 0,
                                                 .reason = {}})) {
  try {
    ledger_ = std::make_unique<Ledger>(directory_.file("ledger.jsonl"),
                                       Ledger::Attempt{.number = lock_.attempt(),
                                                       .ranks = environment.ranks,
                                                       .began = began,
                                                       .conditions = environment.conditions},
                                       clock);
    beats_ = start_thread([this] { keep_beating(); });
  } catch (const Error& error) {
    lock_.release(static_cast<int>(error.code()), error.what());
    throw;
  }
}

Record::~Record() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  beats_.join();
}

void Record::keep_beating() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, std::chrono::duration<double>(RunLock::kBeatSeconds), [this] { return stop_; })) beat();
}

void Record::beat() {
  // A full disk is told by whoever must write; a sign of life that fails is only missed.
  const auto attempt = [](const auto& write) {
    try {
      write();
    } catch (const Error&) {
    }
  };
  // Who was frozen while somebody took over must not write into what is another's by now.
  if (!lock_.owned()) return;
  attempt([&] { lock_.beat(); });
  attempt([&] { ledger_->beat(kLedgerBeatSeconds); });
}

void Record::describe() const {
  require_owned();
  directory_.describe(loaded_, environment_, attempt());
}

void Record::begin_at(int64_t step) {
  require_owned();
  metrics_.emplace(directory_.file("metrics.jsonl"), attempt());
  if (!loaded_.config.metrics.tensorboard) return;
  make_directories(directory_.file("tb"));
  tensorboard_.emplace(TensorboardOptions{.directory = directory_.file("tb"),
                                          .host = host_name(),
                                          .process = getpid(),
                                          .wall_time = seconds(Clock::now()),
                                          .attempt = attempt(),
                                          .first_step = step + 1});
}

void Record::write_expert_load(int64_t step, int64_t tokens, const std::vector<int64_t>& layers,
                               Mat<const int64_t> counts_LE) {
  if (!expert_load_) expert_load_.emplace(directory_.file("experts.jsonl"), attempt(), layers);
  expert_load_->write(step, tokens, counts_LE, Clock::now());
}

void Record::end(int64_t step, int64_t tokens, std::string_view state) {
  if (metrics_) {
    metrics_->write_end(step, tokens, state, Clock::now());
    metrics_->sync();
  }
  ledger_->sync();
}

void Record::release(int exit_code, std::string_view reason) {
  const std::lock_guard lock(mutex_);  // no beat meanwhile
  lock_.release(exit_code, reason);
}

}  // namespace tael
