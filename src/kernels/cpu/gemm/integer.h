#pragma once

#include "kernels/cpu/gemm/blocked.h"
#include "kernels/gemm.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

// The product of integer matrices, modulo 2^bits: a strip of a row of C at a time, row by row of B, so that the
// compiler can use vectors where B's rows are contiguous.
template <class T>
void integer_product(const GemmArgs& g) {
  // Unsigned and at least as wide as int: wraps around without undefined overflow.
  using U = std::make_unsigned_t<std::conditional_t<(sizeof(T) < 4), int32_t, T>>;
  constexpr int64_t kStrip = 256;
  const U alpha = static_cast<U>(static_cast<int64_t>(g.alpha)), beta = static_cast<U>(static_cast<int64_t>(g.beta));
  const T *const bias_n = static_cast<const T*>(g.bias_n), *const bias_m = static_cast<const T*>(g.bias_m);
  if (g.m <= 0 || g.n <= 0 || g.batch <= 0 || g.outer <= 0) return;
  const int64_t strips = ceil_div(g.n, kStrip);
  const int64_t grain = max_of(1, 16384 / max_of(1, g.k * min_of(g.n, kStrip)));
  parallel_for(0, g.outer * g.batch * g.m * strips, grain, [&](int64_t begin, int64_t end) {
    U sum[kStrip];
    for (int64_t u = begin; u < end; ++u) {
      const int64_t o = u / (g.m * strips) / g.batch, t = u / (g.m * strips) % g.batch, i = u / strips % g.m,
                    j0 = u % strips * kStrip;
      const int64_t n = min_of(kStrip, g.n - j0);
      const T* const a = static_cast<const T*>(g.a) + o * g.a_outer + t * g.a_batch + i * g.a_row;
      const T* const b = static_cast<const T*>(g.b) + o * g.b_outer + t * g.b_batch + j0 * g.b_col;
      T* const c = static_cast<T*>(g.c) + o * g.c_outer + t * g.c_batch + i * g.c_row + j0 * g.c_col;
      for (int64_t j = 0; j < n; ++j) sum[j] = 0;
      if (g.b_row == 1 && g.b_col != 1) {
        for (int64_t j = 0; j < n; ++j) {
          const T* const column = b + j * g.b_col;
          for (int64_t p = 0; p < g.k; ++p) sum[j] += static_cast<U>(a[p * g.a_col]) * static_cast<U>(column[p]);
        }
      } else {
        for (int64_t p = 0; p < g.k; ++p) {
          const U x = static_cast<U>(a[p * g.a_col]);
          const T* const row = b + p * g.b_row;
          if (g.b_col == 1) {
            for (int64_t j = 0; j < n; ++j) sum[j] += x * static_cast<U>(row[j]);
          } else {
            for (int64_t j = 0; j < n; ++j) sum[j] += x * static_cast<U>(row[j * g.b_col]);
          }
        }
      }
      for (int64_t j = 0; j < n; ++j) {
        U x = alpha * sum[j];
        if (beta != 0) x += beta * static_cast<U>(c[j * g.c_col]);
        if (bias_n != nullptr) x += static_cast<U>(bias_n[j0 + j]);
        if (bias_m != nullptr) x += static_cast<U>(bias_m[i]);
        const T y = static_cast<T>(x);
        c[j * g.c_col] = g.activation == GemmActivation::relu && std::is_signed_v<T> && y < T(0) ? T(0) : y;
      }
    }
  });
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
