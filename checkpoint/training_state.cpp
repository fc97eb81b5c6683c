#include "checkpoint/training_state.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "checkpoint/safetensors.hpp"

namespace tael {

namespace {

struct Entry {
  Box box;
  float* data;
};

std::vector<int64_t> shape_of(const ParamSpec& spec) {
  return spec.dims == 1 ? std::vector{spec.cols} : std::vector{spec.rows, spec.cols};
}

float* place(const Vec<float>& array, int64_t offset) { return array.data == nullptr ? nullptr : array.data + offset; }

// Every tensor with its place in the arrays, in table order.
std::vector<Entry> entries(const ParamTable& table, const TrainingArrays& arrays, bool moments) {
  std::vector<Entry> out;
  for (const ParamSpec& spec : table.params) {
    const auto add = [&](StateKind kind, const Vec<float>& array) {
      out.push_back({Box::whole(kind, spec.name, DType::f32, shape_of(spec)), place(array, spec.offset)});
    };
    add(StateKind::weight, arrays.params);
    if (!moments) continue;
    add(StateKind::exp_avg, arrays.exp_avg);
    add(StateKind::exp_avg_sq, arrays.exp_avg_sq);
  }
  for (const GateBiasSpec& bias : table.gate_biases)
    out.push_back(
        {Box::whole(StateKind::weight, bias.name, DType::f32, {bias.experts}), place(arrays.biases, bias.offset)});
  return out;
}

bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16; }

template <class Narrow>
void widen(const std::vector<std::byte>& narrow, float* out) {
  const auto* from = reinterpret_cast<const Narrow*>(narrow.data());
  for (size_t i = 0; i < narrow.size() / sizeof(Narrow); ++i) out[i] = to_float(from[i]);
}

}  // namespace

std::vector<BoxData> training_boxes(const ParamTable& table, const TrainingArrays& arrays, int rank, int ranks) {
  const std::vector<Entry> all = entries(table, arrays, true);
  uint64_t total = 0, before = 0;
  for (const Entry& entry : all) total += entry.box.bytes();
  std::vector<BoxData> mine;
  for (const Entry& entry : all) {
    // The rank in whose share the tensor's middle lies.
    const uint64_t middle = before + entry.box.bytes() / 2;
    const auto owner = static_cast<int>(static_cast<unsigned __int128>(middle) * static_cast<unsigned>(ranks) / total);
    if (std::min(owner, ranks - 1) == rank) mine.push_back({entry.box, entry.data});
    before += entry.box.bytes();
  }
  return mine;
}

void require_training_state(const Checkpoint& checkpoint, const ParamTable& table, bool moments) {
  if (moments && !checkpoint.state().training)
    fail(Exit::bad_data, "{}: holds weights alone; give it as checkpoint.initial_load_path", checkpoint.path());
  for (const Entry& entry : entries(table, {}, moments)) {
    const Box* found = checkpoint.find(entry.box.kind, entry.box.name);
    if (found == nullptr) fail(Exit::bad_data, "{}: {} is missing", checkpoint.path(), in_words(entry.box));
    if (found->shape != entry.box.shape)
      fail(Exit::bad_data, "{}: {} has shape {}, the model needs {}", checkpoint.path(), in_words(entry.box),
           shape_text(found->shape), shape_text(entry.box.shape));
    if (moments ? found->dtype != DType::f32 : !is_float(found->dtype))
      fail(found->dtype == DType::f8_e4m3 ? Exit::bad_config : Exit::bad_data, "{}: {} is stored as {}, {}",
           checkpoint.path(), in_words(entry.box), safetensors_name(found->dtype),
           found->dtype == DType::f8_e4m3 ? "which is not built yet" : "F32 is needed");
  }
}

void read_training_state(const Checkpoint& checkpoint, const ParamTable& table, const TrainingArrays& arrays,
                         bool moments) {
  std::vector<std::byte> narrow;
  for (const Entry& entry : entries(table, arrays, moments)) {
    Box box = entry.box;
    box.dtype = checkpoint.find(box.kind, box.name)->dtype;
    if (box.dtype == DType::f32) {
      checkpoint.read(box, entry.data);
      continue;
    }
    narrow.resize(box.bytes());
    checkpoint.read(box, narrow.data());
    box.dtype == DType::bf16 ? widen<bf16>(narrow, entry.data) : widen<f16>(narrow, entry.data);
  }
}

}  // namespace tael
