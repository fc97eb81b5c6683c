// View: a non-owning window on numbers in memory. Rank one to three, row-major, contiguous but for the pitch of a row.
//
// Shapes are written in names: x_TD is [T, D], letters in docs/letters.md. Owner of the memory is an Arena (or a test's
// std::vector). View<T> converts to View<const T>. Everything here is forced inline: these functions are compiled
// under several instruction sets (kernels/isa.hpp), and an out-of-line copy must not leak from one to another.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/check.hpp"

#define TAEL_INLINE [[gnu::always_inline]] inline

namespace tael {

template <class T, int R>
struct View {
  static_assert(R >= 1 && R <= 3, "rank one to three");
  T* data = nullptr;
  int64_t dim[R] = {};
  int64_t pitch = 0;  // elements from one row (the last dimension) to the next; rank one: unused

  TAEL_INLINE int64_t rows() const {  // of the matrix that the leading dimensions make
    if constexpr (R == 1) return 1;
    if constexpr (R == 2) return dim[0];
    if constexpr (R == 3) return dim[0] * dim[1];
  }
  TAEL_INLINE int64_t cols() const { return dim[R - 1]; }
  TAEL_INLINE int64_t size() const { return rows() * cols(); }
  TAEL_INLINE bool contiguous() const { return R == 1 || pitch == dim[R - 1]; }
  TAEL_INLINE explicit operator bool() const { return data != nullptr; }

  TAEL_INLINE T& operator()(int64_t i) const requires(R == 1) { return data[i]; }
  TAEL_INLINE T& operator()(int64_t i, int64_t j) const requires(R == 2) { return data[i * pitch + j]; }
  TAEL_INLINE T& operator()(int64_t i, int64_t j, int64_t k) const requires(R == 3) {
    return data[(i * dim[1] + j) * pitch + k];
  }
  TAEL_INLINE T* row(int64_t i) const  // of the matrix that the leading dimensions make
      requires(R >= 2) {
    return data + i * pitch;
  }
  template <class U>
  requires(std::is_same_v<const T, const U>&& std::is_const_v<U> && !std::is_const_v<T>) TAEL_INLINE
  operator View<U, R>() const {
    View<U, R> v;
    v.data = data;
    for (int r = 0; r < R; ++r) v.dim[r] = dim[r];
    v.pitch = pitch;
    return v;
  }
};

template <class T>
using Vec = View<T, 1>;
template <class T>
using Mat = View<T, 2>;
template <class T>
using Cube = View<T, 3>;

template <class T>
TAEL_INLINE Vec<T> vec(T* data, int64_t n) {
  return {data, {n}, n};
}
template <class T>
TAEL_INLINE Mat<T> mat(T* data, int64_t rows, int64_t cols) {
  return {data, {rows, cols}, cols};
}
template <class T>
TAEL_INLINE Mat<T> mat(T* data, int64_t rows, int64_t cols, int64_t pitch) {
  return {data, {rows, cols}, pitch};
}
template <class T>
TAEL_INLINE Cube<T> cube(T* data, int64_t a, int64_t b, int64_t c) {
  return {data, {a, b, c}, c};
}
template <class T, int R>
TAEL_INLINE Vec<T> flat(View<T, R> v) {
  return vec(v.data, v.size());
}
// Rows [begin, end) of a matrix.
template <class T>
TAEL_INLINE Mat<T> rows(Mat<T> m, int64_t begin, int64_t end) {
  return {m.data + begin * m.pitch, {end - begin, m.dim[1]}, m.pitch};
}
// Columns [begin, end) of a matrix.
template <class T>
TAEL_INLINE Mat<T> columns(Mat<T> m, int64_t begin, int64_t end) {
  return {m.data + begin, {m.dim[0], end - begin}, m.pitch};
}
// Matrix p of a cube.
template <class T>
TAEL_INLINE Mat<T> slice(Cube<T> c, int64_t p) {
  return {c.data + p * c.dim[1] * c.pitch, {c.dim[1], c.dim[2]}, c.pitch};
}
// A matrix as the only piece of a cube.
template <class T>
TAEL_INLINE Cube<T> one_piece(Mat<T> m) {
  return {m.data, {1, m.dim[0], m.dim[1]}, m.pitch};
}

}  // namespace tael
