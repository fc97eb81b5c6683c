#include "trainer/slurm_script.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "base/check.hpp"
#include "base/field_kinds.hpp"

namespace tael {

namespace {

// Options that the script depends on, and where they come from.
struct Owned {
  std::string_view key, instead;
};
constexpr std::array kOwned = std::to_array<Owned>({
    {"array", "a run is one job"},
    {"chdir", "the job works where tael submit ran"},
    {"cpus-per-task", "give cluster.threads_per_rank"},
    {"error", "the output is in RUN/log"},
    {"export", "the job has the environment of tael submit"},
    {"hetjob", "the nodes of a run are alike"},
    {"nodes", "give cluster.nodes"},
    {"no-requeue", "a run that stops with a checkpoint goes on by itself"},
    {"ntasks", "give cluster.nodes and cluster.devices_per_node"},
    {"ntasks-per-node", "give cluster.devices_per_node"},
    {"open-mode", "an attempt appends to the output of the one before"},
    {"output", "the output is in RUN/log"},
    {"parsable", "tael submit reads the answer of sbatch"},
    {"requeue", "it is always asked for"},
    {"signal", "it follows from the time of a step and of a save"},
    {"tasks-per-node", "give cluster.devices_per_node"},
    {"time", "give time_limit"},
    {"time-min", "the job needs the time_limit that it was checked for"},
    {"wait", "tael submit does not wait for the job"},
    {"wrap", "the script is the job"},
});

bool plain_name(std::string_view key) {
  const auto inner = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return !key.empty() && key.size() <= 40 && key.front() >= 'a' && key.front() <= 'z' && key.back() != '-' &&
         std::all_of(key.begin(), key.end(), inner);
}

// sbatch reads a value between double quotes to the next one; a backslash escapes.
bool stands_in_quotes(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f && c != '"' && c != '\\';
  });
}

SlurmOption read_option(std::string_view word) {
  const size_t equals = word.find('=');
  const std::string key(word.substr(0, equals)), path = "slurm." + key;
  if (!plain_name(key))
    fail(Exit::bad_config, "{}: expected the name of an sbatch option such as slurm.partition, in small letters", path);
  if (equals == word.npos)
    fail(Exit::bad_config, "{}: expected {}=VALUE, or {}=true for an option alone", path, path, path);
  for (const Owned& owned : kOwned) {  // sbatch takes the beginning of a name for the name
    if (owned.key.starts_with(key))
      fail(Exit::bad_config, "{}: --{} is left to tael submit: {}", path, owned.key, owned.instead);
  }
  const std::string value(word.substr(equals + 1));
  if (value.empty()) fail(Exit::bad_config, "{}: expected a value, or true for an option alone", path);
  if (!stands_in_quotes(value))
    fail(Exit::bad_config,
         "{}: a value with quotes, backslashes, line ends or other control characters cannot stand in "
         "a line of sbatch",
         path);
  if (value == "true") return {key, std::nullopt};
  return {key, value};
}

// As Slurm writes it, "12:00:00" or "1-12:00:00", as far as it cannot be read in two ways. Seconds.
std::optional<double> slurm_duration(std::string_view text) {
  const size_t dash = text.find('-');
  std::vector<std::string_view> parts;
  if (dash != std::string_view::npos) parts.push_back(text.substr(0, dash));
  for (size_t begin = dash == std::string_view::npos ? 0 : dash + 1; begin <= text.size();) {
    const size_t end = std::min(text.find(':', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  const bool days = dash != std::string_view::npos;
  if (parts.size() != (days ? 4 : 3)) return std::nullopt;
  double seconds = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    int number = 0;
    const char* end = parts[i].data() + parts[i].size();
    const auto [at, error] = std::from_chars(parts[i].data(), end, number);
    const int most = i == 0 ? 1'000'000 : days && i == 1 ? 23 : 59;
    if (error != std::errc() || at != end || number < 0 || number > most) return std::nullopt;
    seconds = seconds * (days && i == 1 ? 24 : 60) + number;
  }
  return seconds;
}

double read_time_limit(const std::string& text) {
  double seconds = 0;
  try {
    if (const auto slurm = slurm_duration(text); slurm && *slurm >= 1) {
      seconds = *slurm;
    } else {
      Duration{.min = 1}.read(ConfigNode::plain(text), seconds);
    }
  } catch (const BadValue& bad) {
    fail(Exit::bad_config, "time_limit: expected {}, or 1-12:00:00, got {}", bad.expected, bad.got);
  }
  constexpr double kLongest = 366.0 * 86400;
  if (seconds > kLongest) fail(Exit::bad_config, "time_limit: {} is longer than a year", text);
  return seconds;
}

// A size as sbatch takes it: a whole number of MiB, or with K, M, G or T.
size_t read_size(const SlurmOption& option) {
  const std::string text = option.value.value_or("");
  uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  int shift = 20;
  bool good = error == std::errc() && end - stop <= 1;
  if (good && stop != end) {
    const size_t unit = std::string_view("KMGTkmgt").find(*stop);
    good = unit != std::string_view::npos;
    shift = 10 * (static_cast<int>(unit % 4) + 1);
  }
  if (!good || number > (uint64_t{1} << 22) << (40 - shift))
    fail(Exit::bad_config, "slurm.{}: expected a size such as 64G or 8000 (MiB), got {}", option.key, text);
  return static_cast<size_t>(number) << shift;
}

std::string option_line(const SlurmOption& option) {
  if (!option.value) return fmt::format("#SBATCH --{}\n", option.key);
  const bool plain = std::all_of(option.value->begin(), option.value->end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_-.,:/@+=%").find(c) != std::string_view::npos;
  });
  return plain ? fmt::format("#SBATCH --{}={}\n", option.key, *option.value)
               : fmt::format("#SBATCH --{}=\"{}\"\n", option.key, *option.value);
}

std::string last_name(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return std::string(path.substr(path.rfind('/') + 1));
}

std::string job_name(std::string_view run) {
  std::string name = "tael-" + last_name(run);
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '_' && c != '.') c = '_';
  return name;
}

std::string sbatch_lines(const SlurmScript& s) {
  std::string log = s.run + "/log/slurm-";
  if (!stands_in_quotes(log))
    fail(Exit::bad_config, "run.dir: {}: a path with quotes or backslashes cannot stand in a line of sbatch", s.run);
  for (size_t at = 0; (at = log.find('%', at)) != log.npos; at += 2) log.insert(at, 1, '%');  // else a pattern
  std::vector<SlurmOption> options = {
      {"job-name", job_name(s.run)},
      {"nodes", std::to_string(s.nodes)},
      {"ntasks", std::to_string(s.nodes * s.ranks_per_node)},
      {"ntasks-per-node", std::to_string(s.ranks_per_node)},
  };
  if (s.threads_per_rank)
    options.push_back({"cpus-per-task", std::to_string(*s.threads_per_rank)});
  else
    options.push_back({"exclusive", std::nullopt});
  options.push_back({"time", slurm_time(s.minutes)});
  options.push_back({"signal", fmt::format("B:USR1@{}", s.signal_seconds)});
  options.push_back({"requeue", std::nullopt});
  options.push_back({"open-mode", "append"});
  options.push_back({"output", log + "%j.out"});
  for (const SlurmOption& wanted : s.options) {
    std::erase_if(options, [&](const SlurmOption& o) { return o.key == wanted.key; });
    if (wanted.value != "false") options.push_back(wanted);
  }
  std::string text;
  for (const SlurmOption& option : options) text += option_line(option);
  return text;
}

// The command, a few words a line.
std::string train_command(const SlurmScript& s) {
  constexpr size_t kColumns = 110;
  std::string text = "  " + shell_quoted(s.program) + " train";
  size_t line = text.size();
  for (const std::string& word : s.words) {
    const std::string quoted = shell_quoted(word);
    if (line + 1 + quoted.size() > kColumns) {
      text += " \\\n   ";
      line = 3;
    }
    text += " " + quoted;
    line += 1 + quoted.size();
  }
  return text;
}

std::string launch(const SlurmScript& s) {
  const int64_t ranks = s.nodes * s.ranks_per_node;
  if (s.launcher == Launcher::srun) {
    return fmt::format(
        "# srun does not inherit the processors of a task.\n"
        "srun --mpi=pmix --ntasks={} --ntasks-per-node={}{} --cpu-bind=none --kill-on-bad-exit=1 \\\n{} &\n",
        ranks, s.ranks_per_node, s.threads_per_rank ? fmt::format(" --cpus-per-task={}", *s.threads_per_rank) : "",
        train_command(s));
  }
  return fmt::format(R"(# mpirun gives other nodes only its own variables of the environment; these go along by name.
pass=()
for name in $(compgen -e); do
  case $name in
    NCCL_* | UCX_* | OMP_* | TAEL_* | CUDA_*) pass+=(-x "$name") ;;
  esac
done
# Unbound: mpirun would put all threads of a rank on one core.
mpirun -n {} --map-by ppr:{}:node --bind-to none "${{pass[@]}}" \
{} &
)",
                     ranks, s.ranks_per_node, train_command(s));
}

}  // namespace

const SlurmOption* SlurmRequest::find(std::string_view key) const {
  const auto at = std::find_if(options.rbegin(), options.rend(), [&](const SlurmOption& o) { return o.key == key; });
  return at == options.rend() ? nullptr : &*at;
}

SlurmRequest take_slurm_request(std::vector<std::string>& words) {
  constexpr std::string_view kTime = "time_limit=", kSlurm = "slurm.";
  SlurmRequest request;
  std::vector<std::string> others;
  for (const std::string& word : words) {
    if (word.starts_with(kTime))
      request.time_limit_seconds = read_time_limit(word.substr(kTime.size()));
    else if (word.starts_with(kSlurm))
      request.options.push_back(read_option(std::string_view(word).substr(kSlurm.size())));
    else
      others.push_back(word);
  }
  words = std::move(others);
  return request;
}

std::optional<size_t> requested_node_bytes(const SlurmRequest& request, std::optional<int64_t> processors) {
  const SlurmOption *node = request.find("mem"), *processor = request.find("mem-per-cpu");
  size_t bytes = node != nullptr ? read_size(*node) : 0;
  if (bytes == 0 && processor != nullptr && processors)
    bytes = read_size(*processor) * static_cast<size_t>(*processors);
  if (bytes == 0) return std::nullopt;
  return bytes;
}

std::string slurm_time(int64_t minutes) {
  const int64_t days = minutes / 1440, hours = minutes / 60 % 24;
  return days > 0 ? fmt::format("{}-{:02}:{:02}:00", days, hours, minutes % 60)
                  : fmt::format("{:02}:{:02}:00", hours, minutes % 60);
}

std::string shell_quoted(std::string_view word) {
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_-.,:/@+=%").find(c) != std::string_view::npos;
  });
  if (plain) return std::string(word);
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string slurm_script(const SlurmScript& s) {
  const std::string itself = shell_quoted(s.run + "/submit.sh");
  return fmt::format(R"bash(#!/bin/bash
# A run of tael under Slurm, written by tael submit: {version}
# Queue it, and queue it again, with: sbatch {itself}
{sbatch}
# A signal that comes before the launcher is remembered.
asked=
trap 'asked=1' USR1
# The ledger of the run counts from here.
TAEL_JOB_STARTED=$(date +%s.%N)
export TAEL_JOB_STARTED
cd {directory} || exit 74

# Slurm sends USR1 to this shell {signal} s before the time limit. It goes on to the launcher and from there to every
# rank: each ends its step, the checkpoint is completed, and the exit code is 75. It goes again and again, since a launcher
# that just starts may miss it.
launcher=
teller=
interrupted=
tell() {{ while sleep 5 && kill -USR1 "$launcher" 2>/dev/null; do :; done; }}
pass_on() {{
  [[ -n $launcher ]] || return
  kill -USR1 "$launcher" 2>/dev/null
  [[ -n $teller ]] || {{ tell & teller=$!; }}
}}
trap 'interrupted=1; asked=1; pass_on' USR1

{launch}launcher=$!
[[ -z $asked ]] || pass_on

# A signal ends a wait early; the exit code is that of the wait that no signal ended.
while true; do
  interrupted=
  wait "$launcher"
  code=$?
  [[ -n $interrupted ]] || break
done
[[ -z $teller ]] || kill "$teller" 2>/dev/null
# 138: the signal ended a launcher that could not take it yet; nothing had begun.
[[ $code == 138 && -n $asked ]] && code=75
[[ $code == 75 ]] || exit "$code"

# Back into the queue, as the last act: Slurm ends this script at once. A code above 128 is just that.
again={again}
if [[ -z ${{SLURM_JOB_ID:-}} ]]; then
  echo "$again" >&2
else
  scontrol requeue "$SLURM_JOB_ID"
  requeued=$?
  [[ $requeued == 0 || $requeued -gt 128 ]] || echo "$again (Slurm does not requeue this job)" >&2
fi
exit 75
)bash",
                     fmt::arg("version", s.version), fmt::arg("itself", itself),
                     fmt::arg("again", shell_quoted("tael: stopped before its end; go on with: sbatch " + itself)),
                     fmt::arg("sbatch", sbatch_lines(s)), fmt::arg("directory", shell_quoted(s.directory)),
                     fmt::arg("signal", s.signal_seconds), fmt::arg("launch", launch(s)));
}

}  // namespace tael
