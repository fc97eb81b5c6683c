#include "trainer/tensorboard.hpp"

#include <fmt/core.h>

#include <bit>
#include <cctype>

#include "base/hash.hpp"

namespace tael {
namespace {

// A protobuf message in the making. A key is the field's number and one of three wire types.
class Message {
 public:
  Message& integer(uint32_t field, int64_t value) {  // varint
    key(field, 0);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& real(uint32_t field, double value) {
    key(field, 1);
    fixed(std::bit_cast<uint64_t>(value), 8);
    return *this;
  }
  Message& real(uint32_t field, float value) {
    key(field, 5);
    fixed(std::bit_cast<uint32_t>(value), 4);
    return *this;
  }
  Message& bytes(uint32_t field, std::string_view value) {  // text, and messages inside
    key(field, 2);
    varint(value.size());
    out_ += value;
    return *this;
  }
  const std::string& text() const { return out_; }

 private:
  void key(uint32_t field, uint32_t wire_type) { varint(field << 3 | wire_type); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_ += static_cast<char>(value | 0x80);
    out_ += static_cast<char>(value);
  }
  void fixed(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) out_ += static_cast<char>(value >> 8 * i);
  }

  std::string out_;
};

std::string little_endian(uint64_t value, int size) {
  std::string out;
  for (int i = 0; i < size; ++i) out += static_cast<char>(value >> 8 * i);
  return out;
}

std::string file_name(const TensorboardOptions& options) {
  std::string host = options.host;
  for (char& c : host)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '.') c = '_';
  return fmt::format("{}/events.out.tfevents.{:010}.{}.{}.{}", options.directory,
                     static_cast<int64_t>(options.wall_time), host, options.process, options.attempt);
}

}  // namespace

uint32_t masked_crc32c(const void* data, size_t bytes) { return std::rotr(crc32c(data, bytes), 15) + 0xA282EAD8u; }

Tensorboard::Tensorboard(const TensorboardOptions& options) : file_(File::create(file_name(options))) {
  record(Message().real(1, options.wall_time).bytes(3, "brain.Event:2").text());
  if (options.attempt > 1) {
    const Message start = Message().integer(1, 1);
    record(Message().real(1, options.wall_time).integer(2, options.first_step).bytes(7, start.text()).text());
  }
  flush();
}

void Tensorboard::scalar(std::string_view tag, int64_t step, double wall_time, double value) {
  const Message scalar = Message().bytes(1, tag).real(2, static_cast<float>(value));
  const Message summary = Message().bytes(1, scalar.text());
  record(Message().real(1, wall_time).integer(2, step).bytes(5, summary.text()).text());
}

void Tensorboard::record(std::string_view event) {
  const std::string length = little_endian(event.size(), 8);
  pending_ += length;
  pending_ += little_endian(masked_crc32c(length.data(), length.size()), 4);
  pending_ += event;
  pending_ += little_endian(masked_crc32c(event.data(), event.size()), 4);
}

void Tensorboard::flush() {
  if (pending_.empty()) return;
  file_.write_at(size_, pending_.data(), pending_.size());
  size_ += pending_.size();
  pending_.clear();
}

}  // namespace tael
