#pragma once

// Products with few columns on the vector side: matrix times vector, dot products. All of them read the large operand
// once and in place; memory is the limit.

#include "kernels/cpu/gemm/blocked.h"

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
  if (P.activation != GemmActivation::none) x = activate(P.activation, Vec<T>(x))[0];
  Format::template write_n<T>(c, 1, Vec<T>(x));
}

// R rows of s, which lie along k, times N columns x (each a contiguous vector of k, `x_room` apart).
template <class T, class Format, int R, int N>
void dot_rows(const Product<T, Format>& P, int64_t i, const T* x, int64_t x_room) {
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
      put_one(P, i + r, n, reduce_add(sum));
    }
  }
}

// s (rows along k) times at most kFew columns.
template <class T, class Format, int N>
void few_columns(const Product<T, Format>& P) {
  const int64_t x_room = round_up(P.k, 16);
  const T* x = nullptr;
  if constexpr (Product<T, Format>::kPlain) {
    if (P.v_k == 1 && (N == 1 || P.v_col >= 0)) x = P.v;
  }
  const int64_t x_step = x != nullptr ? P.v_col : x_room;
  if (x == nullptr) {  // gather the columns
    T* const copy = scratch_of<T>(ScratchSlot::gemm_v, N * x_room);
    for (int64_t n = 0; n < N; ++n) {
      for (int64_t p = 0; p < P.k; ++p) {
        copy[n * x_room + p] = Format::template read_one<T>(P.v + p * P.v_k + n * P.v_col);
      }
    }
    x = copy;
  }
  const auto rows = [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    constexpr int R = kDotRows<N>;
    for (; i + R <= end; i += R) dot_rows<T, Format, R, N>(P, i, x, x_step);
    for (; i < end; ++i) dot_rows<T, Format, 1, N>(P, i, x, x_step);
  };
  const int64_t grain = round_up(max_of(1, kWorthThreads / 8 / max_of(1, P.k)), 4);
  parallel_for(0, P.ms, grain, rows);
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
TENSORGRAD_INLINE void pick_columns(const Product<T, Format>& P, std::integer_sequence<int, I...>) {
  static constexpr void (*table[])(const Product<T, Format>&) = {few_columns<T, Format, I + 1>...};
  table[P.nv - 1](P);
}

// Takes the problem if one of the forms above fits it.
template <class T, class Format>
bool vector_product(const Product<T, Format>& P, const Product<T, Format>& turned) {
  for (const Product<T, Format>* const q : {&P, &turned}) {
    // Sums of less than a vector are for one column alone; more of them are better off as a tile.
    if (q->s_k != 1 || q->nv > kFew || (q->k < kLanes<T> && q->nv > 1)) continue;
    return pick_columns<T, Format>(*q, std::make_integer_sequence<int, kFew>{}), true;
  }
  for (const Product<T, Format>* const q : {&P, &turned}) {
    if (q->v_col != 1) continue;
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
        part_of.activation = GemmActivation::none;
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
