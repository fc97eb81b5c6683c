// Exact gradients from forward references. A Recorded number is a double that remembers, on a Tape, how it was
// computed; run through a reference template of kernels/ or model/ it yields that template's own derivative, with no
// second derivation by hand and no step size to choose.
//
//   Tape tape;
//   Recorded x = tape.variable(2.0);
//   Recorded y = exp(x) * x;
//   tape.gradient({&y, 1})[x] == exp(2) * 3
//
// Numbers made from plain doubles are constants. Comparisons look at values only, so a choice (top-k, maximum) is held
// fixed. Maximum sends the derivative to the larger operand, the first of equals.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/check.hpp"

namespace tael::testing {

class Tape;

struct Recorded {
  double value = 0;
  int64_t node = -1;  // -1: a constant
  Tape* tape = nullptr;

  Recorded() = default;
  Recorded(double constant) : value(constant) {}  // NOLINT(google-explicit-constructor): constants mix freely
  Recorded(double v, int64_t n, Tape* t) : value(v), node(n), tape(t) {}
  explicit operator double() const { return value; }
};

// Derivatives of one scalar by everything on the tape.
class Gradient {
 public:
  explicit Gradient(std::vector<double> adjoint) : adjoint_(std::move(adjoint)) {}
  double operator[](const Recorded& x) const { return x.node < 0 ? 0.0 : adjoint_[static_cast<size_t>(x.node)]; }

 private:
  std::vector<double> adjoint_;
};

class Tape {
 public:
  Recorded variable(double value) { return record(value, {}, 0, {}, 0); }

  Recorded record(double value, const Recorded& a, double da, const Recorded& b, double db) {
    nodes_.push_back({a.node, b.node, da, db});
    return {value, static_cast<int64_t>(nodes_.size()) - 1, this};
  }

  // The derivative of sum over i of seeds[i] * outputs[i]; without seeds, of the sum of the outputs.
  Gradient gradient(std::span<const Recorded> outputs, std::span<const double> seeds = {}) const {
    CHECK(seeds.empty() || seeds.size() == outputs.size());
    std::vector<double> adjoint(nodes_.size(), 0.0);
    for (size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i].node >= 0) adjoint[static_cast<size_t>(outputs[i].node)] += seeds.empty() ? 1.0 : seeds[i];
    for (size_t n = nodes_.size(); n-- > 0;) {
      const Node& node = nodes_[n];
      if (adjoint[n] == 0) continue;
      if (node.a >= 0) adjoint[static_cast<size_t>(node.a)] += adjoint[n] * node.da;
      if (node.b >= 0) adjoint[static_cast<size_t>(node.b)] += adjoint[n] * node.db;
    }
    return Gradient(std::move(adjoint));
  }

  size_t size() const { return nodes_.size(); }

 private:
  struct Node {
    int64_t a, b;
    double da, db;
  };
  std::vector<Node> nodes_;
};

inline Recorded record(double value, const Recorded& a, double da, const Recorded& b = {}, double db = 0) {
  Tape* tape = a.tape != nullptr ? a.tape : b.tape;
  return tape == nullptr ? Recorded(value) : tape->record(value, a, da, b, db);
}

inline Recorded operator+(const Recorded& a, const Recorded& b) { return record(a.value + b.value, a, 1, b, 1); }
inline Recorded operator-(const Recorded& a, const Recorded& b) { return record(a.value - b.value, a, 1, b, -1); }
inline Recorded operator*(const Recorded& a, const Recorded& b) {
  return record(a.value * b.value, a, b.value, b, a.value);
}
inline Recorded operator/(const Recorded& a, const Recorded& b) {
  return record(a.value / b.value, a, 1 / b.value, b, -a.value / (b.value * b.value));
}
inline Recorded operator-(const Recorded& a) { return record(-a.value, a, -1); }
inline Recorded operator+(const Recorded& a) { return a; }
inline Recorded& operator+=(Recorded& a, const Recorded& b) { return a = a + b; }
inline Recorded& operator-=(Recorded& a, const Recorded& b) { return a = a - b; }
inline Recorded& operator*=(Recorded& a, const Recorded& b) { return a = a * b; }
inline Recorded& operator/=(Recorded& a, const Recorded& b) { return a = a / b; }

inline bool operator<(const Recorded& a, const Recorded& b) { return a.value < b.value; }
inline bool operator>(const Recorded& a, const Recorded& b) { return a.value > b.value; }
inline bool operator<=(const Recorded& a, const Recorded& b) { return a.value <= b.value; }
inline bool operator>=(const Recorded& a, const Recorded& b) { return a.value >= b.value; }
inline bool operator==(const Recorded& a, const Recorded& b) { return a.value == b.value; }

inline Recorded exp(const Recorded& a) { return record(std::exp(a.value), a, std::exp(a.value)); }
inline Recorded log(const Recorded& a) { return record(std::log(a.value), a, 1 / a.value); }
inline Recorded sqrt(const Recorded& a) { return record(std::sqrt(a.value), a, 0.5 / std::sqrt(a.value)); }
inline Recorded sin(const Recorded& a) { return record(std::sin(a.value), a, std::cos(a.value)); }
inline Recorded cos(const Recorded& a) { return record(std::cos(a.value), a, -std::sin(a.value)); }
inline Recorded max(const Recorded& a, const Recorded& b) { return a < b ? b : a; }
inline Recorded min(const Recorded& a, const Recorded& b) { return b < a ? b : a; }

// Each value as a variable of the tape.
template <class T>
std::vector<Recorded> variables(Tape& tape, const std::vector<T>& values) {
  std::vector<Recorded> out;
  out.reserve(values.size());
  for (const T& v : values) out.push_back(tape.variable(static_cast<double>(v)));
  return out;
}

// Each value as a constant.
template <class T>
std::vector<Recorded> constants(const std::vector<T>& values) {
  return std::vector<Recorded>(values.begin(), values.end());
}

inline std::vector<double> gradients(const Gradient& gradient, const std::vector<Recorded>& x) {
  std::vector<double> out;
  out.reserve(x.size());
  for (const Recorded& v : x) out.push_back(gradient[v]);
  return out;
}

}  // namespace tael::testing

template <>
struct std::numeric_limits<tael::testing::Recorded> : std::numeric_limits<double> {};
