#include "trainer/commands/train.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "base/file.hpp"
#include "base/hash.hpp"
#include "checkpoint/hf_export.hpp"
#include "cost/flops.hpp"
#include "cost/machine.hpp"
#include "parallel/agree.hpp"
#include "trainer/assemble.hpp"
#include "trainer/commands/config.hpp"
#include "trainer/config_rules.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/health.hpp"
#include "trainer/metrics.hpp"
#include "trainer/run_directory.hpp"
#include "trainer/start_facts.hpp"
#include "trainer/step.hpp"
#include "trainer/tensorboard.hpp"

namespace tael {

namespace {

using Steady = std::chrono::steady_clock;

double seconds_since(Steady::time_point start) { return std::chrono::duration<double>(Steady::now() - start).count(); }

std::vector<std::string> digests_of(const std::vector<TokenShard>& shards) {
  std::vector<std::string> digests;
  for (const TokenShard& shard : shards) digests.push_back(to_hex(shard.info().digest));
  return digests;
}

// The peak of all ranks together, measured by all at once, as they will compete in training. FLOP/s of one rank.
double measured_peak(Run& run) {
  run.comm.barrier();
  const double peak = multiply_add_peak(run.stream);
  std::vector<double> all(static_cast<size_t>(run.comm.size()));
  run.comm.all_gather(std::as_bytes(std::span(&peak, 1)), std::as_writable_bytes(std::span(all)));
  double sum = 0;
  for (const double p : all) sum += p;
  return sum / static_cast<double>(all.size());
}

// What rank 0 writes while a run goes on; other ranks have none of it.
struct Record {
  Record(const LoadedConfig& loaded, const Environment& environment, Clock::time_point now)
      : directory(loaded.config.run.dir, loaded, environment), metrics(directory.file("metrics.jsonl"), 1) {
    if (!loaded.config.metrics.tensorboard) return;
    create_directory(directory.file("tb"));
    tensorboard.emplace(TensorboardOptions{
        .directory = directory.file("tb"), .host = host_name(), .process = getpid(), .wall_time = seconds(now)});
  }

  static double seconds(Clock::time_point time) {
    return std::chrono::duration<double>(time.time_since_epoch()).count();
  }

  template <class Report>
  void write(const Report& report) {
    const Clock::time_point now = Clock::now();
    metrics.write(report, now);
    if (!tensorboard) return;
    report.visit([&](const char* name, auto value) {
      tensorboard->scalar(name, report.step, seconds(now), static_cast<double>(value));
    });
    tensorboard->flush();
  }

  void status(const RunStatus& status) { write_status(directory.file("status.json"), status, Clock::now()); }

  RunDirectory directory;
  MetricsFile metrics;
  std::optional<Tensorboard> tensorboard;
};

constexpr double kStatusSeconds = 2;  // between two versions of status.json while steps go on

class Training {
 public:
  Training(Run& run, const TrainOptions& options, Console* console)
      : run_(run), options_(options), console_(console), started_(Steady::now()) {}

  int operator()() {
    run_.allocate();
    run_.initialize();
    peak_ = measured_peak(run_);
    const std::vector<std::string> hosts = run_.comm.all_gather_text(host_name());
    agreed_by(run_.comm, console_ != nullptr, [&] {
      record_.emplace(run_.loaded,
                      Environment{.command = options_.command,
                                  .hosts = hosts,
                                  .execution = run_.execution,
                                  .ranks = run_.comm.size(),
                                  .data = digests_of(run_.train_shards)},
                      Clock::now());
      report_status("running");
    });
    if (console_ != nullptr) print_peak(*console_, run_, peak_);
    try {
      loop();
    } catch (...) {
      record_failure(current_error().what());
      throw;
    }
    return 0;
  }

 private:
  void loop() {
    bool stopped = false;
    while (progress_.step < run_.steps && !stopped) {
      const Steady::time_point begin = Steady::now();
      StepReport report = train_step(run_, progress_);
      finish_report(report, seconds_since(begin));
      if (record_) {
        record_->write(report);
        doubt_peak(report);
        if (report.step % run_.config.training.log_interval == 0 || report.step == run_.steps)
          console_->step(report, seconds_left());
        // Replacing a file waits for the disk, which a short step must not.
        if (seconds_since(status_at_) >= kStatusSeconds) report_status("running");
      }
      const int64_t interval = run_.config.training.eval_interval;
      if (interval > 0 && report.step % interval == 0 && report.step < run_.steps) evaluate_now();
      stopped = stop_asked();
    }
    evaluate_now();
    write_model();
    end_record(stopped && progress_.step < run_.steps ? "stopped" : "done");
    if (console_ == nullptr) return;
    const std::string model = record_->directory.file("model");
    if (progress_.step < run_.steps) {
      console_->fact("stopped", fmt::format("after step {} of {}, as asked; its weights are in {}",
                                            grouped(progress_.step), grouped(run_.steps), model));
    } else {
      console_->fact("done", fmt::format("{} in {}, {:.4f} rank-hours; weights in {}", count_of(progress_.step, "step"),
                                         duration(seconds_since(started_)), device_hours(), model));
    }
  }

  void finish_report(StepReport& report, double seconds) {
    const int ranks = run_.comm.size();
    const double tokens = static_cast<double>(report.tokens - tokens_reported_);
    tokens_reported_ = report.tokens;
    step_seconds_ = step_seconds_ == 0 ? seconds : 0.9 * step_seconds_ + 0.1 * seconds;
    report.step_ms = seconds * 1e3;
    report.tokens_per_s = tokens / seconds;
    report.tokens_per_s_per_rank = report.tokens_per_s / ranks;
    const double flops = report.tokens_per_s_per_rank *
                         training_flops_per_token(run_.config.model.shape, run_.config.training.seq_length);
    report.tflops_per_rank = flops / 1e12;
    report.mfu = flops / peak_;
    int64_t peak_memory = static_cast<int64_t>(peak_resident_bytes());
    run_.comm.all_reduce({&peak_memory, 1}, ReduceOp::max);
    report.peak_gib = static_cast<double>(peak_memory) / (1 << 30);
    const WireBytes sent = gradient_bytes(run_);
    report.bytes_between_hosts = sent.between_hosts;
    report.bytes_within_host = sent.within_host;
    report.gpu_hours = device_hours();
    if (run_.config.cluster.price_per_device_hour)
      report.money = report.gpu_hours * run_.config.cluster.price_per_device_hour->amount;
  }

  // Said once: nothing computes faster than its multiply-adds, so the peak was measured on a machine that had no time.
  void doubt_peak(const StepReport& report) {
    if (peak_doubted_ || *report.mfu <= 1.0) return;
    peak_doubted_ = true;
    console_->warn("MFU above 100%: the machine was busy with something else when the peak was measured at start");
  }

  void evaluate_now() {
    if (run_.valid_shards.empty()) return;
    const EvalResult result = evaluate(run_.comm, {.network = run_.network,
                                                   .stream = run_.stream,
                                                   .saved = *run_.saved_arena,
                                                   .scratch = *run_.scratch_arena,
                                                   .segments = run_.config.parallelism.segments(),
                                                   .weights = run_.weights(),
                                                   .shards = run_.valid_shards,
                                                   .seq_length = run_.config.training.seq_length,
                                                   .batch = run_.division.micro_batch,
                                                   .separator = run_.separator});
    const bool finite = std::isfinite(result.nats);
    if (!record_ && finite) return;
    const EvalReport report{.step = progress_.step,
                            .tokens = progress_.tokens(run_.config),
                            .loss = result.loss(),
                            .ppl = result.ppl(),
                            .bits_per_byte = result.bits_per_byte(),
                            .targets = result.targets};
    if (record_) {
      record_->write(report);
      console_->eval(report);
    }
    if (!finite) fail_non_finite_evaluation(run_.network.table(), progress_.step, run_.params);
  }

  // STOP in the run directory, or Ctrl-C on any rank; all ranks get the same answer.
  bool stop_asked() {
    int64_t asked = options_.interrupted != nullptr && *options_.interrupted != 0 ? 1 : 0;
    if (record_ && record_->directory.stop_requested()) asked = 1;
    run_.comm.all_reduce({&asked, 1}, ReduceOp::max);
    if (asked != 0 && record_) record_->directory.remove_stop();
    return asked != 0;
  }

  void write_model() {
    agreed_by(run_.comm, record_.has_value(), [&] {
      export_parameters(record_->directory.file("model"), run_.network.table(), run_.params, run_.biases);
    });
  }

  void end_record(const char* state) {
    if (!record_) return;
    record_->metrics.write_end(progress_.step, progress_.tokens(run_.config), state, Clock::now());
    record_->metrics.sync();
    report_status(state);
  }

  // A full disk may be the very reason, so each file is tried by itself.
  void record_failure(std::string_view reason) {
    if (!record_) return;
    const auto attempt = [](const auto& write) {
      try {
        write();
      } catch (const Error&) {
      }
    };
    attempt([&] {
      record_->metrics.write_event(progress_.step, progress_.tokens(run_.config), reason, Clock::now());
      record_->metrics.write_end(progress_.step, progress_.tokens(run_.config), "failed", Clock::now());
      record_->metrics.sync();
    });
    attempt([&] { report_status("failed"); });
  }

  void report_status(const char* state) {
    RunStatus status{.state = state,
                     .step = progress_.step,
                     .steps = run_.steps,
                     .tokens = progress_.tokens(run_.config),
                     .device_hours = device_hours()};
    if (progress_.step > 0 && std::string_view(state) == "running") status.eta_s = seconds_left();
    record_->status(status);
    status_at_ = Steady::now();
  }

  double seconds_left() const { return step_seconds_ * static_cast<double>(run_.steps - progress_.step); }
  double device_hours() const { return seconds_since(started_) * run_.comm.size() / 3600.0; }

  Run& run_;
  const TrainOptions& options_;
  Console* console_;  // rank 0 only
  const Steady::time_point started_;
  std::optional<Record> record_;
  Progress progress_;
  double peak_ = 0;
  bool peak_doubted_ = false;
  double step_seconds_ = 0;  // smoothed
  int64_t tokens_reported_ = 0;
  Steady::time_point status_at_;  // when status.json was last written
};

}  // namespace

int run_train(const TrainOptions& options, Comm& comm) {
  const LoadedConfig loaded = agreed(comm, [&] {
    if (options.profile) fail(Exit::missing_resource, "tael train --profile is not built yet");
    if (options.resume != "auto" && options.resume != "never")
      fail(Exit::bad_config, "--resume {}: starting from a checkpoint is not built yet; auto or never", options.resume);
    LoadedConfig config = load_config(options.config, options.overrides, options.search);
    check_config(config);
    check_built(config);
    check_world(config, comm.size());
    return config;
  });
  agreed_by(comm, comm.rank() == 0, [&] {
    RunDirectory::require_absent(loaded.config.run.dir);
    require_creatable(loaded.config.run.dir);
  });
  agree_equal(comm, "configuration", xxh3_64(resolved_yaml(loaded)), Exit::bad_config);

  std::optional<Console> console;
  if (comm.rank() == 0) {
    console.emplace(ConsoleOptions{.color = options.color,
                                   .is_terminal = options.is_terminal,
                                   .mtp = loaded.config.model.shape.num_nextn_predict_layers > 0,
                                   .experts = loaded.config.model.shape.n_routed_experts > 0});
    console->fact("tael", build_line());
    for (const std::string& note : config_notes(loaded)) console->fact("config", note);
    constexpr size_t kColumns = 110;
    std::string_view name = "changed";
    for (const std::string& line : changed_settings(loaded, kColumns)) console->fact(std::exchange(name, ""), line);
  }
  Run run(loaded, comm);
  if (console) print_start(*console, run);
  if (options.dry_run) {
    if (console) console->fact("dry run", "everything checked; nothing was written");
    return 0;
  }
  return Training(run, options, console ? &*console : nullptr)();
}

}  // namespace tael
