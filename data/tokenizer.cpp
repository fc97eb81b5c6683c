#include "data/tokenizer.hpp"

#include <fmt/core.h>

namespace tael {

void ByteTokenizer::encode(std::string_view text, int32_t* tokens) {
  for (size_t i = 0; i < text.size(); ++i) tokens[i] = static_cast<unsigned char>(text[i]);
}

std::string ByteTokenizer::decode(std::span<const int32_t> tokens) {
  std::string text;
  text.reserve(tokens.size());
  for (int32_t token : tokens) {
    if (text_bytes(token) == 1)
      text += static_cast<char>(token);
    else if (token == kBeginOfSentence)
      text += "<|begin_of_sentence|>";
    else if (token == kEndOfSentence)
      text += "<|end_of_sentence|>";
    else if (token == kPadding)
      text += "<|padding|>";
    else
      text += fmt::format("<|{}|>", token);
  }
  return text;
}

}  // namespace tael
