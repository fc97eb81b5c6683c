#include "base/field_kinds.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace tael {

namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

std::string range_of(int64_t min, int64_t max) {
  if (max == kNoLimit) return fmt::format("at least {}", min);
  return fmt::format("from {} to {}", min, max);
}

enum class Parsed { ok, not_a_number, not_whole, too_large };

// digits[.digits][e[+-]digits] x 10^unit as an exact whole number; no leading zeros.
Parsed parse_whole(std::string_view text, int unit, int64_t& value) {
  bool negative = false;
  if (text.starts_with('-')) {
    negative = true;
    text.remove_prefix(1);
  }
  if (text.starts_with('+') || !is_number(text)) return Parsed::not_a_number;
  int exponent = unit;
  if (const size_t e = text.find_first_of("eE"); e != std::string_view::npos) {
    std::string_view digits = text.substr(e + 1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    int given = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), given);
    if (error != std::errc() || std::abs(given) > 100) return Parsed::too_large;
    exponent += given;
    text = text.substr(0, e);
  }
  std::string digits;
  bool after_point = false;
  for (const char c : text) {
    if (c == '.') {
      after_point = true;
      continue;
    }
    digits += c;
    if (after_point) --exponent;
  }
  while (exponent < 0 && digits.size() > 1 && digits.back() == '0') {
    digits.pop_back();
    ++exponent;
  }
  value = 0;
  for (const char c : digits) {
    if (__builtin_mul_overflow(value, int64_t{10}, &value) || __builtin_add_overflow(value, int64_t{c - '0'}, &value)) {
      return Parsed::too_large;
    }
  }
  if (value == 0) return Parsed::ok;
  if (exponent < 0) return Parsed::not_whole;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(value, int64_t{10}, &value)) return Parsed::too_large;
  }
  if (negative) value = -value;
  return Parsed::ok;
}

// Splits "14.8T" or "10 min" into the number and the unit behind it.
std::pair<std::string_view, std::string_view> split_unit(std::string_view text) {
  size_t end = text.size();
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  while (end > 0 && letter(text[end - 1])) --end;
  std::string_view number = text.substr(0, end);
  if (end < text.size() && number.ends_with(' ')) number.remove_suffix(1);
  return {number, text.substr(end)};
}

int decimal_unit(std::string_view unit) {  // exponent of ten; -1: no such unit
  if (unit.empty()) return 0;
  if (unit == "k" || unit == "K") return 3;
  if (unit == "M") return 6;
  if (unit == "G" || unit == "B") return 9;
  if (unit == "T") return 12;
  return -1;
}

}  // namespace

void refuse(const ConfigNode& node, std::string expected) {
  throw BadValue{node.origin, std::move(expected), in_words(node)};
}

std::string Integer::expected() const { return fmt::format("a whole number {}", range_of(min, max)); }

void Integer::read(const ConfigNode& node, int64_t& value) const {
  if (!node.is_scalar() || node.quoted || !is_number(node.scalar) || node.scalar.starts_with('+')) {
    refuse(node, expected());
  }
  int64_t given = 0;
  const char* end = node.scalar.data() + node.scalar.size();
  const auto [stop, error] = std::from_chars(node.scalar.data(), end, given);
  if (error == std::errc::result_out_of_range && stop == end && !node.scalar.starts_with('-'))
    refuse(node, fmt::format("a whole number from {} to {}", min, max));
  if (error != std::errc() || stop != end || given < min || given > max) refuse(node, expected());
  value = given;
}

ConfigNode Integer::write(int64_t value) const { return ConfigNode::plain(std::to_string(value)); }

std::string Count::expected() const {
  return fmt::format("a whole number such as 4096, 4k or 20M, {}", range_of(min, max));
}

void Count::read(const ConfigNode& node, int64_t& value) const {
  if (!node.is_scalar()) refuse(node, expected());
  const auto [number, unit] = split_unit(node.scalar);
  const int exponent = decimal_unit(unit);
  int64_t given = 0;
  // In quotes only a text with a unit is a value; quoted digits are a text.
  if (exponent < 0 || (node.quoted && unit.empty())) refuse(node, expected());
  if (parse_whole(number, exponent, given) != Parsed::ok || given < min || given > max) refuse(node, expected());
  value = given;
}

void Tokens::read(const ConfigNode& node, int64_t& value) const {
  ConfigNode bare = node;
  bare.quoted = false;
  try {
    Count{min}.read(bare, value);
  } catch (const BadValue&) {
    refuse(node, expected());
  }
}

std::string Real::expected() const {
  const double least = -std::numeric_limits<double>::max(), most = std::numeric_limits<double>::max();
  if (min == least && max == most) return "a number";
  if (max == most) return fmt::format("a number {} {}", above_min ? "above" : "of at least", shortest(min));
  return fmt::format("a number {} {} {} {}", above_min ? "above" : "from", shortest(min),
                     below_max ? "and below" : "to", shortest(max));
}

void Real::read(const ConfigNode& node, double& value) const {
  if (!node.is_scalar() || node.quoted || !is_number(node.scalar) || node.scalar.starts_with('+')) {
    refuse(node, expected());
  }
  double given = 0;
  const char* end = node.scalar.data() + node.scalar.size();
  const auto [stop, error] = std::from_chars(node.scalar.data(), end, given);
  if (error != std::errc() || stop != end || !std::isfinite(given)) refuse(node, expected());
  if (given < min || given > max || (above_min && given == min) || (below_max && given == max)) {
    refuse(node, expected());
  }
  value = given;
}

ConfigNode Real::write(double value) const { return ConfigNode::plain(shortest(value)); }

void Boolean::read(const ConfigNode& node, bool& value) const {
  if (!node.is_scalar() || node.quoted || (node.scalar != "true" && node.scalar != "false")) refuse(node, expected());
  value = node.scalar == "true";
}

void Text::read(const ConfigNode& node, std::string& value) const {
  if (!node.is_scalar() || node.scalar.empty()) refuse(node, expected());
  for (const char c : node.scalar) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      refuse(node, expected() + " without control characters");
    }
  }
  value = node.scalar;
}

std::string Duration::expected() const {
  return min > 0 ? fmt::format("a duration such as 600s, 10 min or 20h, at least {}s", shortest(min))
                 : "a duration such as 600s, 10 min or 20h";
}

void Duration::read(const ConfigNode& node, double& seconds) const {
  if (!node.is_scalar()) refuse(node, expected());
  const auto [number, unit] = split_unit(node.scalar);
  double scale = 0;
  if (unit == "ms") scale = 1e-3;
  if (unit == "s") scale = 1;
  if (unit == "min") scale = 60;
  if (unit == "h") scale = 3600;
  if (unit == "d") scale = 86400;
  double given = 0;
  const char* end = number.data() + number.size();
  if (scale == 0 || !is_number(number) || number.starts_with('+')) refuse(node, expected());
  const auto [stop, error] = std::from_chars(number.data(), end, given);
  if (error != std::errc() || stop != end) refuse(node, expected());
  given = unit == "ms" ? given / 1e3 : given * scale;
  if (!std::isfinite(given) || given < min) refuse(node, expected());
  seconds = given;
}

std::string MoneyKind::expected() const {
  return above_zero ? "an amount above 0 of one currency such as {usd: 2.00}"
                    : "an amount of one currency such as {usd: 2.00}";
}

void MoneyKind::read(const ConfigNode& node, Money& value) const {
  if (!node.is_map() || node.items.size() != 1) refuse(node, expected());
  const std::string& currency = node.keys[0].scalar;
  const auto small = [](char c) { return c >= 'a' && c <= 'z'; };
  if (currency.size() != 3 || !std::all_of(currency.begin(), currency.end(), small)) refuse(node.keys[0], expected());
  double amount = 0;
  try {
    Real{0, std::numeric_limits<double>::max(), above_zero}.read(node.items[0], amount);
  } catch (const BadValue&) {
    refuse(node.items[0], expected());
  }
  value = {currency, amount};
}

ConfigNode MoneyKind::write(const Money& value) const {
  ConfigNode map = ConfigNode::map();
  map.set(value.currency, Real{}.write(value.amount));
  return map;
}

namespace {

// [[from, value], ...]: the form shared by all schedules.
template <class ReadValue>
Schedule read_points(const ConfigNode& node, const std::string& expected, const ReadValue& read_value) {
  if (!node.is_list() || node.items.empty()) refuse(node, expected);
  Schedule schedule;
  for (const ConfigNode& item : node.items) {
    if (!item.is_list() || item.items.size() != 2) refuse(item, expected);
    Schedule::Point point;
    Count{}.read(item.items[0], point.from_tokens);
    point.value = read_value(item.items[1]);
    if (schedule.points.empty() && point.from_tokens != 0) {
      refuse(item.items[0], "0 tokens, where a schedule starts");
    }
    if (!schedule.points.empty() && point.from_tokens <= schedule.points.back().from_tokens) {
      refuse(item.items[0], fmt::format("more than the {} tokens before it", schedule.points.back().from_tokens));
    }
    schedule.points.push_back(point);
  }
  return schedule;
}

template <class WriteValue>
ConfigNode write_points(const Schedule& schedule, const WriteValue& write_value) {
  if (schedule.is_constant()) return write_value(schedule.points[0].value);
  ConfigNode list = ConfigNode::list();
  for (const Schedule::Point& point : schedule.points) {
    list.items.push_back(ConfigNode::list({Count{}.write(point.from_tokens), write_value(point.value)}));
  }
  return list;
}

}  // namespace

std::string ScheduleKind::expected() const {
  return fmt::format("{}, or a list of [from tokens, value]", value.expected());
}

void ScheduleKind::read(const ConfigNode& node, Schedule& schedule) const {
  const auto read_value = [&](const ConfigNode& item) {
    double given = 0;
    value.read(item, given);
    return given;
  };
  if (node.is_scalar()) {
    try {
      schedule = Schedule::constant(read_value(node));
    } catch (const BadValue&) {
      refuse(node, expected());
    }
    return;
  }
  schedule = read_points(node, expected(), read_value);
}

ConfigNode ScheduleKind::write(const Schedule& schedule) const {
  return write_points(schedule, [&](double x) { return value.write(x); });
}

void require_only(const ConfigNode& map, std::span<const std::string_view> names) {
  for (const ConfigNode& key : map.keys) {
    if (std::ranges::find(names, key.scalar) != names.end()) continue;
    std::string list;
    for (size_t i = 0; i < names.size(); ++i)
      list += fmt::format("{}{}", i == 0 ? "" : i + 1 == names.size() ? " and " : ", ", names[i]);
    throw BadValue{key.origin, "only " + list,
                   fmt::format("{}; the nearest is {}", key_in_words(key), nearest_of(key.scalar, names))};
  }
}

std::string BatchSizeKind::expected() const {
  return "a whole number of sequences, a list of [from tokens, sequences], or {start, end, over, increment}";
}

void BatchSizeKind::read(const ConfigNode& node, BatchSize& value) const {
  // Far above any batch, and exact in a double.
  const Count sequences{1, int64_t{1} << 40};
  const auto read_value = [&](const ConfigNode& item) {
    int64_t given = 0;
    sequences.read(item, given);
    return static_cast<double>(given);
  };
  BatchSize given;
  if (node.is_map()) {
    BatchRamp ramp;
    struct Part {
      std::string_view name;
      int64_t* target;
    };
    const std::array<Part, 4> parts = {
        {{"start", &ramp.start}, {"end", &ramp.end}, {"over", &ramp.over_tokens}, {"increment", &ramp.increment}}};
    constexpr std::array<std::string_view, 4> kNames = {"start", "end", "over", "increment"};
    require_only(node, kNames);
    for (const Part& part : parts) {
      const ConfigNode* found = node.find(part.name);
      if (found == nullptr) refuse(node, fmt::format("all of start, end, over, increment; {} is not given", part.name));
      (part.name == "over" ? Count{1} : sequences).read(*found, *part.target);
    }
    if (ramp.end < ramp.start) refuse(node, fmt::format("an end of at least the start {}", ramp.start));
    if ((ramp.end - ramp.start) % ramp.increment != 0) {
      refuse(node, fmt::format("an increment that divides end - start = {}", ramp.end - ramp.start));
    }
    given.ramp = ramp;
  } else if (node.is_scalar()) {
    try {
      given.steps = Schedule::constant(read_value(node));
    } catch (const BadValue&) {
      refuse(node, expected());
    }
  } else {
    given.steps = read_points(node, expected(), read_value);
  }
  value = std::move(given);
}

ConfigNode BatchSizeKind::write(const BatchSize& value) const {
  const auto write_value = [](double x) { return Count{}.write(static_cast<int64_t>(x)); };
  if (!value.ramp) return write_points(value.steps, write_value);
  ConfigNode map = ConfigNode::map();
  map.set("start", Count{}.write(value.ramp->start));
  map.set("end", Count{}.write(value.ramp->end));
  map.set("over", Count{}.write(value.ramp->over_tokens));
  map.set("increment", Count{}.write(value.ramp->increment));
  return map;
}

void WordMap::read(const ConfigNode& node, std::map<std::string, std::string>& value) const {
  if (!node.is_map()) refuse(node, expected());
  std::map<std::string, std::string> given;
  for (size_t i = 0; i < node.items.size(); ++i) Text{"a word"}.read(node.items[i], given[node.keys[i].scalar]);
  value = std::move(given);
}

ConfigNode WordMap::write(const std::map<std::string, std::string>& value) const {
  ConfigNode map = ConfigNode::map();
  for (const auto& [name, word] : value) map.set(name, ConfigNode::text(word));
  return map;
}

std::string choice_expected(const std::vector<std::string_view>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

void refuse_choice(const ConfigNode& node, const std::vector<std::string_view>& words) {
  std::string expected = choice_expected(words);
  if (node.is_scalar() && words.size() > 1) {
    const std::string_view near = nearest_of(node.scalar, words);
    if (edit_distance(node.scalar, near) <= std::max<size_t>(1, near.size() / 3)) {
      throw BadValue{node.origin, std::move(expected), fmt::format("{} (did you mean {}?)", in_words(node), near)};
    }
  }
  refuse(node, std::move(expected));
}

size_t edit_distance(std::string_view a, std::string_view b) {
  // Three rows of the optimal string alignment distance.
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

std::string_view nearest_of(std::string_view word, std::span<const std::string_view> candidates) {
  constexpr size_t kLongest = 100;  // a key of a megabyte costs no more than a long name
  word = word.substr(0, kLongest);
  std::string_view best;
  size_t least = std::numeric_limits<size_t>::max();
  for (const std::string_view candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace tael
