#pragma once

// Products with few columns on the vector side: matrix times vector, dot products. All of them read the large operand
// once and in place; memory is the limit.

#include "kernels/cpu/gemm/short_pairs.h"
#include "kernels/cpu/gemm/small.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

inline constexpr int kFew = 8;  // columns that the dot-product form handles
// Rows that it takes at once with N columns: as many sums as there are registers.
template <int N>
inline constexpr int kDotRows = static_cast<int>(max_of(1, min_of(4, (kVectorBytes == 64 ? 24 : 12) / N)));

// One result: alpha * sum + beta * c + bias, relu. For results that are written one by one.
template <class T, class Format>
TENSORGRAD_INLINE void put_one(const Product<T, Format>& P, int64_t i, int64_t j, T sum) {
  auto* const c = P.c + i * P.c_s + j * P.c_v;
  T x = P.alpha * sum;
  if (P.beta != T(0)) x += P.beta * Format::template read_one<T>(c);
  if (P.bias_v != nullptr) x += Format::template read_one<T>(P.bias_v + j);
  if (P.bias_s != nullptr) x += Format::template read_one<T>(P.bias_s + i);
  if (P.before != nullptr) Format::template write_n<T>(P.before + (c - P.c), 1, Vec<T>(x));
  if (P.activation > GemmActivation::relu && !Product<T, Format>::kPlain) {  // of the rounded value
    Format::template write_n<T>(c, 1, Vec<T>(x));
    x = Format::template read_one<T>(c);
  }
  if (P.activation != GemmActivation::none) x = activate(P.activation, Vec<T>(x))[0];
  Format::template write_n<T>(c, 1, Vec<T>(x));
}

// Lane i of the result is the sum of rows[i]'s lanes. Each step puts half of every row beside half of another one and
// adds the other halves, as transpose() moves them: a third of the instructions of one sum after the other.
template <class T>
TENSORGRAD_INLINE Vec<T> sums_of_rows(const Vec<T>* rows) {
  constexpr int L = kLanes<T>;
  const auto zip_and_add = [&]<int... I>(Vec<T> x, Vec<T> y, std::integer_sequence<int, I...>)
      __attribute__((always_inline)) {
    return Vec<T>(__builtin_shufflevector(x.v, y.v, (I / 2 + (I % 2) * L)...)) +
           Vec<T>(__builtin_shufflevector(x.v, y.v, (L / 2 + I / 2 + (I % 2) * L)...));
  };
  Vec<T> at[L];
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) at[i] = rows[i];
#pragma GCC unroll 4
  for (int half = L / 2; half >= 1; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) at[i] = zip_and_add(at[i], at[i + half], std::make_integer_sequence<int, L>{});
  }
  return at[0];
}

// R rows of s, which lie along k, times N columns x (each a contiguous vector of k, `x_room` apart): the lanes of
// sums[n * kLanes + r] add up to the product.
template <class T, class Format, int R, int N>
void dot_rows(const Product<T, Format>& P, int64_t i, const T* x, int64_t x_room, Vec<T>* sums) {
  constexpr int64_t L = kLanes<T>;
  constexpr int U = R * N <= 4 ? 4 : R * N <= 8 ? 2 : 1;  // independent sums for each result: hides the latency
  Vec<T> acc[U][R][N];
#pragma GCC unroll 4
  for (int u = 0; u < U; ++u) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) acc[u][r][n] = Vec<T>(T(0));
    }
  }
  const auto* const s = P.s + i * P.s_row;
  int64_t p = 0;
  for (; p + U * L <= P.k; p += U * L) {
#pragma GCC unroll 4
    for (int u = 0; u < U; ++u) {
      Vec<T> row[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) row[r] = Format::template read<T>(s + r * P.s_row + p + u * L);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        const Vec<T> column = load(x + n * x_room + p + u * L);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) acc[u][r][n] = fma(row[r], column, acc[u][r][n]);
      }
    }
  }
  for (; p < P.k; p += L) {
    const int64_t left = min_of(L, P.k - p);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const Vec<T> column = load_n(x + n * x_room + p, left);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        acc[0][r][n] = fma(Format::template read_n<T>(s + r * P.s_row + p, left), column, acc[0][r][n]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      Vec<T> sum = acc[0][r][n];
#pragma GCC unroll 4
      for (int u = 1; u < U; ++u) sum = sum + acc[u][r][n];
      sums[n * L + r] = sum;
    }
  }
}

// kLanes rows of s of K elements that follow each other in memory, K a power of two of at most half a vector, times x:
// K vectors of terms, of which neighbours are added until one is left.
template <class T, int K>
TENSORGRAD_INLINE Vec<T> packed_dots(const T* s, const T* x) {
  constexpr int L = kLanes<T>;
  T pattern[L];
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) pattern[i] = x[i % K];
  const Vec<T> factor = load(pattern);
  Vec<T> at[K];
#pragma GCC unroll 8
  for (int q = 0; q < K; ++q) at[q] = load(s + q * L) * factor;
  const auto add_neighbours = [&]<int... I>(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>)
      __attribute__((always_inline)) {
    return Vec<T>(__builtin_shufflevector(a.v, b.v, (2 * I)...)) +
           Vec<T>(__builtin_shufflevector(a.v, b.v, (2 * I + 1)...));
  };
#pragma GCC unroll 4
  for (int half = K / 2; half >= 1; half /= 2) {
#pragma GCC unroll 8
    for (int q = 0; q < half; ++q)
      at[q] = add_neighbours(at[2 * q], at[2 * q + 1], std::make_integer_sequence<int, L>{});
  }
  return at[0];
}

// `rows` rows from row i on, at most kLanes, times N columns. `turned` is P turned over: the results of a column are
// finished as a row.
template <class T, class Format, int N>
void dot_block(const Product<T, Format>& P, const Product<T, Format>& turned, int64_t i, int64_t rows, const T* x,
               int64_t x_room) {
  constexpr int64_t L = kLanes<T>;
  constexpr int R = kDotRows<N>;
  if constexpr (Product<T, Format>::kPlain && L >= 8) {
    if (rows == L && P.s_row == P.k && (P.k == 2 || P.k == 4)) {
      T packed[N * L];
      const T* const s = P.s + i * P.s_row;
      for (int n = 0; n < N; ++n) {
        const T* const column = x + n * x_room;
        store(packed + n * L, P.k == 2 ? packed_dots<T, 2>(s, column) : packed_dots<T, 4>(s, column));
      }
      return finish_block(turned, packed, L, 0, N, i, rows, true, true);
    }
  }
  Vec<T> sums[N * L];
  if (rows > L) __builtin_unreachable();  // or the compiler warns of what lies behind `sums`
  int64_t r = 0;
  if (P.k <= L) {
    Vec<T> column[N];
    for (int n = 0; n < N; ++n) column[n] = load_n(x + n * x_room, P.k);
    for (; r < rows; ++r) {
      const Vec<T> row = Format::template read_n<T>(P.s + (i + r) * P.s_row, P.k);
      for (int n = 0; n < N; ++n) sums[n * L + r] = row * column[n];
    }
  } else {
    for (; r + R <= rows; r += R) dot_rows<T, Format, R, N>(P, i + r, x, x_room, sums + r);
    for (; r < rows; ++r) dot_rows<T, Format, 1, N>(P, i + r, x, x_room, sums + r);
  }
  if (rows * N <= 4) {
    for (r = 0; r < rows; ++r) {
      for (int n = 0; n < N; ++n) put_one(P, i + r, n, reduce_add(sums[n * L + r]));
    }
    return;
  }
  T results[N * L];
  for (int n = 0; n < N; ++n) {
    for (r = rows; r < L; ++r) sums[n * L + r] = Vec<T>(T(0));
    store(results + n * L, sums_of_rows(sums + n * L));
  }
  finish_block(turned, results, L, 0, N, i, rows, true, true);
}

// One row of s times the only column, both 16-bit floats in place.
template <class T, class Format>
void dot_in_place(const Product<T, Format>& P, int64_t i) {
  constexpr int64_t L = kLanes<T>, U = 4;
  const auto* const s = P.s + i * P.s_row;
  Vec<T> acc[U] = {Vec<T>(T(0)), Vec<T>(T(0)), Vec<T>(T(0)), Vec<T>(T(0))};
  int64_t p = 0;
  for (; p + U * L <= P.k; p += U * L) {
#pragma GCC unroll 4
    for (int64_t u = 0; u < U; ++u) {
      acc[u] = fma(Format::template read<T>(s + p + u * L), Format::template read<T>(P.v + p + u * L), acc[u]);
    }
  }
  for (; p < P.k; p += L) {
    const int64_t left = min_of(L, P.k - p);
    acc[0] = fma(Format::template read_n<T>(s + p, left), Format::template read_n<T>(P.v + p, left), acc[0]);
  }
  put_one(P, i, 0, reduce_add((acc[0] + acc[1]) + (acc[2] + acc[3])));
}

// s (rows along k) times at most kFew columns.
template <class T, class Format, int N>
void few_columns(const Product<T, Format>& P, const Product<T, Format>& turned) {
  constexpr int64_t L = kLanes<T>;
  const int64_t x_room = round_up(P.k, 16);
  const T* x = nullptr;
  if constexpr (Product<T, Format>::kPlain) {
    if (P.v_k == 1 && (N == 1 || P.v_col >= 0)) x = P.v;
  } else if constexpr (N == 1) {
    if (P.v_k == 1 && P.ms <= 2) {  // converting the column beforehand takes as long as the sum
      for (int64_t i = 0; i < P.ms; ++i) dot_in_place(P, i);
      return;
    }
  }
  const int64_t x_step = x != nullptr ? P.v_col : x_room;
  if (x == nullptr) {  // gather the columns
    T* const copy = scratch_of<T>(ScratchSlot::gemm_v, N * x_room);
    for (int64_t n = 0; n < N; ++n) {
      const auto* const from = P.v + n * P.v_col;
      T* const to = copy + n * x_room;
      for (int64_t p = 0; p < P.k; p += L) {
        const int64_t left = min_of(L, P.k - p);
        store_n(to + p, left, read_spaced<T, Format>(from + p * P.v_k, P.v_k, left));
      }
    }
    x = copy;
  }
  const int64_t grain = round_up(max_of(1, kWorthThreads / 8 / max_of(1, P.k)), L);
  parallel_for(0, P.ms, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += L) dot_block<T, Format, N>(P, turned, i, min_of(L, end - i), x, x_step);
  });
}

// A few columns that lie along k, as the rows of s do: nothing has to be moved.
template <class T, class Format>
TENSORGRAD_INLINE bool dots_of_columns(const Product<T, Format>& P) {
  return P.nv <= kFew && P.s_k == 1 && P.v_k == 1 && P.ms > kMaxRows;
}

// A batch of dot products: each row of P times its own column, `v_row` from the one before.
template <class T>
void batch_of_dots(const Product<T, PlainFormat>& P, const Product<T, PlainFormat>& turned, int64_t v_row) {
  constexpr int64_t L = kLanes<T>;
  const int64_t grain = round_up(max_of(1, kWorthThreads / 4 / max_of(L, P.k)), L);
  parallel_for(0, P.ms, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += L) {
      const int64_t rows = min_of(L, end - i);
      Vec<T> sums[L];
      for (int64_t r = 0; r < L; ++r) {
        Vec<T> a(T(0)), b(T(0));
        if (r < rows) {
          const T *const s = P.s + (i + r) * P.s_row, *const v = P.v + (i + r) * v_row;
          int64_t p = 0;
          for (; p + 2 * L <= P.k; p += 2 * L) {
            a = fma(load(s + p), load(v + p), a);
            b = fma(load(s + p + L), load(v + p + L), b);
          }
          for (; p < P.k; p += L) {
            const int64_t left = min_of(L, P.k - p);
            a = fma(load_n(s + p, left), load_n(v + p, left), a);
          }
        }
        sums[r] = a + b;
      }
      T results[L];
      store(results, sums_of_rows(sums));
      finish_block(turned, results, L, 0, 1, i, rows, true, true);
    }
  });
}

// One row of s times a v of less than a vector of columns: the sums stay in registers.
template <class T, class Format>
void narrow_row(const Product<T, Format>& P) {
  constexpr int64_t U = 4;
  Vec<T> acc[U] = {Vec<T>(T(0)), Vec<T>(T(0)), Vec<T>(T(0)), Vec<T>(T(0))};
  const auto step = [&](int64_t p, int64_t u) __attribute__((always_inline)) {
    const Vec<T> x(Format::template read_one<T>(P.s + p * P.s_k));
    acc[u] = fma(x, Format::template read_n<T>(P.v + p * P.v_k, P.nv), acc[u]);
  };
  int64_t p = 0;
  for (; p + U <= P.k; p += U) {
#pragma GCC unroll 4
    for (int64_t u = 0; u < U; ++u) step(p + u, u);
  }
  for (; p < P.k; ++p) step(p, 0);
  T sum[kLanes<T>];
  store(sum, (acc[0] + acc[1]) + (acc[2] + acc[3]));
  finish_block(P, sum, kLanes<T>, 0, 1, 0, P.nv, true, true);
}

// M rows of s times v, whose rows lie along the columns: sums of v's rows, 8 / M at a time, a strip of columns in L1.
template <class T, class Format, int M>
void few_rows(const Product<T, Format>& P) {
  constexpr int64_t L = kLanes<T>, kStrip = 1024;
  constexpr int R = M == 1 ? 8 : 4;  // rows of v at a time
  const int64_t least = round_up(max_of(64, kWorthThreads / 8 / P.k), 64);
  const int64_t strip = min_of(kStrip, max_of(least, round_up(ceil_div(P.nv, 4 * get_num_threads()), 64)));
  parallel_for(0, ceil_div(P.nv, strip), 1, [&](int64_t begin, int64_t end) {
    T sum[M][kStrip];
    for (int64_t u = begin; u < end; ++u) {
      const int64_t j0 = u * strip, n = min_of(strip, P.nv - j0);
      for (int i = 0; i < M; ++i) {
        for (int64_t j = 0; j < n; ++j) sum[i][j] = T(0);
      }
      // R rows from row p on, or one of them.
      const auto rows = [&]<int Rows>(int64_t p, std::integral_constant<int, Rows>) __attribute__((always_inline)) {
        Vec<T> x[M][Rows];
        const typename Product<T, Format>::In* v[Rows];
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
          v[r] = P.v + (p + r) * P.v_k + j0;
#pragma GCC unroll 4
          for (int i = 0; i < M; ++i) {
            x[i][r] = Vec<T>(Format::template read_one<T>(P.s + i * P.s_row + (p + r) * P.s_k));
          }
        }
        int64_t j = 0;
        for (; j + L <= n; j += L) {
          Vec<T> row[Rows];
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) row[r] = Format::template read<T>(v[r] + j);
#pragma GCC unroll 4
          for (int i = 0; i < M; ++i) {
            Vec<T> a = load(sum[i] + j), b = x[i][Rows - 1] * row[Rows - 1];
#pragma GCC unroll 8
            for (int r = 0; r + 1 < Rows; ++r) (r % 2 == 0 ? a : b) = fma(x[i][r], row[r], r % 2 == 0 ? a : b);
            store(sum[i] + j, a + b);
          }
        }
        if (j < n) {
          for (int i = 0; i < M; ++i) {
            Vec<T> a = load_n(sum[i] + j, n - j);
            for (int r = 0; r < Rows; ++r) a = fma(x[i][r], Format::template read_n<T>(v[r] + j, n - j), a);
            store_n(sum[i] + j, n - j, a);
          }
        }
      };
      int64_t p = 0;
      for (; p + R <= P.k; p += R) rows(p, std::integral_constant<int, R>{});
      for (; p < P.k; ++p) rows(p, std::integral_constant<int, 1>{});
      finish_block(P, sum[0], kStrip, 0, M, j0, n, true, true);
    }
  });
}

template <class T, class Format, int... I>
TENSORGRAD_INLINE void pick_columns(const Product<T, Format>& P, const Product<T, Format>& turned,
                                    std::integer_sequence<int, I...>) {
  static constexpr void (*table[])(const Product<T, Format>&,
                                   const Product<T, Format>&) = {few_columns<T, Format, I + 1>...};
  table[P.nv - 1](P, turned);
}

// Takes the problem if one of the forms above fits it.
template <class T, class Format>
bool vector_product(const Product<T, Format>& P, const Product<T, Format>& turned) {
#if defined(__AVX512BF16__)
  if constexpr (kPairs<Format>) {
    if (short_pairs(P) || short_pairs(turned)) return true;
  }
#endif
  for (const Product<T, Format>* const q : {&P, &turned}) {
    // Sums of less than a vector are for one column alone; more of them are better off as a tile.
    if (q->s_k != 1 || q->nv > kFew || (q->k < kLanes<T> && q->nv > 1)) continue;
    // Short sums of many columns: putting the lanes of L sums together takes some 3 L instructions, turning over L rows
    // for a tile 6 for each step of k.
    const Product<T, Format>& other = q == &P ? turned : P;
    const bool small = Product<T, Format>::kPlain ? fits_small(other) : q->ms * q->nv * q->k <= kWorthThreads;
    if (small && 3 * kLanes<T> * q->nv > 6 * q->k + 40 && q->nv > 2) continue;
    // Pairs read in place take an instruction for two steps of k, however many columns there are; here each column
    // takes one for a vector of them and some for putting the lanes together.
    constexpr int64_t L = kLanes<T>;
    if (kPairs<Format> && q->nv > 1 && q->ms > kMaxRows && q->nv * (q->k / L + 3) + q->k / 8 > q->k / 2 + 10) continue;
    // Columns that would have to be gathered for a few rows: a tile reads them as they are, or packs them by rows.
    const bool better = Product<T, Format>::kPlain ? q->ms <= 2 * kMaxRows : small;
    if (better && q->v_k != 1 && q->v_col == 1 && q->nv > 1) continue;
    return pick_columns<T, Format>(*q, q == &P ? turned : P, std::make_integer_sequence<int, kFew>{}), true;
  }
  for (const Product<T, Format>* const q : {&P, &turned}) {
    if (q->v_col != 1) continue;
    if (q->ms == 1 && q->nv <= kLanes<T> && kVectorBytes >= 32) return narrow_row(*q), true;
    if (q->ms == 1 && q->k > 4) return few_rows<T, Format, 1>(*q), true;
    if (q->ms > 4 || q->nv < 64 || q->k <= 4) continue;
    if (q->ms == 2) return few_rows<T, Format, 2>(*q), true;
    if (q->ms == 3) return few_rows<T, Format, 3>(*q), true;
    return few_rows<T, Format, 4>(*q), true;
  }
  return false;
}

// Few results and a long k: parts of k are summed on their own and then put together in order. The parts depend on the
// shape alone.
template <class T, class Format, class Run>
bool split_k(const Product<T, Format>& P, Run run) {
  if constexpr (!Product<T, Format>::kPlain) {
    return false;
  } else {
    constexpr int64_t kPart = 4096, kMost = 32;
    const int64_t results = P.ms * P.nv;
    if (results > 128 * 128 || P.k < 2 * kPart || results * P.k < 4 * kWorthThreads || P.pack != nullptr) return false;
    const int64_t part = round_up(max_of(kPart, ceil_div(P.k, kMost)), 64), parts = ceil_div(P.k, part);
    const int64_t ld = round_up(P.nv, kLanes<T>), room = P.ms * ld;
    T* const sums = scratch_of<T>(ScratchSlot::gemm_c2, parts * room);
    parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; ++u) {
        Product<T, Format> part_of = P;
        part_of.k = min_of(part, P.k - u * part);
        part_of.s = P.s + u * part * P.s_k;
        part_of.v = P.v + u * part * P.v_k;
        part_of.c = sums + u * room, part_of.c_s = ld, part_of.c_v = 1;
        part_of.alpha = 1, part_of.beta = 0, part_of.bias_s = nullptr, part_of.bias_v = nullptr,
        part_of.activation = GemmActivation::none, part_of.before = nullptr;
        run(part_of);
      }
    });
    for (int64_t u = 1; u < parts; ++u) {
      for (int64_t i = 0; i < P.ms; ++i) {
        T* const to = sums + i * ld;
        const T* const from = to + u * room;
        for (int64_t j = 0; j < P.nv; ++j) to[j] += from[j];
      }
    }
    finish_block(P, sums, ld, 0, P.ms, 0, P.nv, true, true);
    return true;
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
