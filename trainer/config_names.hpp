// The one table of other programs' names for the keys of a run's configuration: Megatron-LM's arguments and
// torchtitan's keys that mean the same, those that look alike and mean something else, and names that people bring from
// elsewhere.
// Rules of the table: base/key_names.hpp. What was used is named at start (config_notes).
#pragma once

#include "base/key_names.hpp"

namespace tael {

KeyNames other_programs_names();

}  // namespace tael
