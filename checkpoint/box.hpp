// What a checkpoint is made of: boxes of logical tensors.
//
// A logical tensor has a kind, a Hugging Face name, a format and a shape; nothing about ranks. A box is the rectangle
// of it that one rank owns: with every tensor on one rank the whole of it, with a split over ranks some rows or
// columns. So a checkpoint can be read by any layout: boxes are intersected, never renamed. Numbers of a box lie row-
// major and without holes. Tensors have at most two dimensions; a vector is split like rows.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.hpp"

namespace tael {

enum class StateKind : uint8_t {
  weight,      // float32 masters and gate biases; of an import whatever format the tensors came in
  exp_avg,     // AdamW's first moment
  exp_avg_sq,  // and the second
  text,        // a file that travels along (config.yaml, config.json, a tokenizer), as bytes
};
std::string_view name_of(StateKind kind);
bool state_kind_from_name(std::string_view name, StateKind& kind);

struct Box {
  StateKind kind = StateKind::weight;
  std::string name;  // "model.layers.3.mlp.gate.weight"
  DType dtype = DType::f32;
  std::vector<int64_t> shape;           // of the logical tensor
  std::vector<int64_t> offset, extent;  // of the box in it; as long as shape

  // All of the tensor.
  static Box whole(StateKind kind, std::string name, DType dtype, std::vector<int64_t> shape);
  bool is_whole() const { return extent == shape; }

  int64_t elements() const;
  uint64_t bytes() const { return static_cast<uint64_t>(elements()) * size_of(dtype); }
  // The dataset's path in a shard: the name for weights, kind/name for all else.
  std::string path() const;
};

// "tensor 'model.norm.weight'", "exp_avg of tensor '...'", "file 'config.yaml'": how errors name it.
std::string in_words(const Box& box);

// Throws Error(bad_data), `where` in front, unless the boxes of each tensor agree on format and shape, lie inside it,
// do not overlap and fill it.
void require_tiling(std::span<const Box* const> boxes, std::string_view where);

// Copies what `from` and `to` share, boxes of the same tensor: elements [first, first + count) of `from` at
// `numbers`, to the right places of `out`, which holds all of `to`.
void copy_shared(const Box& from, int64_t first, int64_t count, const std::byte* numbers, const Box& to,
                 std::byte* out);

}  // namespace tael
