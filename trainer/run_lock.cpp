#include "trainer/run_lock.hpp"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "base/file.hpp"
#include "base/json.hpp"
#include "cost/machine.hpp"
#include "trainer/metrics.hpp"
#include "trainer/run_directory.hpp"

namespace tael {

namespace {

constexpr std::string_view kEnd = ".json";

std::string name_of(int64_t attempt) { return fmt::format("{:08}", attempt); }

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

int64_t highest(const std::string& directory) {
  int64_t found = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    int64_t attempt = 0;
    std::from_chars(name.data(), name.data() + name.size(), attempt);
    if (name == name_of(attempt) + std::string(kEnd)) found = std::max(found, attempt);
  }
  if (error && error != std::errc::no_such_file_or_directory)
    fail(Exit::io, "{}: cannot list: {}", directory, error.message());
  return found;
}

std::string text_of(const AttemptRecord& r) {
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object().field("attempt", r.attempt).field("host", r.owner.host).field("machine", r.owner.machine);
  json.field("pid", r.owner.pid).field("started", r.owner.started).field("job", r.owner.job);
  json.field("ranks", r.ranks).key("hosts").begin_array();
  for (const std::string& host : r.hosts) json.value(host);
  json.end_array();
  if (!r.branched_from.empty()) json.field("branched_from", r.branched_from);
  json.field("began", r.began);
  if (!r.ended.empty())
    json.field("ended", r.ended).field("exit_code", static_cast<int64_t>(r.exit_code)).field("reason", r.reason);
  return json.end_object().text() + "\n";
}

AttemptRecord read_record(const std::string& path) {
  const auto document = JsonDocument::parse(read_file(path, 1 << 20, Exit::bad_data), path);
  const Json& json = document.root();
  AttemptRecord r;
  r.attempt = json.at("attempt").as_int();
  r.owner = {.host = json.at("host").as_string(),
             .machine = json.at("machine").as_string(),
             .pid = json.at("pid").as_int(),
             .started = static_cast<uint64_t>(json.at("started").as_int()),
             .job = json.at("job").as_string()};
  r.ranks = json.at("ranks").as_int();
  for (const Json& host : json.at("hosts").items()) r.hosts.push_back(host.as_string());
  if (const Json* from = json.find("branched_from")) r.branched_from = from->as_string();
  r.began = json.at("began").as_string();
  if (const Json* ended = json.find("ended")) {
    r.ended = ended->as_string();
    r.exit_code = static_cast<int>(json.at("exit_code").as_int());
    r.reason = json.at("reason").as_string();
  }
  return r;
}

std::string in_words(const AttemptRecord& r) {
  return fmt::format("attempt {} ({}, process {}{}, since {})", r.attempt, r.owner.host, r.owner.pid,
                     r.owner.job.empty() ? "" : ", job " + r.owner.job, r.began);
}

// Whether the owner of an attempt that did not say that it ended still lives.
bool lives(const std::string& directory, const AttemptRecord& r, const LockTiming& timing) {
  if (r.owner.machine == this_process({}).machine) return process_start_ticks(r.owner.pid) == r.owner.started;
  const std::string alive = fmt::format("{}/{}.alive", directory, name_of(r.attempt));
  const std::string first = read_line(alive);
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < timing.lease_seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(timing.look_seconds));
    if (read_line(alive) != first) return true;
    if (!read_record(fmt::format("{}/{}{}", directory, name_of(r.attempt), kEnd)).ended.empty()) return false;
  }
  return false;
}

// Whether `prepared` could be given the name; false: somebody else has it.
bool link_to(const std::string& prepared, const std::string& path) {
  if (::link(prepared.c_str(), path.c_str()) == 0) return true;
  if (errno != EEXIST) fail(Exit::io, "{}: cannot create: {}", path, std::generic_category().message(errno));
  return false;
}

}  // namespace

ProcessIdentity this_process(std::string job) {
  ProcessIdentity id;
  id.host = host_name();
  std::error_code ignored;
  id.machine = read_line("/proc/sys/kernel/random/boot_id") + " " +
               std::filesystem::read_symlink("/proc/self/ns/pid", ignored).string();
  id.pid = getpid();
  id.started = process_start_ticks(id.pid).value_or(0);
  id.job = std::move(job);
  return id;
}

Error was_taken_over(const std::string& run_directory) {
  return {Exit::locked, fmt::format("run.dir: {} was taken over by another job; this one stops", run_directory)};
}

std::vector<AttemptRecord> read_attempts(const std::string& run_directory) {
  const std::string directory = run_directory + "/attempts";
  std::vector<AttemptRecord> records;
  for (int64_t n = 1, last = highest(directory); n <= last; ++n) {
    const std::string path = fmt::format("{}/{}{}", directory, name_of(n), kEnd);
    if (path_exists(path)) records.push_back(read_record(path));
  }
  return records;
}

bool has_attempts(const std::string& run_directory) { return highest(run_directory + "/attempts") > 0; }

std::string branch_origin(const std::string& run_directory) {
  const std::string directory = run_directory + "/attempts";
  for (int64_t n = 1, last = highest(directory); n <= last; ++n) {
    const std::string path = fmt::format("{}/{}{}", directory, name_of(n), kEnd);
    if (path_exists(path)) return read_record(path).branched_from;
  }
  return {};
}

RunLock RunLock::acquire(const std::string& run_directory, AttemptRecord record, const LockTiming& timing) {
  RunLock lock;
  lock.directory_ = run_directory + "/attempts";
  make_directories(lock.directory_);
  while (true) {
    const int64_t last = highest(lock.directory_);
    lock.note_.clear();
    if (last > 0) {
      const AttemptRecord owner = read_record(fmt::format("{}/{}{}", lock.directory_, name_of(last), kEnd));
      if (owner.ended.empty()) {
        if (lives(lock.directory_, owner, timing))
          fail(Exit::locked, "run.dir: {} belongs to a job that is running: {}", run_directory, in_words(owner));
        lock.note_ = in_words(owner) + " is gone without a word";
      }
    }
    record.attempt = last + 1;
    record.began = iso_time(Clock::now());
    const std::string base = fmt::format("{}/{}", lock.directory_, name_of(record.attempt));
    std::string prepared = base + ".XXXXXX";  // a name that nobody else gets
    const int descriptor = ::mkstemp(prepared.data());
    if (descriptor < 0) fail(Exit::io, "{}: cannot create: {}", prepared, std::generic_category().message(errno));
    ::close(descriptor);
    bool won = false;
    try {
      replace_file(prepared, text_of(record));
      won = link_to(prepared, base + std::string(kEnd));
    } catch (...) {
      ::unlink(prepared.c_str());
      throw;
    }
    remove_tree(prepared);
    if (!won) continue;  // and find that the winner lives
    sync_directory(lock.directory_);
    lock.record_ = std::move(record);
    lock.beat();
    return lock;
  }
}

bool RunLock::owned() const {
  return !path_exists(fmt::format("{}/{}{}", directory_, name_of(record_.attempt + 1), kEnd));
}

void RunLock::require_owned() const {
  if (!owned()) throw was_taken_over(parent_directory(directory_));
}

void RunLock::beat() {
  if (!owned()) return;
  // Opened anew each time: closing it is what makes other machines see it.
  const std::string path = fmt::format("{}/{}.alive", directory_, name_of(record_.attempt));
  const std::string text = fmt::format("{}\n", ++count_);
  File file = path_exists(path) ? File::update(path) : File::create(path);
  file.write_at(0, text.data(), text.size());
  file.close();
}

void RunLock::release(int exit_code, std::string_view reason) {
  if (!owned()) return;
  record_.ended = iso_time(Clock::now());
  record_.exit_code = exit_code;
  record_.reason = reason;
  replace_file(fmt::format("{}/{}{}", directory_, name_of(record_.attempt), kEnd), text_of(record_));
  remove_tree(fmt::format("{}/{}.alive", directory_, name_of(record_.attempt)));
}

}  // namespace tael
