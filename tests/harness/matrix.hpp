// A matrix of a test with room between its rows and around it, filled with a mark: kernels must honour the pitch and
// write nothing outside.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "base/view.hpp"

namespace tael::testing {

template <class T>
class Matrix {
 public:
  static constexpr int64_t kMargin = 19;  // no multiple of a vector

  Matrix(int64_t rows, int64_t cols, int64_t gap = 3)
      : rows_(rows), cols_(cols), pitch_(cols + gap), data_(static_cast<size_t>(rows * pitch_ + 2 * kMargin), mark()) {}
  Matrix(int64_t rows, int64_t cols, const std::vector<T>& values, int64_t gap = 3) : Matrix(rows, cols, gap) {
    CHECK(static_cast<int64_t>(values.size()) == rows * cols);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) mat()(i, j) = values[static_cast<size_t>(i * cols + j)];
  }

  Mat<T> mat() { return tael::mat(data_.data() + kMargin, rows_, cols_, pitch_); }
  Mat<const T> mat() const { return tael::mat(data_.data() + kMargin, rows_, cols_, pitch_); }

  std::vector<T> values() const {
    std::vector<T> out;
    for (int64_t i = 0; i < rows_; ++i) out.insert(out.end(), mat().row(i), mat().row(i) + cols_);
    return out;
  }
  // Nothing outside the matrix was written.
  bool intact() const {
    for (int64_t i = 0; i < static_cast<int64_t>(data_.size()); ++i) {
      const int64_t k = i - kMargin;
      const bool inside = k >= 0 && k < rows_ * pitch_ && k % pitch_ < cols_;
      if (!inside && data_[static_cast<size_t>(i)] != mark()) return false;
    }
    return true;
  }

 private:
  static constexpr T mark() { return static_cast<T>(-12345); }
  int64_t rows_, cols_, pitch_;
  std::vector<T> data_;
};

inline std::vector<double> to_double(const std::vector<float>& x) { return {x.begin(), x.end()}; }

}  // namespace tael::testing
