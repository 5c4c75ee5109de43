#pragma once

// Batches of products of a few elements: one value after the other. Setting up a tile costs more than it computes, and
// a value read by its strides need not be packed.

#include "kernels/cpu/gemm/blocked.h"
#include "kernels/gemm.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

inline constexpr int64_t kTinyWork = 32;  // multiply-adds at most

// Whether each product of the batch is computed value by value.
template <class Format>
bool fits_tiny(const GemmArgs& g) {
  if (Format::kPlain && g.m * g.n == 1 && g.k > 4 && g.a_col == 1 && g.b_row == 1) return false;  // batch_of_dots
  return g.m * g.n * g.k <= kTinyWork && g.k > 0 && g.pack_b == nullptr && g.bias_m == nullptr && g.bias_n == nullptr &&
         g.activation == GemmActivation::none && g.before_activation == nullptr;
}

// The sum of k products of values that lie x_step and y_step apart, k at least 1.
template <class T, class Format, class In>
TENSORGRAD_INLINE T tiny_sum(const In* x, int64_t x_step, const In* y, int64_t y_step, int64_t k) {
  T sum = Format::template read_one<T>(x) * Format::template read_one<T>(y);
  for (int64_t p = 1; p < k; ++p) {
    x += x_step, y += y_step;
    sum += Format::template read_one<T>(x) * Format::template read_one<T>(y);
  }
  return sum;
}

// c = alpha * a . b + beta * c.
template <class T, class Format, class In>
TENSORGRAD_INLINE void tiny_product(const GemmArgs& g, const In* a, const In* b, In* c, T alpha, T beta) {
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) {
      T x = alpha * tiny_sum<T, Format>(a + i * g.a_row, g.a_col, b + j * g.b_col, g.b_row, g.k);
      In* const to = c + i * g.c_row + j * g.c_col;
      if (beta != T(0)) x += beta * Format::template read_one<T>(to);
      Format::template write_one<T>(to, x);
    }
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
