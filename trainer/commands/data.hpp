// tael data: makes token shards and says what is in them. Results go to `out`, progress to `err` (which may be nullptr:
// silence). Each returns the exit code of success; failures are Errors.
#pragma once

#include <cstdio>
#include <string>

#include "data/prepare.hpp"
#include "trainer/verb.hpp"

namespace tael {

// tael data prepare --out P.h5 [--valid V.h5 --valid-fraction F] [--dry-run] INPUT...
int run_data_prepare(const DataPrepareOptions& options, std::FILE* out, std::FILE* err);

struct DataInspectOptions {
  std::string path;
  bool json = false;
};
// tael data inspect P.h5 [--json]: checks every byte of the shard, then describes it.
int run_data_inspect(const DataInspectOptions& options, std::FILE* out);

struct DataImportCommandOptions {
  std::string format;  // "nanogpt"; "llmc" and "megatron" are not built yet
  DataImportOptions import;
};
// tael data import nanogpt --out P.h5 --vocab-size N [--dry-run] FILE...
int run_data_import(const DataImportCommandOptions& options, std::FILE* out, std::FILE* err);

VerbGroup data_verbs();

}  // namespace tael
