#pragma once

// Strips: the part of some source planes that one work item of a direct convolution needs, copied so that every kernel
// position ("tap") is a constant offset. A strip holds, for each plane and each phase of the stride, rows of `width`
// values laid end to end with the padding written out as zeros. Output position (y, x) is the flat position
// p = y * width + x, and tap (r, s) reads strip[p + offset(plane, r, s)]: one unaligned vector load, whatever the
// stride, padding and dilation. Positions between the output's width and `width` compute values nobody stores.

#include <cstring>

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// Where one axis of a strip comes from: position q of phase f is source index base + q * stride + f.
struct StripAxis {
  int64_t size = 1;    // of the source
  int64_t stride = 1;  // source steps between neighbours of one phase
  int64_t base = 0;    // negative: padding
  int64_t phases = 1;  // how many of the stride's phases are read
};

struct StripLayout {
  StripAxis high, wide;
  int64_t reach_rows = 0;  // the largest row offset of a tap
  int64_t reach_cols = 0;
  int64_t width = 0;  // of a strip row
  int64_t tail = 0;   // zeros after the last row

  // Chooses the row width for `cols` output positions a row. Where both neighbours are padding, the zeros right of one
  // row serve as the zeros left of the next.
  void set_width(int64_t cols) {
    const int64_t need = cols + reach_cols;
    int64_t left = need;
    int64_t data = 0;
    for (int64_t f = 0; f < wide.phases; ++f) {
      const int64_t start = wide.base + f;
      left = least(left, start < 0 ? ceil_div(-start, wide.stride) : 0);
      data = greatest(data, wide.size > start ? ceil_div(wide.size - start, wide.stride) : 0);
    }
    width = greatest(greatest(cols, least(data, need)), need - left);
    tail = greatest(0, need - width);
  }
  // Values between neighbouring planes for a strip of `rows` output rows: an odd number of cache lines, lest the planes
  // of many channels share a few cache sets.
  template <class T>
  int64_t plane_stride(int64_t rows) const {
    const int64_t line = 64 / static_cast<int64_t>(sizeof(T));
    int64_t lines = ceil_div((rows + reach_rows) * width + tail, line);
    if (lines % 2 == 0) ++lines;
    return lines * line;
  }
  int64_t phases() const { return high.phases * wide.phases; }
};

template <class T>
TENSORGRAD_INLINE void fill_zero(T* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = T(0);
}

template <class T>
TENSORGRAD_INLINE void copy_values(T* dst, const T* src, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(dst + i, load(src + i));
  if (i < n) store_n(dst + i, n - i, load_n(src + i, n - i));
}

namespace strip_detail {
template <class T, int... I>
TENSORGRAD_INLINE void split(Raw<T> a, Raw<T> b, Vec<T>& even, Vec<T>& odd, std::integer_sequence<int, I...>) {
  even.v = __builtin_shufflevector(a, b, 2 * I...);
  odd.v = __builtin_shufflevector(a, b, (2 * I + 1)...);
}
// The lower halves of a and b, value by value in turn; then the upper halves.
template <class T, int... I>
TENSORGRAD_INLINE void weave(Raw<T> a, Raw<T> b, Raw<T>& low, Raw<T>& high, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  low = __builtin_shufflevector(a, b, (I / 2 + I % 2 * n)...);
  high = __builtin_shufflevector(a, b, (n / 2 + I / 2 + I % 2 * n)...);
}
template <class T>
using Lanes = std::make_integer_sequence<int, kLanes<T>>;
}  // namespace strip_detail

// a0 a1 a2 ... b0 b1 b2 ...  ->  even = a0 a2 ... b0 b2 ...   odd = a1 a3 ... b1 b3 ...
template <class T>
TENSORGRAD_INLINE void split_pairs(Vec<T> a, Vec<T> b, Vec<T>& even, Vec<T>& odd) {
  strip_detail::split<T>(a.v, b.v, even, odd, strip_detail::Lanes<T>{});
}

// low, high = even0 odd0 even1 odd1 ...
template <class T>
TENSORGRAD_INLINE void join_pairs(Vec<T> even, Vec<T> odd, Vec<T>& low, Vec<T>& high) {
  strip_detail::weave<T>(even.v, odd.v, low.v, high.v, strip_detail::Lanes<T>{});
}
template <class T>
TENSORGRAD_INLINE void join_pairs(Vec<T> even, Vec<T> odd, T* to) {
  Vec<T> low, high;
  join_pairs(even, odd, low, high);
  store(to, low);
  store(to + kLanes<T>, high);
}

// Positions [first, last) of a source row's even and odd columns: to_even[i] and to_odd[i] are columns 2*i and 2*i + 1
// counted from `pad` columns before the row; outside the row (or for a null row) they are zero.
template <class T>
inline void split_row(const T* row, int64_t width, int64_t pad, int64_t first, int64_t last, T* to_even, T* to_odd) {
  int64_t i = first;
  if (row == nullptr) {
    fill_zero(to_even + first, last - first);
    fill_zero(to_odd + first, last - first);
    return;
  }
  const auto at = [&](int64_t column) {
    column -= pad;
    return column >= 0 && column < width ? row[column] : T(0);
  };
  const int64_t inside_first = least(last, greatest(first, ceil_div(greatest(pad, 0), 2)));
  const int64_t inside_last = least(last, width + pad >= 2 ? (width + pad) / 2 : 0);
  for (; i < inside_first; ++i) {
    to_even[i] = at(2 * i);
    to_odd[i] = at(2 * i + 1);
  }
  Vec<T> even, odd;
  for (; i + kLanes<T> <= inside_last; i += kLanes<T>) {
    split_pairs(load(row + 2 * i - pad), load(row + 2 * i - pad + kLanes<T>), even, odd);
    store(to_even + i, even);
    store(to_odd + i, odd);
  }
  if (i < inside_last) {
    const int64_t values = 2 * (inside_last - i);
    const T* from = row + 2 * i - pad;
    split_pairs(load_n(from, least(values, kLanes<T>)), load_n(from + kLanes<T>, greatest(0, values - kLanes<T>)), even,
                odd);
    store_n(to_even + i, inside_last - i, even);
    store_n(to_odd + i, inside_last - i, odd);
    i = inside_last;
  }
  for (; i < last; ++i) {
    to_even[i] = at(2 * i);
    to_odd[i] = at(2 * i + 1);
  }
}

// One strip row: `width` values of phase f out of a source row (null: zeros).
template <class T>
inline void copy_strip_row(T* dst, const T* src, const StripAxis& axis, int64_t f, int64_t width) {
  const int64_t start = axis.base + f;
  int64_t first = start < 0 ? ceil_div(-start, axis.stride) : 0;
  int64_t last = axis.size > start ? ceil_div(axis.size - start, axis.stride) : 0;
  first = least(first, width);
  last = least(last, width);
  if (src == nullptr || last <= first) {
    fill_zero(dst, width);
    return;
  }
  fill_zero(dst, first);
  const T* from = src + start + first * axis.stride;
  const int64_t n = last - first;
  if (axis.stride == 1) {
    copy_values(dst + first, from, n);
  } else if (axis.stride == 2) {
    for (int64_t i = 0; i < n; ++i) dst[first + i] = from[2 * i];
  } else {
    for (int64_t i = 0; i < n; ++i) dst[first + i] = from[i * axis.stride];
  }
  fill_zero(dst + last, width - last);
}

// All phases of one source plane (null: zeros) for strip rows [row, row + rows + reach_rows); phases are `plane` values
// apart and are filled up to `plane` with zeros.
template <class T>
inline void copy_strip_plane(T* dst, const T* src, const StripLayout& l, int64_t row, int64_t rows, int64_t plane) {
  const int64_t count = rows + l.reach_rows;
  if (l.wide.stride == 2 && l.wide.phases == 2 && src != nullptr) {
    for (int64_t q = 0; q < count; ++q) {  // source rows in their order: the hardware fetches ahead
      for (int64_t fh = 0; fh < l.high.phases; ++fh) {
        const int64_t y = l.high.base + (row + q) * l.high.stride + fh;
        const T* from = y < 0 || y >= l.high.size ? nullptr : src + y * l.wide.size;
        T* to = dst + fh * 2 * plane + q * l.width;
        split_row(from, l.wide.size, -l.wide.base, 0, l.width, to, to + plane);
      }
    }
    for (int64_t f = 0; f < l.phases(); ++f) {
      fill_zero(dst + f * plane + count * l.width, plane - count * l.width);
    }
    return;
  }
  for (int64_t fh = 0; fh < l.high.phases; ++fh) {
    for (int64_t fw = 0; fw < l.wide.phases; ++fw, dst += plane) {
      if (src == nullptr) {
        fill_zero(dst, plane);
        continue;
      }
      for (int64_t q = 0; q < count; ++q) {
        const int64_t y = l.high.base + (row + q) * l.high.stride + fh;
        const T* from = y < 0 || y >= l.high.size ? nullptr : src + y * l.wide.size;
        copy_strip_row(dst + q * l.width, from, l.wide, fw, l.width);
      }
      fill_zero(dst + count * l.width, plane - count * l.width);
    }
  }
}

// Values that a vector loop may read past the last plane of a strip.
template <class T>
inline constexpr int64_t kStripSlack = 8 * kLanes<T>;

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
