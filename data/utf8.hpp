// UTF-8 (RFC 3629) checked as it streams: no overlong forms, no surrogates, nothing above U+10FFFF. How the bytes are
// cut into pieces does not matter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tael {

class Utf8Check {
 public:
  // False: the character that begins at byte error_offset() is not UTF-8. Feed nothing after that.
  bool feed(std::string_view piece);
  bool finish();  // False: the text ends inside the character at error_offset()

  uint64_t bytes() const { return bytes_; }  // fed so far
  uint64_t error_offset() const { return character_; }
  uint64_t error_line() const { return line_; }  // counted from 1

 private:
  uint64_t bytes_ = 0, character_ = 0, line_ = 1;
  int missing_ = 0;                               // bytes of the character that is open
  unsigned char lowest_ = 0x80, highest_ = 0xBF;  // of its next byte
};

// Bytes to text that can be shown as it comes: whole characters only, and U+FFFD for what is none.
class Utf8Stream {
 public:
  // Appends to `text` what the byte completes.
  void feed(char byte, std::string& text);
  // No more bytes follow: a character that is still open becomes U+FFFD.
  void finish(std::string& text);

 private:
  std::string open_;
  Utf8Check check_;
};

// The first byte of a character, in text that is UTF-8.
inline bool begins_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

}  // namespace tael
