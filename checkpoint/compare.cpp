#include "checkpoint/compare.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <optional>

#include <fmt/ranges.h>

namespace tael {

namespace {

struct Entry {
  std::string words;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::function<void(int64_t first, int64_t count, void* out)> read;

  int64_t elements() const { return TensorSpec{{}, dtype, shape}.elements(); }
};
struct NaturalLess {
  bool operator()(const std::string& a, const std::string& b) const { return natural_less(a, b); }
};
using Entries = std::map<std::string, Entry, NaturalLess>;

Entries entries_of(const Checkpoint& checkpoint) {
  Entries entries;
  for (const Box& box : checkpoint.tensors()) {
    if (box.kind == StateKind::text) continue;
    entries.emplace(box.path(), Entry{in_words(box), box.dtype, box.shape,
                                      [&checkpoint, &box](int64_t first, int64_t count, void* out) {
                                        checkpoint.read_range(box, first, count, out);
                                      }});
  }
  return entries;
}

Entries entries_of(const ModelFiles& files) {
  Entries entries;
  for (const TensorSpec* weight : files.weights()) {
    entries.emplace(weight->name, Entry{"tensor " + quoted_name(weight->name), weight->dtype, weight->shape,
                                        [&files, weight](int64_t first, int64_t count, void* out) {
                                          const size_t width = size_of(weight->dtype);
                                          files.read(*weight, static_cast<uint64_t>(first) * width, out,
                                                     static_cast<size_t>(count) * width);
                                        }});
  }
  return entries;
}

// Number i of a piece; nothing: a format whose bytes alone are compared.
std::optional<double> number(DType dtype, const std::byte* piece, int64_t i) {
  const auto as = [&]<class T>(T x) {
    std::memcpy(&x, piece + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    return x;
  };
  switch (dtype) {
    case DType::f32: return static_cast<double>(as(float{}));
    case DType::f64: return as(double{});
    case DType::bf16: return static_cast<double>(to_float(as(bf16{})));
    case DType::f16: return static_cast<double>(to_float(as(f16{})));
    case DType::i32: return static_cast<double>(as(int32_t{}));
    case DType::i64: return static_cast<double>(as(int64_t{}));
    default: return std::nullopt;
  }
}

void add(TensorDifference& d, double a, double b) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (a == b || (std::isnan(a) && std::isnan(b))) return;  // 0 and -0, or two kinds of NaN
  const double off = std::abs(a - b);
  const bool comparable = std::isfinite(off);
  d.largest = std::max(d.largest, comparable ? off : infinity);
  d.relative = std::max(d.relative, comparable ? off / std::max(std::abs(a), std::abs(b)) : infinity);
}

std::optional<TensorDifference> difference(const Entry& a, const Entry& b) {
  TensorDifference d{.tensor = a.words, .what = {}, .numbers = a.elements()};
  if (a.shape != b.shape) {
    d.what = fmt::format("shape {} | {}", shape_text(a.shape), shape_text(b.shape));
    return d;
  }
  if (a.dtype != b.dtype) d.what = fmt::format("format {} | {}", safetensors_name(a.dtype), safetensors_name(b.dtype));
  const int64_t at_once = static_cast<int64_t>(kBlockBytes / std::max(size_of(a.dtype), size_of(b.dtype)));
  std::vector<std::byte> x(kBlockBytes), y(kBlockBytes);
  const size_t width = size_of(a.dtype);
  for (int64_t first = 0; first < d.numbers; first += at_once) {
    const int64_t n = std::min(at_once, d.numbers - first);
    a.read(first, n, x.data());
    b.read(first, n, y.data());
    if (a.dtype == b.dtype && std::memcmp(x.data(), y.data(), static_cast<size_t>(n) * width) == 0) continue;
    for (int64_t i = 0; i < n; ++i) {
      const std::optional<double> p = number(a.dtype, x.data(), i), q = number(b.dtype, y.data(), i);
      const size_t at = static_cast<size_t>(i) * width;
      const bool differ = a.dtype == b.dtype ? std::memcmp(x.data() + at, y.data() + at, width) != 0 : !p || p != q;
      if (!differ) continue;
      ++d.differing;
      if (p && q) add(d, *p, *q);
    }
  }
  if (d.differing == 0 && d.what.empty()) return std::nullopt;
  return d;
}

// Without the copies that `other` lacks and that repeat their original.
Entries without_copies(Entries entries, const Entries& other, const std::vector<HfCopy>& copies) {
  for (const HfCopy& copy : copies) {
    const auto own = entries.find(copy.name), original = entries.find(copy.original);
    if (own == entries.end() || original == entries.end() || other.contains(copy.name)) continue;
    if (!difference(own->second, original->second)) entries.erase(own);
  }
  return entries;
}

CheckpointComparison compare(const Entries& a, const Entries& b) {
  CheckpointComparison result;
  for (const auto& [path, entry] : a) {
    const auto other = b.find(path);
    if (other == b.end()) {
      result.differences.push_back({.tensor = entry.words, .what = "only in the first"});
    } else if (std::optional<TensorDifference> d = difference(entry, other->second)) {
      result.differences.push_back(*std::move(d));
    } else {
      ++result.tensors;
    }
  }
  for (const auto& [path, entry] : b)
    if (!a.contains(path)) result.differences.push_back({.tensor = entry.words, .what = "only in the second"});
  return result;
}

}  // namespace

CheckpointComparison compare(const Checkpoint& a, const Checkpoint& b) {
  CheckpointComparison result = compare(entries_of(a), entries_of(b));
  const RunState &s = a.state(), &t = b.state();
  const auto differ = [](std::vector<std::string>& to, std::string_view name, const auto& x, const auto& y) {
    if (x != y) to.push_back(fmt::format("{}: {} | {}", name, x, y));
  };
  differ(result.state, "training", s.training ? "yes" : "no", t.training ? "yes" : "no");
  differ(result.state, "step", s.step, t.step);
  differ(result.state, "samples", s.samples, t.samples);
  differ(result.state, "tokens", s.tokens, t.tokens);
  differ(result.state, "seed", s.seed, t.seed);
  differ(result.state, "reduction_lanes", s.reduction_lanes, t.reduction_lanes);
  differ(result.state, "reduction_segments", s.reduction_segments, t.reduction_segments);
  differ(result.state, "sample_order", s.sample_order, t.sample_order);
  differ(result.state, "tokenizer", s.tokenizer, t.tokenizer);
  differ(result.state, "data", fmt::format("{}", fmt::join(s.data, " ")), fmt::format("{}", fmt::join(t.data, " ")));
  differ(result.beside, "attempt", s.attempt, t.attempt);
  differ(result.beside, "software", s.software, t.software);
  const auto seconds = [](const RunState& state) {
    double sum = 0;
    for (const auto& [kind, value] : state.ledger) sum += value;
    return sum;
  };
  if (s.ledger != t.ledger)
    result.beside.push_back(fmt::format("ledger: {:.3f} | {:.3f} device-seconds", seconds(s), seconds(t)));
  for (const Box& box : a.tensors()) {
    if (box.kind != StateKind::text) continue;
    // The model's description is part of the model; the other texts name directories and dates.
    std::vector<std::string>& to = box.name == kModelText ? result.state : result.beside;
    if (b.find(StateKind::text, box.name) == nullptr) {
      to.push_back(in_words(box) + ": only in the first");
    } else if (a.read_text(box.name) != b.read_text(box.name)) {
      to.push_back(in_words(box) + ": differs");
    }
  }
  for (const Box& box : b.tensors())
    if (box.kind == StateKind::text && a.find(StateKind::text, box.name) == nullptr)
      (box.name == kModelText ? result.state : result.beside).push_back(in_words(box) + ": only in the second");
  return result;
}

CheckpointComparison compare_weights(const ModelFiles& a, const ModelFiles& b, const std::vector<HfCopy>& copies) {
  const Entries x = entries_of(a), y = entries_of(b);
  return compare(without_copies(x, y, copies), without_copies(y, x, copies));
}

}  // namespace tael
