#include "checkpoint/model_source.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "checkpoint/hf_directory.hpp"
#include "checkpoint/store.hpp"

namespace tael {

namespace {

bool is_run(const std::string& path) {
  return path_exists(path + "/checkpoints") || path_exists(path + "/model") || path_exists(path + "/config.yaml");
}

CheckpointStore store_of(const std::string& run) { return CheckpointStore(run + "/checkpoints"); }

// The step of the weights in RUN/model, from status.json; nothing: the run goes on, stopped before its end (what lies
// there is of an earlier end), failed, or does not say.
std::optional<int64_t> ended_at(const std::string& run) {
  const std::string path = run + "/status.json";
  if (!path_exists(path)) return std::nullopt;
  try {
    const auto document = JsonDocument::parse(read_file(path), path);
    if (document.root().at("state").as_string() != "done") return std::nullopt;
    return document.root().at("step").as_int();
  } catch (const Error&) {
    return std::nullopt;  // a status is for people; what the weights are follows from the checkpoints then
  }
}

void use_checkpoint(ModelSource& source, Checkpoint checkpoint) {
  checkpoint.verify();  // all of it: whose moments are damaged is not what a run stands for
  if (checkpoint.state().training) {
    source.step = checkpoint.state().step;
    source.tokenizer = checkpoint.state().tokenizer;
  }
  source.files = std::make_unique<CheckpointFiles>(std::move(checkpoint));
}

void use_directory(ModelSource& source, const std::string& path) {
  source.files = std::make_unique<HfDirectory>(HfDirectory::open(path));
}

// Nothing: the run went on meanwhile and removed a checkpoint that was being read.
std::optional<ModelSource> try_to_open_run(const std::string& run) {
  ModelSource source;
  source.run = run;
  const CheckpointStore store = store_of(run);
  const std::vector<int64_t> steps = store.published();
  const std::string final_weights = run + "/model";
  const bool has_final = path_exists(final_weights + "/" + kModelText);
  const std::optional<int64_t> ended = ended_at(run);
  if (has_final && ended && (steps.empty() || *ended >= steps.back())) {
    use_directory(source, final_weights);
    source.step = ended;
    return source;
  }
  std::optional<Error> damage;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    try {
      Checkpoint checkpoint = Checkpoint::open(store.path(*step));
      use_checkpoint(source, std::move(checkpoint));
      return source;
    } catch (const Error& error) {
      if (error.code() != Exit::bad_data) throw;
      if (!path_exists(store.path(*step))) return std::nullopt;
      source.warnings.push_back(fmt::format("{}; passed over", error.what()));
      if (!damage) damage = error;
    }
  }
  if (has_final) {
    use_directory(source, final_weights);
    return source;
  }
  if (damage) throw Error(*damage);
  fail(Exit::bad_data, "{}: a run without weights: neither checkpoints/step-* nor model/config.json is there", run);
}

// What `open` finds in a run that goes on; nothing: it removed meanwhile what was being read.
template <class Open>
auto open_in_run(const std::string& run, const Open& open) {
  constexpr int kTries = 100;  // a checkpoint is read faster than as many are written
  for (int i = 0; i < kTries; ++i)
    if (auto found = open()) return std::move(*found);
  fail(Exit::bad_data, "{}: its checkpoints go before they are read; a larger checkpoint.keep keeps them", run);
}

}  // namespace

CheckpointFiles::CheckpointFiles(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {
  config_text_ = checkpoint_.read_text(kModelText);
  for (const Box& box : checkpoint_.tensors())
    if (box.kind == StateKind::weight) weights_.push_back({box.name, box.dtype, box.shape});
  std::ranges::sort(weights_, [](const TensorSpec& a, const TensorSpec& b) { return natural_less(a.name, b.name); });
}

std::optional<std::string> CheckpointFiles::text(const std::string& name) const {
  if (checkpoint_.find(StateKind::text, name) == nullptr) return std::nullopt;
  return checkpoint_.read_text(name);
}

std::vector<const TensorSpec*> CheckpointFiles::weights() const {
  std::vector<const TensorSpec*> weights;
  for (const TensorSpec& weight : weights_) weights.push_back(&weight);
  return weights;
}

const TensorSpec* CheckpointFiles::weight(std::string_view name) const {
  const auto at = std::ranges::lower_bound(weights_, name, natural_less, &TensorSpec::name);
  return at != weights_.end() && at->name == name ? &*at : nullptr;
}

void CheckpointFiles::read(const TensorSpec& weight, uint64_t begin, void* out, size_t bytes) const {
  const size_t width = size_of(weight.dtype);
  CHECK(begin % width == 0 && bytes % width == 0);
  checkpoint_.read_range(*checkpoint_.find(StateKind::weight, weight.name), static_cast<int64_t>(begin / width),
                         static_cast<int64_t>(bytes / width), out);
}

std::string find_checkpoint(const std::string& path) {
  if (!path_exists(path)) fail(Exit::bad_data, "{}: no such directory", path);
  if (Checkpoint::is_at(path)) return path;
  const CheckpointStore store = store_of(path);
  const std::vector<int64_t> steps = store.steps();
  if (steps.empty())
    fail(Exit::bad_data, "{}: neither a checkpoint (no {}) nor a run with checkpoints", path, kManifestName);
  return store.path(steps.back());
}

Checkpoint open_checkpoint(const std::string& path) {
  return open_in_run(path, [&]() -> std::optional<Checkpoint> {
    const std::string found = find_checkpoint(path);
    try {
      return Checkpoint::open(found);
    } catch (const Error& error) {
      if (error.code() != Exit::bad_data || path_exists(found)) throw;
      return std::nullopt;
    }
  });
}

ModelSource open_model(const std::string& model) {
  if (!path_exists(model)) fail(Exit::bad_data, "{}: no such directory", model);
  if (!is_directory(model)) fail(Exit::bad_data, "{}: is not a directory", model);
  ModelSource source;
  if (Checkpoint::is_at(model)) {
    use_checkpoint(source, Checkpoint::open(model));
  } else if (path_exists(model + "/" + kModelText)) {
    use_directory(source, model);
  } else if (is_run(model)) {
    source = open_in_run(model, [&] { return try_to_open_run(model); });
    // A run's shards told its checkpoints; a run without checkpoints may have been told by its user.
    if (source.tokenizer.empty())
      if (const std::optional<RunState> state = store_of(model).newest_state()) source.tokenizer = state->tokenizer;
  } else {
    fail(Exit::bad_data,
         "{}: neither a Hugging Face directory (no config.json), nor a checkpoint (no {}), nor a run (no "
         "checkpoints/ or model/)",
         model, kManifestName);
  }
  return source;
}

}  // namespace tael
