#pragma once

// Small matrix products on operands that lie in the cache as they are: no packing, for the tiles of attention. Include
// after simd.h, in files under isa/.

#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// C (m, n) = start + sum over t < k of W(r, t) * X(t, :), where
//   W(r, t) is w[r * w_row + t * w_col], read one value at a time (one of the two strides must be 1),
//   X(t, :) is the row x + t * x_row, read in registers,
//   start is 0, or with `add` C itself.
template <class T>
struct TileProduct {
  int64_t m, n, k;
  const T* w;
  int64_t w_row, w_col;
  const T* x;
  int64_t x_row;
  T* c;
  int64_t c_row;
  bool add = false;
};

namespace tile_detail {

#if defined(__AVX512F__)
inline constexpr int kRows = 8;  // 8 x 3 sums, 3 of X and one of W fit 32 registers
inline constexpr int kWidth = 3;
inline constexpr int kTallRows = 16;  // beside one register of X: eight sums alone wait for each other
#else
inline constexpr int kRows = 4;  // 16 registers: 4 x 2 sums
inline constexpr int kWidth = 2;
inline constexpr int kTallRows = 8;
#endif

// Rows r0 .. r0+R, columns j0 .. j0 + V registers, of which the last holds `last` columns.
template <int R, int V, bool kWholeRows, bool kPartial, class T>
inline void block(const TileProduct<T>& p, int64_t r0, int64_t j0, int64_t last) {
  Vec<T> sum[R][V];
  const auto load_x = [&](const T* from, int v) __attribute__((always_inline)) {
    return kPartial && v == V - 1 ? load_n(from + v * kLanes<T>, last) : load(from + v * kLanes<T>);
  };
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      sum[r][v] = Vec<T>(T(0));
      if (p.add) sum[r][v] = load_x(p.c + (r0 + r) * p.c_row + j0, v);
    }
  }
  // The stride that is 1 is a constant to the compiler.
  const int64_t w_row = kWholeRows ? p.w_row : 1, w_col = kWholeRows ? 1 : p.w_col;
  const T* w = p.w + r0 * w_row;
  const T* x = p.x + j0;
  const int64_t k = p.k, x_row = p.x_row;
  for (int64_t t = 0; t < k; ++t, w += w_col, x += x_row) {
    Vec<T> xs[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) xs[v] = load_x(x, v);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> a = w[r * w_row];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = fma(a, xs[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Vec<T> s = sum[r][v];
      T* to = p.c + (r0 + r) * p.c_row + j0 + v * kLanes<T>;
      if (kPartial && v == V - 1)
        store_n(to, last, s);
      else
        store(to, s);
    }
  }
}

template <int V, bool kWholeRows, bool kPartial, class T>
inline void columns(const TileProduct<T>& p, int64_t j0, int64_t last) {
  int64_t r = 0;
  if constexpr (V == 1) {
    for (; r + kTallRows <= p.m; r += kTallRows) block<kTallRows, V, kWholeRows, kPartial>(p, r, j0, last);
  }
  for (; r + kRows <= p.m; r += kRows) block<kRows, V, kWholeRows, kPartial>(p, r, j0, last);
  if constexpr (kRows > 4) {
    if (r + 4 <= p.m) {
      block<4, V, kWholeRows, kPartial>(p, r, j0, last);
      r += 4;
    }
  }
  if (r + 2 <= p.m) {
    block<2, V, kWholeRows, kPartial>(p, r, j0, last);
    r += 2;
  }
  if (r < p.m) block<1, V, kWholeRows, kPartial>(p, r, j0, last);
}

template <bool kWholeRows, class T>
inline void all_columns(const TileProduct<T>& p) {
  const int64_t whole = p.n / kLanes<T>, rest = p.n % kLanes<T>;
  int64_t v = 0;
  if constexpr (kWidth == 3) {
    // Threes only where no single one is left over: 4 = 2 + 2.
    for (; whole - v == 3 || whole - v > 4; v += 3) columns<3, kWholeRows, false>(p, v * kLanes<T>, 0);
  }
  for (; v + 2 <= whole; v += 2) columns<2, kWholeRows, false>(p, v * kLanes<T>, 0);
  if (v < whole && rest) return columns<2, kWholeRows, true>(p, v * kLanes<T>, rest);
  if (v < whole) columns<1, kWholeRows, false>(p, v * kLanes<T>, 0);
  if (rest) columns<1, kWholeRows, true>(p, whole * kLanes<T>, rest);
}

}  // namespace tile_detail

template <class T>
inline void tile_product(const TileProduct<T>& p) {
  if (p.w_row == 1 && p.w_col != 1)
    tile_detail::all_columns<false>(p);
  else
    tile_detail::all_columns<true>(p);
}

// ---- transposing --------------------------------------------------------------------------------------------------

namespace tile_detail {
// Exchanges blocks of B lanes between a and b: one stage of a square transpose.
template <int B, class T>
TENSORGRAD_INLINE void exchange(Vec<T>& a, Vec<T>& b) {
  constexpr int N = kLanes<T>;
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    const Raw<T> x = __builtin_shufflevector(a.v, b.v, ((I / B) % 2 == 0 ? I : I - B + N)...);
    const Raw<T> y = __builtin_shufflevector(a.v, b.v, ((I / B) % 2 == 0 ? I + B : I + N)...);
    a.v = x;
    b.v = y;
  }
  (std::make_integer_sequence<int, N>{});
}
template <int B, class T>
TENSORGRAD_INLINE void stages(Vec<T>* rows) {
  if constexpr (B < kLanes<T>) {
#pragma GCC unroll 16
    for (int r = 0; r < kLanes<T>; ++r) {
      if ((r / B) % 2 == 0) exchange<B>(rows[r], rows[r + B]);
    }
    stages<2 * B>(rows);
  }
}
}  // namespace tile_detail

// to[j * to_row + i] = from[i * from_row + j] * factor for i < rows, j < columns; the places up to the next multiple of
// kLanes rows are zeroed in each row of `to`.
template <class T>
inline void transpose_tile(const T* from, int64_t from_row, int64_t rows, int64_t columns, T factor, T* to,
                           int64_t to_row) {
  constexpr int N = kLanes<T>;
  for (int64_t i = 0; i < rows; i += N) {
    const int64_t height = rows - i < N ? rows - i : N;
    for (int64_t j = 0; j < columns; j += N) {
      const int64_t width = columns - j < N ? columns - j : N;
      Vec<T> square[N];
      const T* at = from + i * from_row + j;
      if (height == N && width == N) {
#pragma GCC unroll 16
        for (int r = 0; r < N; ++r) square[r] = load(at + r * from_row) * factor;
      } else {
        for (int r = 0; r < N; ++r) square[r] = r < height ? load_n(at + r * from_row, width) * factor : Vec<T>(T(0));
      }
      tile_detail::stages<1>(square);
      if (width == N) {
#pragma GCC unroll 16
        for (int c = 0; c < N; ++c) store(to + (j + c) * to_row + i, square[c]);
      } else {
        for (int64_t c = 0; c < width; ++c) store(to + (j + c) * to_row + i, square[c]);
      }
    }
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
