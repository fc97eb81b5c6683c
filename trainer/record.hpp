// What rank 0 writes while a run goes on, and the thread that says meanwhile that it lives. Made when everything else
// is ready: it takes the run directory's lock.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "checkpoint/store.hpp"
#include "cost/ledger.hpp"
#include "cost/run_status.hpp"
#include "trainer/metrics.hpp"
#include "trainer/run_directory.hpp"
#include "trainer/run_lock.hpp"
#include "trainer/tensorboard.hpp"

namespace tael {

class Record {
 public:
  // `began`: on the clock's scale, the earliest rank's start. Configuration and clock outlive the record.
  // Error(locked), Error(io).
  Record(const LoadedConfig& loaded, const Environment& environment, const CostClock& clock, double began);
  ~Record();
  Record(const Record&) = delete;

  int64_t attempt() const { return lock_.attempt(); }
  const std::string& lock_note() const { return lock_.note(); }
  bool owned() const { return lock_.owned(); }
  // Error(locked): another job took the directory over while this one was frozen. To be asked behind whatever takes
  // its time and before a file of the run is changed; what is below asks by itself.
  void require_owned() const { lock_.require_owned(); }
  const RunDirectory& directory() const { return directory_; }
  Ledger& ledger() const { return *ledger_; }

  // RUN/config.yaml and env.json, once it is known that the attempt begins: one that is refused changes nothing.
  void describe() const;
  // Where the attempt begins is known: opens what shows steps. `step`: the last one done.
  void begin_at(int64_t step);

  // Nothing is written by who was frozen while another job took the directory over.
  template <class Report>
  void write(const Report& report) {
    if (!owned()) return;
    const Clock::time_point now = Clock::now();
    metrics_->write(report, now);
    if (!tensorboard_) return;
    report.visit([&](const char* name, auto value) {
      tensorboard_->scalar(name, report.step, seconds(now), static_cast<double>(value));
    });
    tensorboard_->flush();
  }
  // Of a step whose time has come (ExpertLoadFile::due). `layers`: the number of each row.
  void write_expert_load(int64_t step, int64_t tokens, const std::vector<int64_t>& layers,
                         Mat<const int64_t> counts_LE);
  // Nothing before begin_at.
  void event(int64_t step, int64_t tokens, std::string_view text) {
    if (metrics_ && owned()) metrics_->write_event(step, tokens, text, Clock::now());
  }
  void status(const RunStatus& status) const {
    if (owned()) write_status(directory_.file("status.json"), status, Clock::now());
  }
  // The last line of the attempt's metrics; all of it on the disk.
  void end(int64_t step, int64_t tokens, std::string_view state);
  // Says that the owner lives, in the lock and, when its last line is old, in the ledger: a thread of its own calls it
  // every RunLock::kBeatSeconds.
  void beat();
  // Frees the directory.
  void release(int exit_code, std::string_view reason);

 private:
  static double seconds(Clock::time_point time) {
    return std::chrono::duration<double>(time.time_since_epoch()).count();
  }
  void keep_beating();

  const LoadedConfig& loaded_;
  const Environment environment_;
  RunDirectory directory_;
  RunLock lock_;
  std::unique_ptr<Ledger> ledger_;
  std::optional<MetricsFile> metrics_;
  std::optional<Tensorboard> tensorboard_;
  std::optional<ExpertLoadFile> expert_load_;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread beats_;  // last: it uses lock and ledger
};

}  // namespace tael
