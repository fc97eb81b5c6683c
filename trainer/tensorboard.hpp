// A TensorBoard event file: scalars by step, readable by TensorBoard and by everything that imports its files.
//
// The format by hand, since it is three wire types of protobuf in records with a checksum; protobuf and TensorFlow
// would be the alternative. A record is: u64 length, u32 masked CRC32C of those 8 bytes, the payload, u32 masked CRC32C
// of the payload, little endian. Fields used: Event{1: wall time, double; 2: step, int64; 3: file version, text; 5:
// summary; 7: session log}, Summary{1: value}, Value{1: tag, text; 2: simple value, float}, SessionLog{1: status, START
// = 1}. Source: tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto,
// tensorflow/core/lib/io/record_writer.
//
// One file for each attempt of a run, written by rank 0. Records wait in memory until flush(). All failures are
// Error(io). Not for several threads at once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/file.hpp"

namespace tael {

uint32_t masked_crc32c(const void* data, size_t bytes);

struct TensorboardOptions {
  std::string directory;         // exists
  std::string host = "unknown";  // in the file's name, with everything but letters, digits, '-' and '.' replaced
  int64_t process = 0;           // likewise
  double wall_time = 0;          // seconds since 1970
  int64_t attempt = 1;  // after the first, a session start tells readers to drop what they have from first_step on
  int64_t first_step = 1;
};

class Tensorboard {
 public:
  explicit Tensorboard(const TensorboardOptions& options);  // creates the file and writes its head

  void scalar(std::string_view tag, int64_t step, double wall_time, double value);  // kept as a float, NaN included
  void flush();                                                                     // everything so far is in the file

  const std::string& path() const { return file_.path(); }

 private:
  void record(std::string_view event);

  File file_;
  uint64_t size_ = 0;
  std::string pending_;
};

}  // namespace tael
