// How often this process has allocated through operator new.
#pragma once

#include <cstdint>

namespace tael::testing {

int64_t allocation_count();

}  // namespace tael::testing
