#include "checkpoint/store.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/file.hpp"
#include "base/number_text.hpp"
#include "checkpoint/checkpoint.hpp"

namespace tael {

namespace {

constexpr std::string_view kStep = "step-", kPrepared = "tmp-", kTrash = "trash-";
constexpr uint64_t kBeside = uint64_t{4} << 20;  // manifest, metrics and ledger lines that must still fit

// The step that a name stands for, or nothing: names are exactly what name() makes.
std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kStep)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kStep.size(), end, step);
  if (error != std::errc() || at != end || CheckpointStore::name(step) != name) return std::nullopt;
  return step;
}

std::vector<std::string> entries(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error == std::errc::no_such_file_or_directory && std::filesystem::is_symlink(directory))
    fail(Exit::io, "{}: is a link to {}, which is not there", directory,
         std::filesystem::read_symlink(directory).string());
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory)
    fail(Exit::io, "{}: cannot list: {}", directory, error.message());
  std::ranges::sort(names);
  return names;
}

// The newest that `read` can read.
template <class T>
std::optional<T> newest_of(const CheckpointStore& store, T (*read)(const std::string& path)) {
  const std::vector<int64_t> all = store.steps();
  for (auto step = all.rbegin(); step != all.rend(); ++step) {
    try {
      return read(store.path(*step));
    } catch (const Error&) {
      continue;
    }
  }
  return std::nullopt;
}

}  // namespace

std::string CheckpointStore::name(int64_t step) { return fmt::format("{}{:08}", kStep, step); }

bool CheckpointStore::is_name(const std::string& name) { return step_of(name).has_value(); }

std::string CheckpointStore::prepared_path(int64_t step, int64_t attempt) const {
  return fmt::format("{}/{}{}-{}", directory_, kPrepared, step, attempt);
}

std::vector<int64_t> CheckpointStore::steps() const {
  std::vector<int64_t> steps = published();
  std::erase_if(steps, [&](int64_t step) { return !Checkpoint::is_at(path(step)); });
  return steps;
}

std::vector<int64_t> CheckpointStore::published() const {
  std::vector<int64_t> steps;
  for (const std::string& name : entries(directory_))
    if (const auto step = step_of(name)) steps.push_back(*step);
  std::ranges::sort(steps);
  return steps;
}

std::optional<Checkpoint> CheckpointStore::newest() const { return newest_of(*this, &Checkpoint::open); }

std::optional<RunState> CheckpointStore::newest_state() const { return newest_of(*this, &Checkpoint::read_state); }

void CheckpointStore::begin(int64_t step, int64_t attempt, uint64_t bytes) const {
  const uint64_t available = free_bytes(directory_);
  if (available < bytes + kBeside)
    fail(Exit::io, "{}: a checkpoint needs {}, the disk has {} left", directory_, size_text(bytes + kBeside),
         size_text(available));
  make_directories(directory_);
  remove_tree(prepared_path(step, attempt));
  create_directory(prepared_path(step, attempt));
}

void CheckpointStore::commit(const Manifest& manifest) const {
  const RunState& state = manifest.state;
  const std::string prepared = prepared_path(state.step, state.attempt), final_path = path(state.step);
  replace_file(prepared + "/" + std::string(kManifestName), manifest.text());
  sync_directory(prepared);
  // Of a step that is done again because a newer checkpoint was damaged; the bits are the same.
  if (path_exists(final_path)) remove(state.step);
  publish(prepared, final_path);
}

std::string CheckpointStore::settle(const Retention& retention) const {
  std::string wrong;
  const auto done = [&](const auto& work) {
    try {
      work();
      return true;
    } catch (const Error& error) {
      wrong += (wrong.empty() ? "" : "; ") + std::string(error.what());
      return false;
    }
  };
  const bool named = done([&] { write_latest(); });
  if (!named) ::unlink((directory_ + "/latest").c_str());  // none is better than one that names what is deleted now
  if (!done([&] { retain(retention); }) || named) return wrong;
  wrong.clear();  // what was deleted may have made room for it
  done([&] { write_latest(); });
  return wrong;
}

std::optional<RunState> CheckpointStore::own_state(int64_t step) const {
  try {
    RunState state = Checkpoint::read_state(path(step));
    if (state.training) return state;
  } catch (const Error& error) {
    if (error.code() != Exit::bad_data) throw;
  }
  return std::nullopt;
}

// What `latest` names; nothing where it is not there, or is no such file.
std::optional<int64_t> CheckpointStore::hint() const {
  const std::string path = directory_ + "/latest";
  std::error_code none;
  const uintmax_t bytes = std::filesystem::is_regular_file(path, none) ? std::filesystem::file_size(path, none) : 0;
  constexpr uintmax_t kMost = 64;
  if (none || bytes == 0 || bytes > kMost) return std::nullopt;
  const std::string text = read_file(path, kMost);
  return step_of(text.substr(0, text.find('\n')));
}

std::optional<int64_t> CheckpointStore::newest_own() const {
  const std::vector<int64_t> all = steps();
  const auto found = std::find_if(all.rbegin(), all.rend(), [&](int64_t step) { return own_state(step).has_value(); });
  return found == all.rend() ? std::nullopt : std::optional(*found);
}

void CheckpointStore::write_latest() const {
  if (const std::optional<int64_t> newest = newest_own()) {
    replace_file(directory_ + "/latest", name(*newest) + "\n");
  } else {
    remove_tree(directory_ + "/latest");
  }
}

void CheckpointStore::abandon(int64_t step, int64_t attempt) const noexcept {
  std::error_code ignored;  // what stays is swept at the next start
  std::filesystem::remove_all(prepared_path(step, attempt), ignored);
}

std::string CheckpointStore::set_aside(int64_t step) const {
  std::string aside = path(step) + ".damaged";
  remove_tree(aside);
  publish(path(step), aside);
  write_latest();
  return aside;
}

void CheckpointStore::remove(int64_t step) const {
  const std::string trash = fmt::format("{}/{}{}", directory_, kTrash, step);
  remove_tree(trash);
  publish(path(step), trash);
  remove_tree(trash);
}

void CheckpointStore::sweep() const {
  const std::vector<std::string> names = entries(directory_);
  for (const std::string& name : names)
    if (name.starts_with(kPrepared) || name.starts_with(kTrash) || name.ends_with(".tmp"))
      remove_tree(directory_ + "/" + name);
  if (names.empty()) return;
  // A hint to one that is there stays while there is none that is newer: nobody knows yet whether it can be mended.
  const std::optional<int64_t> newest = newest_own(), named = hint();
  if (!named || !Checkpoint::is_at(path(*named)) || newest.value_or(*named) > *named) write_latest();
}

bool CheckpointStore::is_milestone(const RunState& state, const Retention& retention) const {
  if (!retention.milestone_interval) return false;
  int64_t before = retention.begin_tokens;
  for (const int64_t step : steps()) {
    if (step >= state.step) break;
    if (const auto earlier = own_state(step)) before = earlier->tokens;
  }
  return kept({{before, false}, {state.tokens, false}, {state.tokens + 1, false}},
              {.keep = 1, .milestone_interval = retention.milestone_interval, .begin_tokens = before})[1];
}

void CheckpointStore::retain(const Retention& retention) const {
  std::vector<int64_t> own;
  std::vector<Retained> states;
  for (const int64_t step : steps()) {
    const std::optional<RunState> state = own_state(step);
    if (!state) continue;
    own.push_back(step);
    states.push_back({state->tokens, state->milestone});
  }
  const std::vector<bool> keep = kept(states, retention);
  for (size_t i = 0; i < own.size(); ++i)
    if (!keep[i]) remove(own[i]);
}

std::vector<bool> kept(const std::vector<Retained>& checkpoints, const Retention& retention) {
  const size_t count = checkpoints.size();
  std::vector<bool> keep(count, false);
  for (size_t i = 0; i < count; ++i) {
    keep[i] = checkpoints[i].milestone || static_cast<int64_t>(count - i) <= std::max<int64_t>(retention.keep, 1);
    if (!retention.milestone_interval) continue;
    const int64_t before = i == 0 ? retention.begin_tokens : checkpoints[i - 1].tokens;
    if (before / *retention.milestone_interval < checkpoints[i].tokens / *retention.milestone_interval) keep[i] = true;
  }
  return keep;
}

}  // namespace tael
