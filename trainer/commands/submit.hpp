// tael submit CONFIG [key=value ...]: the Slurm job of a run, refused before it queues when it cannot work, and told
// with what it asks for.
//
// Writes RUN/submit.sh and makes RUN/log/ for the job's output (Slurm needs it to be there), nothing else; a run
// directory that holds no more than these two is a new one to `tael train`. cluster.nodes and cluster.devices_per_node
// give nodes and ranks; `auto` is one.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "trainer/config.hpp"
#include "trainer/slurm_script.hpp"
#include "trainer/verb.hpp"

namespace tael {

struct SubmitOptions {
  std::string config;
  std::vector<std::string> overrides;  // time_limit= and slurm.KEY= among them
  ConfigSearch search;
  std::string program;  // path of the executable
  Launcher launcher = Launcher::mpirun;
  bool queue = false;    // hand the script to sbatch
  bool dry_run = false;  // print the script, write nothing
  bool color = false;
  uint64_t open_files = 0;  // the soft limit that sbatch gets, and by it the job; 0: this process's
};

// On `out` one line, the script's path or with `queue` the number of the job, or the script itself with `dry_run`; what
// the job needs and asks for goes to stderr. Refuses with Error: what `tael train` would refuse, in its words;
// bad_config for memory or time that do not suffice; missing_resource without sbatch, or where it refuses the job.
// After a refusal nothing is left of what this call made.
int run_submit(const SubmitOptions& options, std::FILE* out);

Verb submit_verb();

}  // namespace tael
