// What a person sees of a run: facts at the start, one line for each logged step, evaluations, warnings.
//
// Fixed columns of at most 150 characters; the head of the table comes back every 40 lines on a terminal and every 500
// elsewhere. Colour only where it was asked for or a terminal can show it. Everything goes to one stream (stderr:
// progress; results belong on stdout) and is flushed line by line. Rank 0 alone prints. Not for several threads at
// once.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/number_text.hpp"
#include "trainer/step_report.hpp"

namespace tael {

enum class ColorMode { automatic, always, never };

// `no_color` and `term` are the environment's NO_COLOR and TERM, nullptr where there are none (read in main).
bool use_color(ColorMode mode, bool is_terminal, const char* no_color, const char* term);

struct ConsoleOptions {
  std::FILE* out = stderr;
  bool color = false;
  bool is_terminal = false;
  bool mtp = false;           // the column of the MTP loss
  bool experts = false;       // the column of the largest violation of balance
  bool budget = false;        // the column of what is left of the budget
  std::string currency = {};  // costs are shown in it; empty: in device-hours
};

class Console {
 public:
  explicit Console(const ConsoleOptions& options) : options_(options) {}

  // "model    DeepSeek-V3 shape, 4 layers ...": a fact printed once.
  void fact(std::string_view name, std::string_view text);
  void step(const StepReport& report, double seconds_left);
  void eval(const EvalReport& report);
  void saved(const CheckpointReport& report, std::string_view name);
  void warn(std::string_view text);   // "! text": what happened, and what was done
  void error(std::string_view text);  // "tael: text": why the run ends

  // The lines without colour and line end, as step() and eval() print them.
  std::string head() const;
  std::string line(const StepReport& report, double seconds_left) const;
  std::string line(const EvalReport& report) const;
  std::string line(const CheckpointReport& report, std::string_view name) const;

 private:
  void print(std::string_view color, std::string_view text);

  ConsoleOptions options_;
  int lines_ = 0;  // since the head was printed
  bool head_printed_ = false;
};

}  // namespace tael
