#include "trainer/commands/checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "base/json.hpp"
#include "base/number_text.hpp"
#include "base/print.hpp"
#include "checkpoint/compare.hpp"
#include "checkpoint/hf_copy.hpp"
#include "checkpoint/hf_import.hpp"
#include "checkpoint/model_source.hpp"
#include "checkpoint/store.hpp"
#include "checkpoint/weights_checkpoint.hpp"
#include "trainer/console.hpp"
#include "trainer/run_directory.hpp"
#include "trainer/trained_model.hpp"

namespace tael {

namespace {

struct KindTotals {
  int64_t tensors = 0, numbers = 0;
  uint64_t bytes = 0;
  std::map<std::string, int64_t> formats;  // to tensors
};
std::map<StateKind, KindTotals> totals_of(const Checkpoint& checkpoint) {
  std::map<StateKind, KindTotals> totals;
  for (const Box& box : checkpoint.tensors()) {
    KindTotals& t = totals[box.kind];
    ++t.tensors;
    t.numbers += box.elements();
    t.bytes += box.bytes();
    ++t.formats[std::string(safetensors_name(box.dtype))];
  }
  return totals;
}

double device_seconds(const RunState& state) {
  double sum = 0;
  for (const auto& [kind, seconds] : state.ledger) sum += seconds;
  return sum;
}

std::string inspect_json(const Checkpoint& checkpoint) {
  const RunState& s = checkpoint.state();
  JsonWriter json(JsonWriter::Style::pretty);
  json.begin_object().field("path", checkpoint.path()).field("software", s.software).field("training", s.training);
  if (s.training) {
    json.field("step", s.step).field("samples", s.samples).field("tokens", s.tokens).field("attempt", s.attempt);
    json.field("seed", s.seed).field("reduction_lanes", s.reduction_lanes);
    json.field("reduction_segments", s.reduction_segments).field("sample_order", s.sample_order);
    json.field("tokenizer", s.tokenizer).key("data").begin_array();
    for (const std::string& digest : s.data) json.value(digest);
    json.end_array().key("ledger").begin_object();
    for (const auto& [kind, seconds] : s.ledger) json.field(kind, seconds);
    json.end_object();
  }
  json.field("bytes", checkpoint.bytes()).key("files").begin_array();
  for (const StoredFile& file : checkpoint.manifest().files)
    json.begin_object().field("name", file.name).field("bytes", file.bytes).end_object();
  json.end_array().key("tensors").begin_array();
  for (const Box& box : checkpoint.tensors()) {
    json.begin_object().field("kind", name_of(box.kind)).field("name", box.name);
    json.field("dtype", safetensors_name(box.dtype)).key("shape").begin_array();
    for (const int64_t n : box.shape) json.value(n);
    json.end_array().field("bytes", box.bytes()).end_object();
  }
  return json.end_array().end_object().text() + "\n";
}

std::string inspect_text(const Checkpoint& checkpoint, bool tensors) {
  const RunState& s = checkpoint.state();
  std::string text;
  const auto line = [&](std::string_view name, const std::string& what) {
    text += fmt::format("{:<12}{}\n", name, what);
  };
  line("checkpoint", fmt::format("{}, {} in {}", checkpoint.path(), size_text(checkpoint.bytes()),
                                 count_of(static_cast<int64_t>(checkpoint.manifest().files.size()), "file")));
  line("written by", s.software.empty() ? "unknown" : s.software);
  if (s.training) {
    line("training", fmt::format("step {}, {} and {} consumed, attempt {}", grouped(s.step),
                                 count_of(s.samples, "sample"), count_of(s.tokens, "token"), s.attempt));
    line("numbers",
         fmt::format("seed {}, {}, {}", s.seed,
                     s.reduction_lanes == 0 ? "fast reduction"
                                            : fmt::format("canonical in {}", count_of(s.reduction_lanes, "lane")),
                     count_of(s.reduction_segments, "segment")));
    line("tokenizer", s.tokenizer.empty() ? "unknown" : s.tokenizer);
    for (const std::string& digest : s.data) line("data", digest);
    line("cost", fmt::format("{:.4f} device-hours", device_seconds(s) / 3600));
  } else {
    line("training", "none: weights alone");
  }
  for (const auto& [kind, t] : totals_of(checkpoint)) {
    if (kind == StateKind::text) continue;
    std::string formats;
    for (const auto& [format, count] : t.formats)
      formats += fmt::format("{}{} {}", formats.empty() ? "" : ", ", count, format);
    line(name_of(kind), fmt::format("{} ({}), {}, {}", count_of(t.tensors, "tensor"), formats,
                                    count_of(t.numbers, "number"), size_text(t.bytes)));
  }
  for (const Box& box : checkpoint.tensors()) {
    if (box.kind == StateKind::text)
      line("file", fmt::format("{}, {}", box.name, count_of(static_cast<int64_t>(box.bytes()), "byte")));
  }
  if (!tensors) return text;
  for (const Box& box : checkpoint.tensors()) {
    if (box.kind != StateKind::text)
      line(name_of(box.kind), fmt::format("{} {} {}", box.name, safetensors_name(box.dtype), shape_text(box.shape)));
  }
  return text;
}

// What `diff` compares: a checkpoint, or something else that holds weights.
struct Compared {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<ModelFiles> files;  // of the Hugging Face directory, or the checkpoint's
};
Compared open_compared(const std::string& path) {
  Compared c;
  const bool run_of_checkpoints = !CheckpointStore(path + "/checkpoints").steps().empty();
  if (Checkpoint::is_at(path) || run_of_checkpoints) {
    c.checkpoint = std::make_unique<Checkpoint>(open_checkpoint(path));
    c.checkpoint->verify_beside_tensors();  // which are checked as they are read
  } else {
    ModelSource source = open_model(path);
    print_warnings(source, stderr);
    c.files = std::move(source.files);
  }
  return c;
}

std::string in_words(const TensorDifference& d) {
  std::string text = d.tensor + ": " + d.what;
  if (d.differing > 0) {
    text += fmt::format("{}{} of {} differ", d.what.empty() ? "" : "; ", grouped(d.differing),
                        count_of(d.numbers, "number"));
    text += fmt::format(", by at most {:.3g} ({:.3g} of the larger)", d.largest, d.relative);
  }
  return text;
}

}  // namespace

DType dtype_from_option(const std::string& word) {
  if (word == "fp32") return DType::f32;
  if (word == "bf16") return DType::bf16;
  if (word == "fp8") fail(Exit::bad_config, "--dtype fp8: FP8 checkpoints are not built yet");
  fail(Exit::usage, "--dtype {}: expected fp32, bf16 or fp8", word);
}

int run_checkpoint_export_hf(const ExportHfOptions& options, std::FILE* out) {
  const ModelSource source = open_model(options.model);
  print_warnings(source, stderr);
  const ParamTable table = make_param_table(read_hf_shape(*source.files));
  check_hf_tensors(*source.files, table);
  const HfContent content = plan_model_copy(*source.files, table, options.dtype);
  const uint64_t bytes = check_hf_target(options.out, content);
  if (!options.dry_run) copy_model(*source.files, table, options.out, options.dtype);
  print_to(out, "{} {}: {}, {}\n", options.dry_run ? "would write" : "wrote", options.out,
           count_of(static_cast<int64_t>(content.tensors.size()), "tensor"), size_text(bytes));
  return static_cast<int>(Exit::done);
}

int run_checkpoint_import_hf(const ImportHfOptions& options, std::FILE* out) {
  const HfDirectory directory = HfDirectory::open(options.directory);
  check_hf_tensors(directory, make_param_table(read_hf_shape(directory)));
  const std::vector<Box> boxes = plan_weights_checkpoint(directory);
  const uint64_t bytes = check_checkpoint_target(options.out, boxes);
  if (!options.dry_run) write_weights_checkpoint(directory, options.out, build_line());
  print_to(out, "{} {}: {}, {}\n", options.dry_run ? "would write" : "wrote", options.out,
           count_of(static_cast<int64_t>(directory.weights().size()), "tensor"), size_text(bytes));
  return static_cast<int>(Exit::done);
}

int run_checkpoint_inspect(const InspectOptions& options, std::FILE* out) {
  const Checkpoint checkpoint = open_checkpoint(options.checkpoint);
  print_to(out, "{}", options.json ? inspect_json(checkpoint) : inspect_text(checkpoint, options.tensors));
  return static_cast<int>(Exit::done);
}

int run_checkpoint_verify(const std::string& path, std::FILE* out) {
  std::vector<std::string> paths;
  const bool of_run = !Checkpoint::is_at(path);
  if (of_run) {
    const CheckpointStore store(path + "/checkpoints");
    for (const int64_t step : store.published()) paths.push_back(store.path(step));
  }
  if (paths.empty()) paths.push_back(find_checkpoint(path));
  const auto is_tensor = [](const Box& box) { return box.kind != StateKind::text; };
  std::optional<Error> first;
  for (const std::string& each : paths) {
    try {
      const Checkpoint checkpoint = Checkpoint::open(each);
      checkpoint.verify();
      print_to(out, "{}: every byte as it was written: {}, {} in {}\n", each,
               count_of(std::ranges::count_if(checkpoint.tensors(), is_tensor), "tensor"),
               size_text(checkpoint.bytes()),
               count_of(static_cast<int64_t>(checkpoint.manifest().files.size()), "file"));
    } catch (const Error& error) {
      if (error.code() != Exit::bad_data) throw;
      if (of_run && !path_exists(each)) {  // a training that goes on keeps only its newest
        print_to(out, "{}: was removed meanwhile\n", each);
        continue;
      }
      if (paths.size() > 1) print_to(out, "{}: damaged\n", each);
      if (!first) first = error;
    }
    std::fflush(out);  // each may take minutes
  }
  if (first) throw Error(*first);
  return static_cast<int>(Exit::done);
}

int run_checkpoint_diff(const std::string& a, const std::string& b, std::FILE* out) {
  Compared x = open_compared(a), y = open_compared(b);
  const bool both = x.checkpoint != nullptr && y.checkpoint != nullptr;
  CheckpointComparison result;
  if (both) {
    result = compare(*x.checkpoint, *y.checkpoint);
  } else {
    for (Compared* c : {&x, &y})
      if (c->checkpoint) c->files = std::make_unique<CheckpointFiles>(std::move(*c->checkpoint));
    std::vector<HfCopy> copies;
    for (const Compared* c : {&x, &y}) {
      try {
        for (HfCopy& copy : hf_copies(make_param_table(read_hf_shape(*c->files)))) copies.push_back(std::move(copy));
      } catch (const Error&) {  // no model that tael knows: its tensors are compared as they are
      }
    }
    result = compare_weights(*x.files, *y.files, copies);
  }
  for (const TensorDifference& difference : result.differences) print_to(out, "{}\n", in_words(difference));
  for (const std::string& line : result.state) print_to(out, "{}\n", line);
  for (const std::string& line : result.beside) print_to(out, "{} (does not count)\n", line);
  const auto differing = static_cast<int64_t>(result.differences.size());
  print_to(out, "{}: {} equal bit for bit, {} not{}\n", result.equal() ? "equal" : "different",
           count_of(result.tensors, "tensor"), grouped(differing), both ? "" : "; weights alone were compared");
  return result.equal() ? 0 : 1;
}

namespace {

Verb checkpoint_inspect_verb() {
  const auto o = std::make_shared<InspectOptions>();
  return {.name = "inspect",
          .does = "what is in a checkpoint",
          .options = {{"checkpoint", &o->checkpoint, "a checkpoint, or a run: its newest", {.required = true}},
                      {"--tensors", &o->tensors, "a line for each tensor"},
                      {"--json", &o->json, "as one JSON object"}},
          .work = [o](const VerbContext&) { return run_checkpoint_inspect(*o, stdout); },
          .examples =
              "  tael checkpoint inspect runs/first\n"
              "  tael checkpoint inspect runs/first/checkpoints/step-00000100 --tensors"};
}

Verb checkpoint_verify_verb() {
  const auto path = std::make_shared<std::string>();
  return {.name = "verify",
          .does = "check every byte of a checkpoint",
          .options = {{"checkpoint", path.get(), "a checkpoint, or a run: all of its checkpoints", {.required = true}}},
          .work = [path](const VerbContext&) { return run_checkpoint_verify(*path, stdout); },
          .examples =
              "  tael checkpoint verify runs/first\n"
              "  tael checkpoint verify runs/first/checkpoints/step-00000100"};
}

Verb checkpoint_diff_verb() {
  const auto a = std::make_shared<std::string>(), b = std::make_shared<std::string>();
  return {.name = "diff",
          .does = "compare two checkpoints; exits 0 where they are equal, 1 where not",
          .options = {{"a",
                       a.get(),
                       "a checkpoint, a run (its newest) or a Hugging Face directory (weights alone)",
                       {.required = true}},
                      {"b", b.get(), "another", {.required = true}}},
          .work = [a, b](const VerbContext&) { return run_checkpoint_diff(*a, *b, stdout); },
          .examples =
              "  tael checkpoint diff runs/first runs/second\n"
              "  tael checkpoint diff runs/first/checkpoints/step-00000100 ~/models/moonlight"};
}

Verb checkpoint_import_hf_verb() {
  const auto o = std::make_shared<ImportHfOptions>();
  return {.name = "import-hf",
          .does = "make a checkpoint of a Hugging Face directory, tensor by tensor",
          .options = {{"directory", &o->directory, "a Hugging Face directory", {.required = true}},
                      {"out", &o->out, "the checkpoint to make", {.required = true}},
                      {"--dry-run", &o->dry_run, "check everything, write nothing"}},
          .work = [o](const VerbContext&) { return run_checkpoint_import_hf(*o, stdout); },
          .examples =
              "  tael checkpoint import-hf ~/models/moonlight moonlight.ckpt\n"
              "  tael checkpoint import-hf ~/models/moonlight moonlight.ckpt --dry-run"};
}

Verb checkpoint_export_hf_verb() {
  const auto o = std::make_shared<ExportHfOptions>();
  const auto dtype = std::make_shared<std::string>();
  const auto work = [o, dtype](const VerbContext&) {
    if (!dtype->empty()) o->dtype = dtype_from_option(*dtype);
    return run_checkpoint_export_hf(*o, stdout);
  };
  return {.name = "export-hf",
          .does = "copy a model to a Hugging Face directory, tensor by tensor",
          .options = {{"model", &o->model, "a run, a checkpoint or a Hugging Face directory", {.required = true}},
                      {"out", &o->out, "the directory to make", {.required = true}},
                      {"--dtype",
                       dtype.get(),
                       "fp32 or bf16; without it every tensor keeps its format",
                       {.words = {"fp32", "bf16"}}},
                      {"--dry-run", &o->dry_run, "check everything, write nothing"}},
          .work = work,
          .examples =
              "  tael checkpoint export-hf runs/first out/\n"
              "  tael checkpoint export-hf ~/models/moonlight out/ --dtype bf16"};
}

}  // namespace

VerbGroup checkpoint_verbs() {
  return {.name = "checkpoint",
          .does = "work on checkpoints and Hugging Face directories",
          .examples =
              "  tael checkpoint verify runs/first\n"
              "  tael checkpoint export-hf runs/first out/ --dtype bf16",
          .verbs = {checkpoint_inspect_verb(), checkpoint_verify_verb(), checkpoint_diff_verb(),
                    checkpoint_import_hf_verb(), checkpoint_export_hf_verb()}};
}

}  // namespace tael
