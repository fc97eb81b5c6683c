// The GEMM family as its definition: one chain per element. Over any scalar; the link of the chain is an argument, so
// that float can be run with std::fma (what avx2 and avx512 must equal bit for bit) or with a product and a sum
// (portable), and a recording scalar with its own arithmetic.
#pragma once

#include "kernels/gemm.hpp"

namespace tael::reference {

// a * b + c, each operation rounded as the scalar does.
struct ProductThenSum {
  template <class A>
  A operator()(const A& a, const A& b, const A& c) const {
    const A product = a * b;
    return product + c;
  }
};

template <class T, class Link = ProductThenSum>
void gemm_forward(const GemmForward<T>& args, const Link& link = {}) {
  const int64_t pieces = args.y_PMN.dim[0], inner = args.x_MK.dim[1];
  for (int64_t p = 0; p < pieces; ++p)
    for (int64_t m = 0; m < args.y_PMN.dim[1]; ++m)
      for (int64_t n = 0; n < args.y_PMN.dim[2]; ++n) {
        acc_t<T> sum = args.accumulate ? args.y_PMN(p, m, n) : acc_t<T>(0);
        for (int64_t k = piece_begin(inner, pieces, p); k < piece_begin(inner, pieces, p + 1); ++k)
          sum = link(acc_t<T>(args.x_MK(m, k)), acc_t<T>(args.w_NK(n, k)), sum);
        args.y_PMN(p, m, n) = sum;
      }
}

template <class T, class Link = ProductThenSum>
void gemm_input_grad(const GemmInputGrad<T>& args, const Link& link = {}) {
  const int64_t pieces = args.dx_PMK.dim[0], inner = args.dy_MN.dim[1];
  for (int64_t p = 0; p < pieces; ++p)
    for (int64_t m = 0; m < args.dx_PMK.dim[1]; ++m)
      for (int64_t k = 0; k < args.dx_PMK.dim[2]; ++k) {
        acc_t<T> sum = args.accumulate ? args.dx_PMK(p, m, k) : acc_t<T>(0);
        for (int64_t n = piece_begin(inner, pieces, p); n < piece_begin(inner, pieces, p + 1); ++n)
          sum = link(acc_t<T>(args.dy_MN(m, n)), acc_t<T>(args.w_NK(n, k)), sum);
        args.dx_PMK(p, m, k) = sum;
      }
}

template <class T, class Link = ProductThenSum>
void gemm_weight_grad(const GemmWeightGrad<T>& args, const Link& link = {}) {
  for (int64_t n = 0; n < args.dw_NK.dim[0]; ++n)
    for (int64_t k = 0; k < args.dw_NK.dim[1]; ++k) {
      acc_t<T> sum = args.dw_NK(n, k);
      for (int64_t m = 0; m < args.dy_MN.dim[0]; ++m)
        sum = link(acc_t<T>(args.dy_MN(m, n)), acc_t<T>(args.x_MK(m, k)), sum);
      args.dw_NK(n, k) = sum;
    }
}

// Rows [begin, end) of every matrix of a cube.
template <class T>
Cube<T> cube_rows(Cube<T> c, int64_t p, int64_t begin, int64_t end) {
  return one_piece(rows(slice(c, p), begin, end));
}

// The matrix of expert e.
template <class T>
Mat<T> expert_matrix(Mat<T> first, int64_t stride, int64_t e) {
  return {first.data + e * stride, {first.dim[0], first.dim[1]}, first.pitch};
}

template <class T, class Link = ProductThenSum>
void grouped_gemm_forward(const GroupedGemmForward<T>& args, const Link& link = {}) {
  const int64_t pieces = args.y_PMN.dim[0], inner = args.x_MK.dim[1];
  for (int64_t e = 0; e + 1 < args.offset_E1.dim[0]; ++e)
    for (int64_t p = 0; p < pieces; ++p) {
      const int64_t begin = args.offset_E1(e), end = args.offset_E1(e + 1);
      const int64_t k0 = piece_begin(inner, pieces, p), k1 = piece_begin(inner, pieces, p + 1);
      gemm_forward<T>({cube_rows(args.y_PMN, p, begin, end), columns(rows(args.x_MK, begin, end), k0, k1),
                       columns(expert_matrix(args.w_NK, args.weight_stride, e), k0, k1), args.accumulate},
                      link);
    }
}

template <class T, class Link = ProductThenSum>
void grouped_gemm_input_grad(const GroupedGemmInputGrad<T>& args, const Link& link = {}) {
  const int64_t pieces = args.dx_PMK.dim[0], inner = args.dy_MN.dim[1];
  for (int64_t e = 0; e + 1 < args.offset_E1.dim[0]; ++e)
    for (int64_t p = 0; p < pieces; ++p) {
      const int64_t begin = args.offset_E1(e), end = args.offset_E1(e + 1);
      const int64_t n0 = piece_begin(inner, pieces, p), n1 = piece_begin(inner, pieces, p + 1);
      gemm_input_grad<T>({cube_rows(args.dx_PMK, p, begin, end), columns(rows(args.dy_MN, begin, end), n0, n1),
                          rows(expert_matrix(args.w_NK, args.weight_stride, e), n0, n1), args.accumulate},
                         link);
    }
}

template <class T, class Link = ProductThenSum>
void grouped_gemm_weight_grad(const GroupedGemmWeightGrad<T>& args, const Link& link = {}) {
  for (int64_t e = 0; e + 1 < args.offset_E1.dim[0]; ++e) {
    const int64_t begin = args.offset_E1(e), end = args.offset_E1(e + 1);
    gemm_weight_grad<T>(
        {expert_matrix(args.dw_NK, args.weight_stride, e), rows(args.dy_MN, begin, end), rows(args.x_MK, begin, end)},
        link);
  }
}

}  // namespace tael::reference
