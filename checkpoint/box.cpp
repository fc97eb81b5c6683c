#include "checkpoint/box.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/check.hpp"
#include "checkpoint/safetensors.hpp"

namespace tael {

namespace {

constexpr std::array<std::pair<StateKind, std::string_view>, 4> kKinds = {{{StateKind::weight, "weight"},
                                                                           {StateKind::exp_avg, "exp_avg"},
                                                                           {StateKind::exp_avg_sq, "exp_avg_sq"},
                                                                           {StateKind::text, "text"}}};

// A box in two dimensions: a vector as one column.
struct Rectangle {
  int64_t row, col, rows, cols;
};
Rectangle rectangle(const Box& box) {
  const size_t rank = box.shape.size();
  CHECK(rank >= 1 && rank <= 2, "{}", box.name);
  return {box.offset[0], rank == 2 ? box.offset[1] : 0, box.extent[0], rank == 2 ? box.extent[1] : 1};
}

bool overlap(const Rectangle& a, const Rectangle& b) {
  return a.row < b.row + b.rows && b.row < a.row + a.rows && a.col < b.col + b.cols && b.col < a.col + a.cols;
}

// The boxes of one tensor.
void require_tensor(std::span<const Box* const> boxes, std::string_view where) {
  const Box& first = *boxes.front();
  int64_t elements = 0;
  for (const Box* box : boxes) {
    if (box->dtype != first.dtype || box->shape != first.shape)
      fail(Exit::bad_data, "{}: {}: its boxes differ in format or shape", where, in_words(first));
    for (size_t d = 0; d < box->shape.size(); ++d)
      if (box->offset[d] < 0 || box->extent[d] < 0 || box->offset[d] > box->shape[d] - box->extent[d])
        fail(Exit::bad_data, "{}: {}: a box lies outside its shape {}", where, in_words(first),
             shape_text(first.shape));
    elements += box->elements();  // cannot overflow: each is at most the tensor, and overlaps are refused below
  }
  std::vector<Rectangle> sorted;
  for (const Box* box : boxes)
    if (box->elements() > 0) sorted.push_back(rectangle(*box));
  std::ranges::sort(sorted, {}, [](const Rectangle& r) { return std::pair(r.row, r.col); });
  for (size_t i = 0; i < sorted.size(); ++i)
    for (size_t j = i + 1; j < sorted.size() && sorted[j].row < sorted[i].row + sorted[i].rows; ++j)
      if (overlap(sorted[i], sorted[j])) fail(Exit::bad_data, "{}: {}: two boxes overlap", where, in_words(first));
  if (elements != Box::whole(first.kind, first.name, first.dtype, first.shape).elements())
    fail(Exit::bad_data, "{}: {}: its boxes do not fill it", where, in_words(first));
}

}  // namespace

std::string_view name_of(StateKind kind) {
  for (const auto& [value, name] : kKinds)
    if (value == kind) return name;
  CHECK(false, "a kind without a name");
}

bool state_kind_from_name(std::string_view name, StateKind& kind) {
  for (const auto& [value, known] : kKinds) {
    if (known != name) continue;
    kind = value;
    return true;
  }
  return false;
}

Box Box::whole(StateKind kind, std::string name, DType dtype, std::vector<int64_t> shape) {
  Box box{kind, std::move(name), dtype, std::move(shape), {}, {}};
  box.offset.assign(box.shape.size(), 0);
  box.extent = box.shape;
  return box;
}

int64_t Box::elements() const {
  int64_t n = 1;
  for (const int64_t d : extent) n *= d;
  return n;
}

std::string Box::path() const { return kind == StateKind::weight ? name : std::string(name_of(kind)) + "/" + name; }

std::string in_words(const Box& box) {
  if (box.kind == StateKind::text) return "file " + quoted_name(box.name);
  const std::string tensor = "tensor " + quoted_name(box.name);
  return box.kind == StateKind::weight ? tensor : std::string(name_of(box.kind)) + " of " + tensor;
}

void require_tiling(std::span<const Box* const> boxes, std::string_view where) {
  std::vector<const Box*> sorted(boxes.begin(), boxes.end());
  const auto key = [](const Box* box) { return std::pair(box->kind, std::string_view(box->name)); };
  std::ranges::stable_sort(sorted, {}, key);
  for (size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    while (end < sorted.size() && key(sorted[end]) == key(sorted[begin])) ++end;
    require_tensor(std::span(sorted).subspan(begin, end - begin), where);
  }
}

void copy_shared(const Box& from, int64_t first, int64_t count, const std::byte* numbers, const Box& to,
                 std::byte* out) {
  const Rectangle f = rectangle(from), t = rectangle(to);
  const size_t width = size_of(from.dtype);
  const int64_t left = std::max(f.col, t.col), right = std::min(f.col + f.cols, t.col + t.cols);
  if (left >= right || count == 0) return;
  for (int64_t row = first / f.cols; row <= (first + count - 1) / f.cols; ++row) {
    const int64_t logical_row = f.row + row;
    if (logical_row < t.row || logical_row >= t.row + t.rows) continue;
    // Columns of this row that are in [first, first + count), in `from` and in `to`.
    const int64_t begin = std::max(left, f.col + std::max<int64_t>(0, first - row * f.cols));
    const int64_t end = std::min(right, f.col + std::min(f.cols, first + count - row * f.cols));
    if (begin >= end) continue;
    const int64_t source = row * f.cols + (begin - f.col) - first;
    const int64_t target = (logical_row - t.row) * t.cols + (begin - t.col);
    std::memcpy(out + static_cast<size_t>(target) * width, numbers + static_cast<size_t>(source) * width,
                static_cast<size_t>(end - begin) * width);
  }
}

}  // namespace tael
