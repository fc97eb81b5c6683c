#include "trainer/console.hpp"

#include <fmt/core.h>

#include <cmath>

namespace tael {
namespace {

constexpr std::string_view kPlain, kDim = "\033[2m", kBold = "\033[1m", kGreen = "\033[32m", kYellow = "\033[33m",
                                   kRed = "\033[31m", kReset = "\033[0m";
constexpr int kHeadEveryOnTerminal = 40, kHeadEveryInFile = 500;

// A number in `width` characters whatever its size: `decimals` of them where that fits, else as 1.2e+34; "nan", "inf".
std::string fixed(double x, int width, int decimals) {
  std::string text = fmt::format("{:{}.{}f}", x, width, decimals);
  if (static_cast<int>(text.size()) > width) text = fmt::format("{:{}.{}e}", x, width, 1);
  return text;
}

std::string optional_fixed(const std::optional<double>& x, int width, int decimals, double scale = 1.0) {
  return x ? fixed(*x * scale, width, decimals) : fmt::format("{:>{}}", "-", width);
}

}  // namespace

bool use_color(ColorMode mode, bool is_terminal, const char* no_color, const char* term) {
  if (mode != ColorMode::automatic) return mode == ColorMode::always;
  const bool refused = no_color != nullptr && *no_color != '\0';
  const bool dumb = term == nullptr || *term == '\0' || std::string_view(term) == "dumb";
  return is_terminal && !refused && !dumb;
}

std::string Console::head() const {
  return fmt::format("{:>8} {:>9}{}{:>9} {:>9} {:>9} {:>9} {:>7} {:>6} {:>7}{} {:>9}{} {:>9}", "step", "loss",
                     options_.mtp ? fmt::format(" {:>8} ", "mtp") : " ", "gnorm", "lr", "tokens", "tok/s", "ms", "mfu",
                     "mem", options_.experts ? fmt::format(" {:>6}", "maxvio") : "",
                     options_.currency.empty() ? "hours" : options_.currency,
                     options_.budget ? fmt::format(" {:>6}", "budget") : "", "left");
}

std::string Console::line(const StepReport& r, double seconds_left) const {
  const std::string mtp = options_.mtp ? fmt::format(" {} ", optional_fixed(r.mtp_loss, 8, 5)) : " ";
  const std::string balance = options_.experts ? fmt::format(" {}", optional_fixed(r.max_violation, 6, 3)) : "";
  const std::string mfu = r.mfu ? fmt::format("{}%", fixed(*r.mfu * 100, 5, 1)) : fmt::format("{:>6}", "-");
  // Four decimals while they are small, thousands grouped when they are not.
  const double spent = r.money ? *r.money : r.gpu_hours;
  const std::string cost = spent < 1000 ? fixed(spent, 9, 4) : counted(spent, 9);
  const std::string budget = options_.budget ? fmt::format(" {}%", optional_fixed(r.budget_left, 5, 1, 100)) : "";
  return fmt::format("{:>8} {}{}{} {:>9.2e} {:>9} {:>9} {} {} {}G{} {:>9}{} {:>9}",
                     counted(static_cast<double>(r.step), 8), fixed(r.loss, 9, 5), mtp, fixed(r.grad_norm, 9, 4), r.lr,
                     counted(static_cast<double>(r.tokens), 9), counted(r.tokens_per_s, 9),
                     fixed(r.step_ms, 7, r.step_ms < 1000 ? 1 : 0), mfu, fixed(r.peak_gib, 6, 2), balance, cost, budget,
                     duration(seconds_left));
}

std::string Console::line(const EvalReport& r) const {
  std::string text = fmt::format("   valid  step {}  loss {:.5f}  ppl {:.3f}", grouped(r.step), r.loss, r.ppl);
  if (r.bits_per_byte) text += fmt::format("  bits/byte {:.4f}", *r.bits_per_byte);
  return text + fmt::format("  ({})", count_of(r.targets, "target"));
}

std::string Console::line(const CheckpointReport& r, std::string_view name) const {
  return fmt::format("   saved  {}  {:.1f} MB in {:.2f} s; the steps waited {:.1f} ms", name,
                     static_cast<double>(r.bytes) * 1e-6, r.seconds, r.stall_ms);
}

void Console::print(std::string_view color, std::string_view text) {
  const bool paint = options_.color && !color.empty();
  const std::string line = fmt::format("{}{}{}\n", paint ? color : "", text, paint ? kReset : "");
  // A run does not end because nobody listens any more.
  std::fwrite(line.data(), 1, line.size(), options_.out);
  std::fflush(options_.out);
}

void Console::fact(std::string_view name, std::string_view text) {
  print(kPlain,
        options_.color ? fmt::format("{}{:<9}{}{}", kBold, name, kReset, text) : fmt::format("{:<9}{}", name, text));
}

void Console::step(const StepReport& report, double seconds_left) {
  if (!head_printed_ || lines_ >= (options_.is_terminal ? kHeadEveryOnTerminal : kHeadEveryInFile)) {
    print(kDim, head());
    head_printed_ = true;
    lines_ = 0;
  }
  ++lines_;
  print(kPlain, line(report, seconds_left));
}

void Console::eval(const EvalReport& report) { print(kGreen, line(report)); }
void Console::saved(const CheckpointReport& report, std::string_view name) { print(kDim, line(report, name)); }
void Console::warn(std::string_view text) { print(kYellow, fmt::format("! {}", text)); }
void Console::error(std::string_view text) { print(kRed, fmt::format("tael: {}", text)); }

}  // namespace tael
