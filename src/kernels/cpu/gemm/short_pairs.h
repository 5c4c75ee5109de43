#pragma once

// Products of bfloat16 whose rows of s, at most 16 elements each, lie along k, with up to 4 columns: 16 rows at a time
// are turned over in registers, so that a lane is a row and no lane is idle. (A tile would use as many lanes as there
// are columns.)

#include "kernels/cpu/gemm/blocked.h"

#if defined(__AVX512BF16__)
namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

inline constexpr int64_t kTurnedPairs = 8;  // pairs of a row that are turned over at once
inline constexpr int64_t kShortPairs = 32;  // pairs of a row at most
inline constexpr int64_t kFewPairs = 4;     // columns at most

template <class T, class Format>
TENSORGRAD_INLINE bool fits_short_pairs(const Product<T, Format>& P) {
  return P.s_k == 1 && P.k > 1 && P.k <= 2 * kShortPairs && P.nv <= kFewPairs && P.ms >= kLanes<T> && P.c_s == P.nv &&
         (P.c_v == 1 || P.nv == 1) && P.alpha == T(1) && P.beta == T(0) && P.bias_s == nullptr && P.before == nullptr &&
         P.activation <= GemmActivation::relu;
}

// Lane r of pairs[p] is pair p of row r, for `rows` rows of k elements; the rest is zero. A register holds two rows;
// interleaving register i with register i + 4 shuffles the index bits of (register, lane) round by one place, and four
// times puts those of the row behind those of the pair.
TENSORGRAD_INLINE void turn_pairs(const uint16_t* s, int64_t s_row, int64_t rows, int64_t k,
                                  Vec<float> (&pairs)[kTurnedPairs]) {
  const auto exist = static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(k)));
  const auto row = [=](int64_t r) __attribute__((always_inline)) {
    return _mm256_maskz_loadu_epi16(r < rows ? exist : __mmask16(0), s + (r < rows ? r * s_row : 0));
  };
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    pairs[i] = Vec<float>((Raw<float>)_mm512_inserti64x4(_mm512_castsi256_si512(row(2 * i)), row(2 * i + 1), 1));
  }
  const auto stage = [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    Vec<float> out[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Raw<float> a = pairs[i].v, b = pairs[i + 4].v;
      out[2 * i] = Vec<float>(__builtin_shufflevector(a, b, (I / 2 + (I % 2) * 16)...));
      out[2 * i + 1] = Vec<float>(__builtin_shufflevector(a, b, (8 + I / 2 + (I % 2) * 16)...));
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) pairs[i] = out[i];
  };
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) stage(std::make_integer_sequence<int, 16>{});
}

// Writes N columns of 16 results as `rows` rows of N that follow each other.
template <int N>
TENSORGRAD_INLINE void put_rows_of(const Vec<float> (&sums)[N], uint16_t* to, int64_t rows) {
  using Words = Raw<uint16_t, 32>;
  const auto two = [&](int n) __attribute__((always_inline)) {
    return (Words)_mm512_cvtne2ps_pbh((__m512)sums[n + 1 < N ? n + 1 : n].v, (__m512)sums[n].v);
  };
  const Words low = two(0), high = N > 2 ? two(2 < N ? 2 : 0) : low;
  const auto put = [&]<int... W>(int64_t first, std::integer_sequence<int, W...>, auto vector)
      __attribute__((always_inline)) {
    constexpr int kFirst = decltype(vector)::value * 32;
    const auto place = [](int w) constexpr {  // of result w of all: row w / N, column w % N
      const int at = kFirst + w < 16 * N ? kFirst + w : 0;
      return at % N * 16 + at / N;
    };
    const Words words = __builtin_shufflevector(low, high, place(W)...);
    const int64_t left = rows * N - first;
    if (left <= 0) return;
    const auto lanes = static_cast<__mmask32>(_bzhi_u32(0xffffffffu, static_cast<unsigned>(left < 32 ? left : 32)));
    _mm512_mask_storeu_epi16(to + first, lanes, (__m512i)words);
  };
  put(0, std::make_integer_sequence<int, 32>{}, std::integral_constant<int, 0>{});
  if constexpr (N > 2) put(32, std::make_integer_sequence<int, 32>{}, std::integral_constant<int, 1>{});
}

template <int N, class T, class Format>
void short_pair_rows(const Product<T, Format>& P, const float* columns, const float* bias) {
  constexpr int64_t L = kLanes<float>;
  const int64_t steps = (P.k + 1) / 2;
  const Vec<float> floor(P.activation == GemmActivation::relu ? 0.0f : -__builtin_inff());
  const int64_t grain = round_up(max_of(1, kWorthThreads / 8 / P.k), 2 * L);
  parallel_for(0, P.ms, grain, [=, &P](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += L) {
      const int64_t rows = min_of(L, end - i);
      Vec<float> pairs[kTurnedPairs], sums[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[n] = Vec<float>(0.0f);
      for (int64_t first = 0; first < steps; first += kTurnedPairs) {
        turn_pairs(P.s + i * P.s_row + 2 * first, P.s_row, rows, min_of(P.k - 2 * first, 2 * kTurnedPairs), pairs);
#pragma GCC unroll 8
        for (int64_t p = 0; p < kTurnedPairs; ++p) {
          if (first + p >= steps) break;
#pragma GCC unroll 4
          for (int n = 0; n < N; ++n) {
            sums[n] = multiply_add<2>(pairs[p], Vec<float>(columns[n * kShortPairs + first + p]), sums[n]);
          }
        }
      }
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[n] = max(floor, sums[n] + bias[n]);
      put_rows_of<N>(sums, P.c + i * N, rows);
    }
  });
}

// Takes the problem if it is one of these.
template <class T, class Format>
bool short_pairs(const Product<T, Format>& P) {
  if (!fits_short_pairs(P)) return false;
  float columns[kFewPairs * kShortPairs], bias[kFewPairs];
  for (int64_t n = 0; n < P.nv; ++n) {
    for (int64_t p = 0; 2 * p < P.k; ++p) {
      const uint16_t* const at = P.v + n * P.v_col + 2 * p * P.v_k;
      columns[n * kShortPairs + p] = pairs_detail::one_pair(at, 2 * p + 1 < P.k ? at + P.v_k : nullptr);
    }
    bias[n] = P.bias_v == nullptr ? 0.0f : Format::template read_one<T>(P.bias_v + n);
  }
  static constexpr void (*table[])(const Product<T, Format>&, const float*, const float*) = {
      short_pair_rows<1, T, Format>, short_pair_rows<2, T, Format>, short_pair_rows<3, T, Format>,
      short_pair_rows<4, T, Format>};
  table[P.nv - 1](P, columns, bias);
  return true;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
#endif
