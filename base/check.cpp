#include "base/check.hpp"

namespace tael::detail {

void check_failed(const char* file, int line, const char* condition, const std::string& detail) {
  throw Error(Exit::internal, fmt::format("internal error at {}:{}: {} does not hold{}{}", file, line, condition,
                                          detail.empty() ? "" : ": ", detail));
}

}  // namespace tael::detail
