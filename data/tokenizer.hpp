// The tokenizer `bytes`: byte b of the text is token b, and three tokens stand for no text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tael {

struct ByteTokenizer {
  static constexpr std::string_view kName = "bytes";  // as token shards and configurations write it
  static constexpr int32_t kBeginOfSentence = 256;
  static constexpr int32_t kEndOfSentence = 257;  // ends every document and belongs to it
  static constexpr int32_t kPadding = 258;
  static constexpr int32_t kVocabSize = 259;

  // Bytes of text that a token stands for.
  static constexpr int text_bytes(int32_t token) { return token >= 0 && token < 256 ? 1 : 0; }
  // One token a byte; `tokens` has text.size() elements.
  static void encode(std::string_view text, int32_t* tokens);
  // Specials become <|begin_of_sentence|>, <|end_of_sentence|> and <|padding|>, numbers beyond them <|N|>.
  static std::string decode(std::span<const int32_t> tokens);
};

}  // namespace tael
