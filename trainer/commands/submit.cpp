#include "trainer/commands/submit.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/print.hpp"
#include "cost/flops.hpp"
#include "cost/job_time.hpp"
#include "cost/ledger.hpp"
#include "cost/machine.hpp"
#include "parallel/comm.hpp"
#include "trainer/assemble.hpp"
#include "trainer/budget_limit.hpp"
#include "trainer/child_process.hpp"
#include "trainer/config_rules.hpp"
#include "trainer/console.hpp"
#include "trainer/metrics.hpp"
#include "trainer/resume.hpp"
#include "trainer/run_directory.hpp"

namespace tael {

namespace {

constexpr double kGib = 1 << 30;

struct Nodes {
  int64_t count = 1, ranks = 1;  // ranks of each
  int64_t all_ranks() const { return count * ranks; }
};

Nodes nodes_of(const LoadedConfig& loaded) {
  const ClusterOptions& cluster = loaded.config.cluster;
  const Nodes nodes{cluster.nodes.value_or(1), cluster.devices_per_node.value_or(1)};
  constexpr int64_t kMostRanks = 65536;
  if (nodes.all_ranks() > kMostRanks) {
    fail_at(loaded.reading.origin("cluster.nodes"),
            "cluster.nodes: {} x {} ranks are more than the {} that are planned for", nodes.count, nodes.ranks,
            kMostRanks);
  }
  return nodes;
}

struct NodeMemory {
  size_t bytes = 0;
  std::string known_from;
};

// The largest node that Slurm has, of the partition asked for; nothing where there is no Slurm, or no such partition.
std::optional<size_t> largest_node(const SlurmRequest& request) {
  std::vector<std::string> words = {"sinfo", "--noheader", "--format=%m"};
  const SlurmOption* partition = request.find("partition");
  if (partition != nullptr && partition->value) words.push_back("--partition=" + *partition->value);
  const ProgramAnswer answer = run_program(words);
  if (!answer.found || answer.code != 0) return std::nullopt;
  size_t mebibytes = 0, number = 0;
  for (const char c : answer.out + "\n") {  // "8000" a line, or "8000+" where nodes differ
    if (c >= '0' && c <= '9') {
      number = std::min<size_t>(number * 10 + static_cast<size_t>(c - '0'), size_t{1} << 40);
    } else {
      mebibytes = std::max(mebibytes, number);
      number = 0;
    }
  }
  if (mebibytes <= 1) return std::nullopt;  // Slurm's default where its administrator gave none
  return mebibytes << 20;
}

NodeMemory node_memory(const SlurmRequest& request, const Nodes& nodes, std::optional<int64_t> threads) {
  std::optional<int64_t> processors;
  if (threads) processors = *threads * nodes.ranks;
  if (const auto asked = requested_node_bytes(request, processors)) return {*asked, "asked of Slurm"};
  if (const auto largest = largest_node(request)) return {*largest, "of a node, says sinfo"};
  return {total_bytes(), "of this machine; slurm.mem=64G tells of others"};
}

// Of earlier attempts in this run directory.
std::optional<MeasuredSteps> earlier_steps(const std::string& run) {
  const std::string path = run + "/metrics.jsonl";
  if (!path_exists(path)) return std::nullopt;
  return measured_steps(read_file_end(path, 1 << 20));
}

struct Prediction {
  JobTime time;
  double run_seconds = 0;  // of the steps that are left, with their evaluations
  int64_t steps_done = 0, evaluations = 0;
  double evaluation_seconds = 0;  // of one
  std::string step_is_from;
};

Prediction predict(Run& run, const Nodes& nodes, const Progress& from) {
  const Config& config = run.config;
  Prediction p;
  const double flops = training_flops_per_token(config.model.shape, config.training.seq_length);
  const std::vector<int64_t> sizes = config.training.global_batch_size.all();
  const double largest =
      static_cast<double>(*std::max_element(sizes.begin(), sizes.end()) * config.training.seq_length);
  p.steps_done = std::min(from.step, run.steps);
  double rate = 0;  // FLOP/s of a rank
  std::string rate_is_from;
  if (const auto earlier = earlier_steps(config.run.dir)) {
    rate = earlier->median_flops;
    rate_is_from = fmt::format("{:.3g} GFLOP/s, a rank's in the median of {} of earlier attempts", rate / 1e9,
                               count_of(earlier->count, "step"));
  } else {
    const double peak = multiply_add_peak(run.stream);
    rate = peak * kAssumedShareOfPeak;
    rate_is_from = fmt::format("{:.0f}% of {:.1f} GFLOP/s, the peak of a rank measured here", kAssumedShareOfPeak * 100,
                               peak / 1e9);
  }
  const double all = rate * static_cast<double>(nodes.all_ranks());
  p.time.step_seconds = flops * largest / all;
  p.step_is_from =
      fmt::format("{:.4g} GFLOP by {} of {}", flops * largest / 1e9, count_of(nodes.all_ranks(), "rank"), rate_is_from);
  const int64_t held_out = run.held_out_tokens();
  if (held_out > 0) {
    p.evaluations = evaluations_left(p.steps_done, run.steps, config.training.eval_interval);
    if (p.steps_done > 0 && config.training.evaluation_due(p.steps_done, run.steps) &&
        !evaluation_of_step(config.run.dir + "/metrics.jsonl", p.steps_done).made)
      ++p.evaluations;  // that an attempt gave up
  }
  p.evaluation_seconds = evaluation_cost(flops, static_cast<double>(held_out)) / all;
  p.run_seconds = flops * static_cast<double>(run.all_tokens - from.tokens) / all +
                  p.evaluation_seconds * static_cast<double>(p.evaluations);
  double data = 0;
  const auto add = [&](const std::vector<TokenShard>& shards) {
    for (const TokenShard& shard : shards) data += static_cast<double>(File::open(shard.info().path).size());
  };
  add(run.train_shards);
  add(run.valid_shards);
  const double state = 3.0 * sizeof(float) * static_cast<double>(run.network.table().size());  // weights, two moments
  p.time.start_up_seconds = predicted_start_up_seconds(state, data);
  p.time.save_seconds = predicted_save_seconds(state);
  return p;
}

// "0.4 s", "52 s", "03:20", "1:20:00": from a minute on as the console tells time.
std::string span(double seconds) {
  if (seconds < 10) return fmt::format("{:.2g} s", seconds);
  return seconds < 60 ? fmt::format("{:.0f} s", seconds) : duration(seconds);
}

int64_t limit_minutes(const SlurmRequest& request, const Prediction& p) {
  if (!request.time_limit_seconds) return default_limit_minutes(p.time, p.run_seconds);
  if (*request.time_limit_seconds < p.time.least_seconds()) {
    fail(Exit::bad_config,
         "time_limit: {} is too short: start-up ({}), one step ({}) and a save ({}) are expected to take {}; the whole "
         "run {}",
         span(*request.time_limit_seconds), span(p.time.start_up_seconds), span(p.time.step_seconds),
         span(p.time.save_seconds), span(std::ceil(p.time.least_seconds())),
         span(std::ceil(p.time.start_up_seconds + p.run_seconds + p.time.save_seconds)));
  }
  return static_cast<int64_t>(std::ceil(*request.time_limit_seconds / 60));
}

std::string money_line(const Config& config, double device_hours) {
  std::string text = fmt::format("{:.4g} device-hours at most", device_hours);
  if (const auto& price = config.cluster.price_per_device_hour)
    text += fmt::format(", {:.2f} {} (at {:.2f} an hour of a device)", device_hours * price->amount, price->currency,
                        price->amount);
  return text;
}

void say(Console& console, const Run& run, const SlurmScript& script, const NodeMemory& memory, const Prediction& p,
         bool limit_given) {
  for (const std::string& warning : run.initial_warnings) console.warn(warning);
  const double limit = static_cast<double>(script.minutes) * 60;
  const Nodes nodes{script.nodes, script.ranks_per_node};
  console.fact("run", fmt::format("{}, {}{}", run.config.run.dir, count_of(run.steps, "step"),
                                  p.steps_done > 0 ? fmt::format(", {} done", grouped(p.steps_done)) : ""));
  console.fact("job", fmt::format("{} of {}, {} under {}", count_of(nodes.count, "node"), count_of(nodes.ranks, "rank"),
                                  script.threads_per_rank ? count_of(*script.threads_per_rank, "thread") + " each"
                                                          : std::string("whole nodes"),
                                  script.launcher == Launcher::srun ? "srun --mpi=pmix" : "mpirun"));
  const double rank_gib = static_cast<double>(run.reserved_bytes()) / kGib;
  console.fact("memory", fmt::format("a node: {} x {:.2f} GiB = {:.2f} of {:.1f} GiB ({})", nodes.ranks, rank_gib,
                                     rank_gib * static_cast<double>(nodes.ranks),
                                     static_cast<double>(memory.bytes) / kGib, memory.known_from));
  console.fact("step", fmt::format("{} expected: {}", span(p.time.step_seconds), p.step_is_from));
  const double attempts =
      std::ceil(p.run_seconds / std::max(1.0, limit - p.time.start_up_seconds - p.time.save_seconds));
  console.fact("time", fmt::format("start-up {}, the {} {}{}, a save {} expected{}", span(p.time.start_up_seconds),
                                   p.steps_done > 0 ? "steps that are left" : "whole run", span(p.run_seconds),
                                   p.evaluations > 0 ? fmt::format(" with {}", count_of(p.evaluations, "evaluation"))
                                                     : std::string(),
                                   span(p.time.save_seconds),
                                   attempts > 1 ? fmt::format(": {} attempts", grouped(static_cast<int64_t>(attempts)))
                                                : std::string()));
  console.fact("limit", fmt::format("{}{}; USR1 {} before it, then the job requeues itself", slurm_time(script.minutes),
                                    limit_given ? "" : " (chosen; time_limit=20h sets it)",
                                    span(static_cast<double>(script.signal_seconds))));
  const double room = limit - p.time.start_up_seconds - static_cast<double>(script.signal_seconds);
  if (p.evaluations > 0 && p.evaluation_seconds > room) {
    console.warn(
        fmt::format("an evaluation is expected to take {}, more than an attempt has: it is given up, and left out "
                    "after three attempts",
                    span(p.evaluation_seconds)));
  }
  console.fact("asks for", money_line(run.config, static_cast<double>(nodes.all_ranks()) * limit / 3600));
}

// RUN/log and RUN/submit.sh. Until keep() they go with the object, and so do the directories that it made.
class Submission {
 public:
  Submission(const std::string& run, const std::string& script) : run_(run) {
    for (std::string each = run; !is_directory(each); each = parent_directory(each)) made_.push_back(each);
    make_directories(run);
    try {
      made_log_ = !is_directory(run + "/log");
      make_directories(run + "/log");
      made_script_ = !path_exists(this->script());
      replace_file(this->script(), script);
    } catch (...) {
      undo();
      throw;
    }
  }
  ~Submission() {
    if (!kept_) undo();
  }
  Submission(const Submission&) = delete;
  void keep() { kept_ = true; }
  std::string script() const { return run_ + "/submit.sh"; }

 private:
  // Empty directories and our own file only: whatever somebody else put there stays.
  void undo() const {
    if (made_script_) ::unlink(script().c_str());
    if (made_log_) ::rmdir((run_ + "/log").c_str());
    for (const std::string& each : made_) ::rmdir(each.c_str());
  }

  std::string run_;
  std::vector<std::string> made_;  // the run directory and what was missing above it, innermost first
  bool made_log_ = false, made_script_ = false, kept_ = false;
};

std::string first_line(const std::string& text) {
  std::string line = text.substr(0, text.find('\n'));
  return line.starts_with("sbatch: error: ") ? line.substr(15) : line;
}

void require_sbatch() {
  if (!run_program({"sbatch", "--version"}).found)
    fail(Exit::missing_resource,
         "sbatch: no such program on PATH, so nothing can be queued here; without --submit the script is written");
}

// The number of the job.
std::string queue(const std::string& script, uint64_t open_files) {
  const ProgramAnswer answer = run_program({"sbatch", "--parsable", script}, open_files);
  if (!answer.found) require_sbatch();
  if (answer.code != 0)
    fail(Exit::missing_resource, "sbatch refused the job (exit code {}): {}", answer.code, first_line(answer.err));
  std::string number = first_line(answer.out);
  number = number.substr(0, number.find(';'));  // NUMBER;CLUSTER
  if (number.empty())
    fail(Exit::missing_resource, "sbatch queued no job that has a number{}{}", answer.err.empty() ? "" : ": ",
         first_line(answer.err));
  return number;
}

}  // namespace

int run_submit(const SubmitOptions& options, std::FILE* out) {
  std::vector<std::string> overrides = options.overrides;
  const SlurmRequest request = take_slurm_request(overrides);
  LoadedConfig loaded = load_config(options.config, overrides, options.search);
  const Nodes nodes = nodes_of(loaded);
  check_config(loaded, nodes.all_ranks());
  check_built(loaded);
  check_world(loaded, nodes.all_ranks());
  const std::string& directory = loaded.config.run.dir;
  RunDirectory::look(directory);
  if (options.queue && !options.dry_run) require_sbatch();

  // The job will check every byte; here it is enough that the data is there and of the right kind.
  loaded.config.data.verify = Verify::blocks;
  const std::optional<int64_t> threads = loaded.config.cluster.threads_per_rank;
  const NodeMemory memory = node_memory(request, nodes, threads);
  const std::unique_ptr<Comm> world =
      make_comm_alike(static_cast<int>(nodes.all_ranks()), static_cast<int>(nodes.count));
  const std::optional<Checkpoint> newest = CheckpointStore(directory + "/checkpoints").newest();
  const std::optional<Progress> begins = begins_at(newest, loaded);
  Run run(loaded, *world, monotonic_time(), process_start(), memory.bytes, begins);
  require_resumable(newest, run);
  const Prediction prediction = predict(run, nodes, run.from);
  if (prediction.steps_done < run.steps)
    require_budget(run.config, read_ledger(directory + "/ledger.jsonl"),
                   prediction.time.least_seconds() * static_cast<double>(nodes.all_ranks()));

  const std::string here = std::filesystem::current_path().string();
  SlurmScript script{.program = options.program,
                     .version = build_line(),
                     .words = {options.config},
                     .directory = here,
                     .run = std::filesystem::absolute(directory).lexically_normal().string(),
                     .nodes = nodes.count,
                     .ranks_per_node = nodes.ranks,
                     .threads_per_rank = threads,
                     .minutes = limit_minutes(request, prediction),
                     .signal_seconds = 0,
                     .launcher = options.launcher,
                     .options = request.options};
  script.words.insert(script.words.end(), overrides.begin(), overrides.end());
  script.signal_seconds = signal_seconds(prediction.time, static_cast<double>(script.minutes) * 60);
  const std::string text = slurm_script(script);
  Console console({.color = options.color});
  say(console, run, script, memory, prediction, request.time_limit_seconds.has_value());
  if (options.dry_run) {
    console.fact("dry run", "everything checked; nothing was written");
    std::fwrite(text.data(), 1, text.size(), out);
    return 0;
  }
  Submission submission(directory, text);
  if (!options.queue) {
    submission.keep();
    console.fact("script", fmt::format("queue it with: sbatch {}", shell_quoted(submission.script())));
    print_to(out, "{}\n", submission.script());
    return 0;
  }
  const std::string job = queue(submission.script(), options.open_files);
  submission.keep();
  console.fact("queued", fmt::format("job {}; its output will be {}/log/slurm-{}.out", job, directory, job));
  print_to(out, "{}\n", job);
  return 0;
}

Verb submit_verb() {
  const auto o = std::make_shared<SubmitOptions>();
  const auto launcher = std::make_shared<std::string>("mpirun");
  const auto work = [o, launcher](const VerbContext& context) {
    o->search = context.search;
    o->program = context.program;
    o->color = context.color;
    o->open_files = context.open_files;
    o->launcher = *launcher == "srun" ? Launcher::srun : Launcher::mpirun;
    return run_submit(*o, stdout);
  };
  return {.name = "submit",
          .does = "write the Slurm job of a run, and queue it",
          .options = {{"config",
                       &o->config,
                       "a YAML file, or a name in configs/",
                       {.required = true, .kind = ValueKind::config}},
                      {"overrides",
                       &o->overrides,
                       "key=value, stronger than the file; time_limit=20h; slurm.KEY=value for other options of sbatch",
                       {.words = {"time_limit=", "slurm.partition=", "slurm.account=", "slurm.qos=", "slurm.mem=",
                                  "slurm.constraint="},
                        .kind = ValueKind::overrides}},
                      {"--launcher",
                       launcher.get(),
                       "mpirun, or srun for srun --mpi=pmix",
                       {.words = {"mpirun", "srun"}, .only_words = true}},
                      {"--submit", &o->queue, "queue the job with sbatch"},
                      {"--dry-run", &o->dry_run, "check everything, print the script, write and queue nothing"}},
          .work = work,
          .examples =
              "  tael submit experiments/quickstart cluster.nodes=2 cluster.devices_per_node=2 time_limit=2h\n"
              "  tael submit my.yaml time_limit=20h slurm.partition=gpu slurm.account=lab --submit"};
}

}  // namespace tael
