#include "data/utf8.hpp"

#include <algorithm>
#include <cstring>

namespace tael {

bool Utf8Check::feed(std::string_view piece) {
  const char* const begin = piece.data();
  const char* const end = begin + piece.size();
  const char* p = begin;
  const auto refuse = [&](const char* character_or_null) {
    if (character_or_null != nullptr) {
      character_ = bytes_ + static_cast<uint64_t>(character_or_null - begin);
      line_ += static_cast<uint64_t>(std::count(begin, character_or_null, '\n'));
    }
    return false;
  };
  const char* character = nullptr;  // where the open character begins; nullptr: in an earlier piece
  while (p < end) {
    if (missing_ == 0) {
      for (uint64_t word; end - p >= 8; p += 8) {  // eight ASCII bytes at a time
        std::memcpy(&word, p, 8);
        if ((word & 0x8080808080808080u) != 0) break;
      }
      while (p < end && static_cast<unsigned char>(*p) < 0x80) ++p;
      if (p == end) break;
      const auto lead = static_cast<unsigned char>(*p);
      character = p++;
      lowest_ = 0x80;
      highest_ = 0xBF;
      if (lead >= 0xC2 && lead <= 0xDF) {
        missing_ = 1;
      } else if ((lead & 0xF0) == 0xE0) {
        missing_ = 2;
        if (lead == 0xE0) lowest_ = 0xA0;   // shorter forms exist
        if (lead == 0xED) highest_ = 0x9F;  // surrogates
      } else if (lead >= 0xF0 && lead <= 0xF4) {
        missing_ = 3;
        if (lead == 0xF0) lowest_ = 0x90;
        if (lead == 0xF4) highest_ = 0x8F;  // above U+10FFFF
      } else {
        return refuse(character);
      }
      continue;
    }
    const auto next = static_cast<unsigned char>(*p);
    if (next < lowest_ || next > highest_) return refuse(character);
    lowest_ = 0x80;
    highest_ = 0xBF;
    --missing_;
    ++p;
  }
  // An open character keeps the line and place where it began.
  if (missing_ > 0 && character != nullptr) character_ = bytes_ + static_cast<uint64_t>(character - begin);
  line_ += static_cast<uint64_t>(std::count(begin, end, '\n'));
  bytes_ += piece.size();
  return true;
}

bool Utf8Check::finish() { return missing_ == 0; }

void Utf8Stream::feed(char byte, std::string& text) {
  if (!check_.feed({&byte, 1})) {
    finish(text);
    if (!check_.feed({&byte, 1})) {  // begins no character either
      open_ += byte;
      return finish(text);
    }
  }
  open_ += byte;
  if (!check_.finish()) return;  // more of it must come
  text += open_;
  open_.clear();
}

void Utf8Stream::finish(std::string& text) {
  if (!open_.empty()) text += "\xEF\xBF\xBD";
  open_.clear();
  check_ = Utf8Check();
}

}  // namespace tael
