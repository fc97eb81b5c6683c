#include "trainer/commands/train.hpp"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/hash.hpp"
#include "parallel/agree.hpp"
#include "trainer/commands/config.hpp"
#include "trainer/config_rules.hpp"
#include "trainer/start_facts.hpp"
#include "trainer/training.hpp"

namespace tael {

namespace {

// What the disk says before anything is allocated. The same on all ranks.
struct Beginning {
  bool in_existing_run = false;
  std::optional<Checkpoint> checkpoint;  // that the run will go on from, if it proves to be whole
  std::string branched_from;             // the checkpoint of another run that this one begins from, or began from once
};

// Of a branch that has no checkpoint of its own yet.
Checkpoint branch_point(const std::string& directory, const std::string& path) {
  try {
    return Checkpoint::open(path);
  } catch (const Error& error) {
    fail(error.code(), "run.dir: {} has no checkpoint of its own yet and begins where it branched off: {}", directory,
         error.what());
  }
}

Beginning look_at(const std::string& directory, const std::string& resume) {
  Beginning b;
  b.in_existing_run = RunDirectory::look(directory) == RunDirectory::Found::run;
  if (resume == "auto") {
    // A damaged one is said, and put aside, when the run begins.
    if (!b.in_existing_run) return b;
    b.branched_from = branch_origin(directory);
    const CheckpointStore store(directory + "/checkpoints");
    b.checkpoint = store.newest();
    if (store.published().empty() && !b.branched_from.empty())
      b.checkpoint.emplace(branch_point(directory, b.branched_from));
    return b;
  }
  // `never` means a directory that nobody has; an empty one is good enough for a branch.
  if (b.in_existing_run || (resume == "never" && path_exists(directory)))
    fail(Exit::bad_config, "run.dir: {} exists, and --resume {} begins a new run; give another run.dir{}", directory,
         resume, b.in_existing_run ? ", or go on with it without --resume" : "");
  if (resume == "never") return b;
  b.checkpoint.emplace(Checkpoint::open(resume));
  b.branched_from = std::filesystem::canonical(resume).string();
  return b;
}

}  // namespace

int run_train(const TrainOptions& options, Comm& comm) {
  LoadedConfig loaded = agreed(comm, [&] {
    if (options.profile) fail(Exit::missing_resource, "tael train --profile is not built yet");
    return load_run_config(options.config, options.overrides, options.search, comm.size());
  });
  Beginning beginning;
  agreed_by(comm, comm.rank() == 0, [&] { beginning = look_at(loaded.config.run.dir, options.resume); });
  std::array<int64_t, 6> facts = {beginning.in_existing_run ? 1 : 0};
  if (const std::optional<Progress> p = begins_at(beginning.checkpoint, loaded))
    facts = {facts[0], 0, p->step, p->samples, p->tokens, 1};
  facts[1] = loaded.config.parallelism.reduction_segments.value_or(0);
  comm.broadcast(std::as_writable_bytes(std::span(facts)), 0);
  const std::string branched_from = comm.all_gather_text(beginning.branched_from)[0];
  if (facts[1] > 0) loaded.config.parallelism.reduction_segments = facts[1];
  agree_equal(comm, "configuration", xxh3_64(resolved_yaml(loaded)), Exit::bad_config);

  std::optional<Console> console;
  const std::optional<Money>& price = loaded.config.cluster.price_per_device_hour;
  if (comm.rank() == 0) {
    console.emplace(ConsoleOptions{.color = options.color,
                                   .is_terminal = options.is_terminal,
                                   .mtp = loaded.config.model.shape.num_nextn_predict_layers > 0,
                                   .experts = loaded.config.model.shape.n_routed_experts > 0,
                                   .budget = loaded.config.budget.gpu_hours || loaded.config.budget.money,
                                   .currency = price ? price->currency : std::string()});
    console->fact("tael", build_line());
    print_config(*console, loaded);
  }
  std::optional<Progress> begins;
  if (facts[5] != 0) begins = Progress{.step = facts[2], .samples = facts[3], .tokens = facts[4]};
  Run run(loaded, comm, options.time, options.began, 0, begins);
  if (console) print_start(*console, run);
  if (console && comm.size() == 1 && options.slurm_tasks > 1) {
    console->warn(
        fmt::format("the Slurm job has {} tasks, but this is one rank alone: start it with mpirun or srun "
                    "--mpi=pmix (tael submit writes such a job)",
                    options.slurm_tasks));
  }
  // Before it takes the directory; what the start really goes on from is looked at again when it is read.
  agreed_by(comm, comm.rank() == 0, [&] { require_resumable(beginning.checkpoint, run); });
  beginning.checkpoint.reset();  // the list of its tensors makes room for that one
  if (options.dry_run) {
    if (console)
      console->fact(
          "dry run",
          "everything checked but the budget and the bytes of checkpoints to go on from; nothing was written");
    return 0;
  }
  TrainingSetup training{.command = options.command,
                         .job = options.job,
                         .branched_from = branched_from,
                         .in_existing_run = facts[0] != 0,
                         .must_be_new = options.resume != "auto",
                         .stop = options.interrupted,
                         .predicted_step_seconds = options.predicted_step_seconds,
                         .predicted_save_seconds = options.predicted_save_seconds};
  return static_cast<int>(Training(run, training, console ? &*console : nullptr)());
}

Verb train_verb() {
  const auto o = std::make_shared<TrainOptions>();
  const auto work = [o](const VerbContext& context, Comm& comm) {
    o->search = context.search;
    o->command = context.command;
    o->color = context.color;
    o->is_terminal = context.is_terminal;
    o->interrupted = context.interrupted;
    if (const char* tasks = context.environment("SLURM_NTASKS")) o->slurm_tasks = std::atoi(tasks);
    if (const char* job = context.environment("SLURM_JOB_ID")) o->job = job;
    if (const char* started = context.environment("TAEL_JOB_STARTED")) o->began = job_start(started);
    return run_train(*o, comm);
  };
  return {.name = "train",
          .does = "train a model; alone, or on many ranks under mpirun",
          .options = {{"config",
                       &o->config,
                       "a YAML file, or a name in configs/",
                       {.required = true, .kind = ValueKind::config}},
                      {"overrides", &o->overrides, "key=value, stronger than the file", {.kind = ValueKind::overrides}},
                      {"--resume",
                       &o->resume,
                       "auto, never, or the path of a checkpoint",
                       {.words = {"auto", "never"}, .kind = ValueKind::file}},
                      {"--profile", &o->profile, "print where the time of a step goes (not built yet)"},
                      {"--dry-run", &o->dry_run, "check everything, print the plan, write nothing"}},
          .work = work,
          .examples =
              "  tael train experiments/quickstart training.train_steps=100\n"
              "  mpirun -n 4 tael train my.yaml run.dir=runs/second optimizer.lr=1e-3",
          .can_stop = true};
}

}  // namespace tael
