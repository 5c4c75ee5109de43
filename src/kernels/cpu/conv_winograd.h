#pragma once

// Data movement that the two Winograd files share.

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

namespace winograd_detail {
template <int... I>
TENSORGRAD_INLINE void split(Raw<float> a, Raw<float> b, Vec<float>& even, Vec<float>& odd,
                             std::integer_sequence<int, I...>) {
  even.v = __builtin_shufflevector(a, b, 2 * I...);
  odd.v = __builtin_shufflevector(a, b, (2 * I + 1)...);
}
// The lower halves of a and b, value by value in turn; then the upper halves.
template <int... I>
TENSORGRAD_INLINE void weave(Raw<float> a, Raw<float> b, Raw<float>& low, Raw<float>& high,
                             std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  low = __builtin_shufflevector(a, b, (I / 2 + I % 2 * n)...);
  high = __builtin_shufflevector(a, b, (n / 2 + I / 2 + I % 2 * n)...);
}
using Lanes = std::make_integer_sequence<int, kLanes<float>>;
}  // namespace winograd_detail

// a0 a1 a2 ... b0 b1 b2 ...  ->  even = a0 a2 ... b0 b2 ...   odd = a1 a3 ... b1 b3 ...
TENSORGRAD_INLINE void split_pairs(Vec<float> a, Vec<float> b, Vec<float>& even, Vec<float>& odd) {
  winograd_detail::split(a.v, b.v, even, odd, winograd_detail::Lanes{});
}

// Stores even0 odd0 even1 odd1 ...
TENSORGRAD_INLINE void join_pairs(Vec<float> even, Vec<float> odd, float* to) {
  Vec<float> low, high;
  winograd_detail::weave(even.v, odd.v, low.v, high.v, winograd_detail::Lanes{});
  store(to, low);
  store(to + kLanes<float>, high);
}

// rows[i][j] becomes rows[j][i].
TENSORGRAD_INLINE void transpose(Vec<float> (&rows)[kLanes<float>]) {
  constexpr int n = kLanes<float>;
  Raw<float> next[n];
#pragma GCC unroll 4
  for (int step = 1; step < n; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < n / 2; ++i) {
      winograd_detail::weave(rows[i].v, rows[i + n / 2].v, next[2 * i], next[2 * i + 1], winograd_detail::Lanes{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) rows[i].v = next[i];
  }
}

// Positions [first, last) of one row of a parity plane pair: to_even[i] and to_odd[i] are columns 2*i and 2*i + 1 of
// the padded source row (null: zeros).
inline void split_row(const float* row, int64_t width, int64_t pad, int64_t first, int64_t last, float* to_even,
                      float* to_odd) {
  int64_t i = first;
  if (row == nullptr) {
    fill_zero(to_even + first, last - first);
    fill_zero(to_odd + first, last - first);
    return;
  }
  const auto at = [&](int64_t column) {
    column -= pad;
    return column >= 0 && column < width ? row[column] : 0.0f;
  };
  const int64_t inside_first = least(last, greatest(first, ceil_div(greatest(pad, 0), 2)));
  const int64_t inside_last = least(last, width + pad >= 2 ? (width + pad) / 2 : 0);
  for (; i < inside_first; ++i) {
    to_even[i] = at(2 * i);
    to_odd[i] = at(2 * i + 1);
  }
  for (; i + kLanes<float> <= inside_last; i += kLanes<float>) {
    Vec<float> even, odd;
    split_pairs(load(row + 2 * i - pad), load(row + 2 * i - pad + kLanes<float>), even, odd);
    store(to_even + i, even);
    store(to_odd + i, odd);
  }
  if (i < inside_last) {
    const int64_t values = 2 * (inside_last - i);
    const float* from = row + 2 * i - pad;
    Vec<float> even, odd;
    split_pairs(load_n(from, least(values, kLanes<float>)),
                load_n(from + kLanes<float>, greatest(0, values - kLanes<float>)), even, odd);
    store_n(to_even + i, inside_last - i, even);
    store_n(to_odd + i, inside_last - i, odd);
    i = inside_last;
  }
  for (; i < last; ++i) {
    to_even[i] = at(2 * i);
    to_odd[i] = at(2 * i + 1);
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
