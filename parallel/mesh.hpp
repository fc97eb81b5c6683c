// Where a rank stands: pure arithmetic from world rank to a coordinate on each axis and back.
//
// World size = pipeline x data x tensor; tensor is the fastest axis, then data, then pipeline, so that ranks which talk
// most are neighbours. Expert ranks divide data ranks and are no axis of their own. Only data ranks are built: a mesh
// with more than one rank on another axis is refused by the rules of the configuration and checked here.
#pragma once

#include "base/check.hpp"

namespace tael {

struct MeshShape {
  int pipeline = 1, data = 1, expert = 1, tensor = 1;
  int world() const { return pipeline * data * tensor; }
};

class Mesh {
 public:
  Mesh(const MeshShape& shape, int rank) : shape_(shape), rank_(rank) {
    CHECK(shape.pipeline == 1 && shape.expert == 1 && shape.tensor == 1, "pipeline {}, expert {}, tensor {}",
          shape.pipeline, shape.expert, shape.tensor);
    CHECK(shape.data >= 1 && rank >= 0 && rank < shape.world(), "rank {} of {}", rank, shape.world());
  }

  const MeshShape& shape() const { return shape_; }
  int rank() const { return rank_; }
  int data_rank() const { return rank_; }
  int data_ranks() const { return shape_.data; }
  int rank_of_data(int data_rank) const { return data_rank; }

 private:
  MeshShape shape_;
  int rank_;
};

}  // namespace tael
