// What the kernels of a model take of a thread's workspace (ThreadPool::kWorkspaceBytes), in training and evaluation.
#pragma once

#include <cstdint>

#include "model/shape.hpp"

namespace tael {

// By the kernel that takes the most. REQUIRES a shape whose kernels fit (complete_and_check).
int64_t thread_workspace_bytes(const ModelShape& shape);

}  // namespace tael
