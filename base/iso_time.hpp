// Moments as text, in UTC.
#pragma once

#include <chrono>
#include <string>

namespace tael {

std::string iso_time(std::chrono::system_clock::time_point time);  // 2026-11-24T08:06:55.123Z, milliseconds cut off

}  // namespace tael
