// Kinds: what a field may hold, how it is written and what to say when it is something else.
//
// A kind is a small value with expected() ("a whole number from 1 to 64"), read(node, value), which throws BadValue,
// and write(value), whose node reads back as the same value. Kinds compose: OrNull{Integer{1}}, ListOf<Text>.
//
// Quotes: a kind that is a bare number refuses a quoted scalar; names, paths and values with a unit accept it.
// Units: k 1e3, M 1e6, B and G 1e9, T 1e12 (decimal: 4k is 4000); ms s min h d.
#pragma once

#include <array>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/config_node.hpp"
#include "base/schedule.hpp"

namespace tael {

// A value that its field cannot hold; whoever knows the field's name makes the Error.
struct BadValue {
  Origin origin;
  std::string expected;
  std::string got;
};
[[noreturn]] void refuse(const ConfigNode& node, std::string expected);

// BadValue for the first key of the map that is none of these names: "expected only X, got Y; the nearest is Z".
void require_only(const ConfigNode& map, std::span<const std::string_view> names);

struct Integer {  // digits, nothing else: no fraction, exponent, unit, leading zero, hexadecimal
  int64_t min = 0;
  int64_t max = std::numeric_limits<int64_t>::max();
  std::string expected() const;
  void read(const ConfigNode& node, int64_t& value) const;
  ConfigNode write(int64_t value) const;
};

struct Count {  // a whole number with or without a unit: 4096, 4k, 14.8T, 1e9
  int64_t min = 0;
  int64_t max = std::numeric_limits<int64_t>::max();
  std::string expected() const;
  void read(const ConfigNode& node, int64_t& value) const;
  ConfigNode write(int64_t value) const { return Integer{}.write(value); }
};

struct Tokens {  // the same as Count, and quoted digits are a value too
  int64_t min = 0;
  std::string expected() const { return Count{min}.expected(); }
  void read(const ConfigNode& node, int64_t& value) const;
  ConfigNode write(int64_t value) const { return Integer{}.write(value); }
};

struct Real {  // a finite decimal number: 3e-4
  double min = -std::numeric_limits<double>::max();
  double max = std::numeric_limits<double>::max();
  bool above_min = false;  // the minimum itself is out
  bool below_max = false;  // the maximum itself is out
  std::string expected() const;
  void read(const ConfigNode& node, double& value) const;
  ConfigNode write(double value) const;
};

struct Boolean {
  std::string expected() const { return "true or false"; }
  std::vector<std::string> choices() const { return {"true", "false"}; }
  void read(const ConfigNode& node, bool& value) const;
  ConfigNode write(bool value) const { return ConfigNode::plain(value ? "true" : "false"); }
};

struct Text {  // not empty, no control characters
  std::string_view what = "a text";
  std::string expected() const { return std::string(what); }
  void read(const ConfigNode& node, std::string& value) const;
  ConfigNode write(const std::string& value) const { return ConfigNode::text(value); }
};

struct Duration {  // seconds as a number with a unit: 600s, 20h, 10 min
  double min = 0;
  std::string expected() const;
  void read(const ConfigNode& node, double& seconds) const;
  ConfigNode write(double seconds) const { return ConfigNode::text(shortest(seconds) + "s"); }
};

// Money: {usd: 2.00}, one currency by its three small letters.
struct Money {
  std::string currency = "usd";
  double amount = 0;
  bool operator==(const Money&) const = default;
};
struct MoneyKind {
  bool above_zero = false;
  std::string expected() const;
  void read(const ConfigNode& node, Money& value) const;
  ConfigNode write(const Money& value) const;
};

struct ScheduleKind {  // a number, or [[from tokens, value], ...] from 0 on, ascending
  Real value;
  std::string expected() const;
  void read(const ConfigNode& node, Schedule& schedule) const;
  ConfigNode write(const Schedule& schedule) const;
};

struct BatchSizeKind {  // a schedule of whole numbers, or {start, end, over, increment}
  std::string expected() const;
  void read(const ConfigNode& node, BatchSize& value) const;
  ConfigNode write(const BatchSize& value) const;
};

// One of some words, each standing for a value of E. Words are a static array, which the kind only points at.
template <class E>
struct Word {
  std::string_view word;
  E value;
};

std::string choice_expected(const std::vector<std::string_view>& words);
// The word nearest to what was written is named when there is a near one.
[[noreturn]] void refuse_choice(const ConfigNode& node, const std::vector<std::string_view>& words);

template <class E>
struct Choice {
  std::span<const Word<E>> words;

  std::vector<std::string_view> names() const {
    std::vector<std::string_view> all;
    for (const Word<E>& w : words) all.push_back(w.word);
    return all;
  }
  std::string expected() const { return choice_expected(names()); }
  std::vector<std::string> choices() const {
    std::vector<std::string> all;
    for (const Word<E>& w : words) all.emplace_back(w.word);
    return all;
  }
  void read(const ConfigNode& node, E& value) const {
    if (node.is_scalar()) {
      for (const Word<E>& w : words) {
        if (w.word == node.scalar) {
          value = w.value;
          return;
        }
      }
    }
    refuse_choice(node, names());
  }
  std::string_view name(const E& value) const {
    for (const Word<E>& w : words) {
      if (w.value == value) return w.word;
    }
    CHECK(false, "a value without a word");
    return {};
  }
  ConfigNode write(const E& value) const { return ConfigNode::text(std::string(name(value))); }
};
template <class E, size_t N>
Choice(const std::array<Word<E>, N>&) -> Choice<E>;

// What K reads, or a word (auto, null) for nothing.
template <class K>
struct OrWord {
  K kind;
  std::string_view word = "auto";

  std::string expected() const { return fmt::format("{} or {}", word, kind.expected()); }
  std::vector<std::string> choices() const {
    std::vector<std::string> all = {std::string(word)};
    if constexpr (requires { kind.choices(); }) {
      for (std::string& other : kind.choices()) all.push_back(std::move(other));
    }
    return all;
  }
  bool is_word(const ConfigNode& node) const {
    return word == "null" ? node.is_null() : node.is_scalar() && node.scalar == word;
  }
  template <class T>
  void read(const ConfigNode& node, std::optional<T>& value) const {
    if (is_word(node)) {
      value.reset();
      return;
    }
    T given{};
    try {
      kind.read(node, given);
    } catch (BadValue& bad) {
      if (bad.expected == kind.expected()) bad.expected = expected();
      throw;
    }
    value = std::move(given);
  }
  template <class T>
  ConfigNode write(const std::optional<T>& value) const {
    if (value) return kind.write(*value);
    return word == "null" ? ConfigNode{} : ConfigNode::text(std::string(word));
  }
};
template <class K>
OrWord<K> or_auto(K kind) {
  return {kind, "auto"};
}
template <class K>
OrWord<K> or_null(K kind) {
  return {kind, "null"};
}

// A list of what K reads. A single value stands for a list of one; null is the empty list.
template <class K>
struct ListOf {
  K kind;
  std::string_view what = "a list";
  std::string expected() const { return fmt::format("{} of {}", what, kind.expected()); }
  template <class T>
  void read(const ConfigNode& node, std::vector<T>& values) const {
    std::vector<T> given;
    if (node.is_list()) {
      for (const ConfigNode& item : node.items) kind.read(item, given.emplace_back());
    } else if (!node.is_null()) {
      kind.read(node, given.emplace_back());
    }
    values = std::move(given);
  }
  template <class T>
  ConfigNode write(const std::vector<T>& values) const {
    ConfigNode list = ConfigNode::list();
    for (const T& value : values) list.items.push_back(kind.write(value));
    return list;
  }
};

// A list of exactly N of what K reads.
template <class K, size_t N>
struct ArrayOf {
  K kind;
  std::string expected() const { return fmt::format("a list of {} values, each {}", N, kind.expected()); }
  template <class T>
  void read(const ConfigNode& node, std::array<T, N>& values) const {
    if (!node.is_list() || node.items.size() != N) refuse(node, expected());
    for (size_t i = 0; i < N; ++i) {
      if (!node.partial || !node.items[i].is_null()) kind.read(node.items[i], values[i]);
    }
  }
  template <class T>
  ConfigNode write(const std::array<T, N>& values) const {
    ConfigNode list = ConfigNode::list();
    for (const T& value : values) list.items.push_back(kind.write(value));
    return list;
  }
};

// {NAME: WORD, ...} with free names.
struct WordMap {
  std::string_view what = "a map of names to words";
  std::string expected() const { return std::string(what); }
  void read(const ConfigNode& node, std::map<std::string, std::string>& value) const;
  ConfigNode write(const std::map<std::string, std::string>& value) const;
};

// How many single changes (insert, delete, replace, exchange neighbours) lead from one word to the other.
size_t edit_distance(std::string_view a, std::string_view b);
// The candidate with the smallest distance, the first of equals; empty when there is no candidate.
std::string_view nearest_of(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace tael
