// Files of one JSON object a line that grow while somebody reads them.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/json.hpp"

namespace tael {

// Calls `take` with each whole line's object, in order. No file: no lines. A torn line is passed over: the last one
// without its end, and one inside that a later writer ended (it is no object that closes itself, or `last_member`,
// where one is given, is missing in it). Error(bad_data) with file and line for anything else.
void read_json_lines(const std::string& path, std::string_view last_member,
                     const std::function<void(const Json&)>& take);

}  // namespace tael
