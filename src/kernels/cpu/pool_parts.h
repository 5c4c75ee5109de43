#pragma once

// What the pools share, for the files under isa/.

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "kernels/pool.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

TENSORGRAD_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
TENSORGRAD_INLINE int64_t greatest(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
using IndexOf = simd_detail::IntOf<sizeof(T)>;

TENSORGRAD_INLINE int64_t in_plane(const PoolShape& s) { return s.in_height * s.in_width; }
TENSORGRAD_INLINE int64_t out_plane(const PoolShape& s) { return s.out_height * s.out_width; }

// Planes worth one chunk of a parallel loop: some ten microseconds.
TENSORGRAD_INLINE int64_t plane_grain(int64_t work) { return greatest(1, 20000 / greatest(1, work)); }

TENSORGRAD_INLINE int64_t adaptive_first(int64_t i, int64_t in, int64_t out) {
  return i / out * in + i % out * in / out;
}
TENSORGRAD_INLINE int64_t adaptive_last(int64_t i, int64_t in, int64_t out) {
  return (i + 1) / out * in + ((i + 1) % out * in + out - 1) / out;
}
// The plain pool that an adaptive one is where its windows are alike and do not overlap.
inline bool is_plain(const PoolShape& s, PoolShape& plain) {
  if (s.out_height <= 0 || s.out_width <= 0 || s.in_height % s.out_height != 0 || s.in_width % s.out_width != 0)
    return false;
  plain = s;
  plain.kernel_height = plain.stride_height = s.in_height / s.out_height;
  plain.kernel_width = plain.stride_width = s.in_width / s.out_width;
  plain.pad_height = plain.pad_width = 0;
  plain.dilation_height = plain.dilation_width = 1;
  return plain.kernel_height > 0 && plain.kernel_width > 0;
}

template <class T, int... I>
TENSORGRAD_INLINE Vec<T> even_lanes(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  return Vec<T>(__builtin_shufflevector(a.v, b.v, (2 * I)...));
}
template <class T, int... I>
TENSORGRAD_INLINE Vec<T> odd_lanes(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  return Vec<T>(__builtin_shufflevector(a.v, b.v, (2 * I + 1)...));
}
// n <= kLanes<T> values `stride` apart, the other lanes zero. Reads nothing but the values and what lies between them.
template <class T>
TENSORGRAD_INLINE Vec<T> load_strided(const T* p, int64_t stride, int64_t n) {
  if (stride == 1) return n == kLanes<T> ? load(p) : load_n(p, n);
  if (stride == 2) {
    const int64_t count = 2 * n - 1;
    return even_lanes(load_n(p, least(count, kLanes<T>)), load_n(p + kLanes<T>, greatest(0, count - kLanes<T>)),
                      std::make_integer_sequence<int, kLanes<T>>{});
  }
  T values[kLanes<T>] = {};
  for (int64_t i = 0; i < n; ++i) values[i] = p[i * stride];
  return load(values);
}

// Lane l of the result is lane place[l] of a.
template <class T>
TENSORGRAD_INLINE Vec<T> permute(Vec<T> a, Vec<IndexOf<T>> place) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((Raw<T>)_mm512_permutexvar_epi32((__m512i)place.v, (__m512i)a.v));
  else
    return Vec<T>((Raw<T>)_mm512_permutexvar_epi64((__m512i)place.v, (__m512i)a.v));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return Vec<T>((Raw<T>)_mm256_permutevar8x32_epi32((__m256i)a.v, (__m256i)place.v));
#endif
  Vec<T> r;
  for (int l = 0; l < kLanes<T>; ++l) r.v[l] = a.v[place.v[l] & (kLanes<T> - 1)];
  return r;
}

// Which windows of an axis a register of input positions lies in. The positions are j, j + 1, ... from a multiple of
// kLanes<T> on; with t = j + pad the windows are t / stride, the one before, and so on while the window reaches.
// Lane l's first one is the register's first plus place[l], and it lies rest[l] behind that window's beginning.
template <class T>
struct WindowsOf {
  static constexpr int64_t kMostStride = 16;
  int64_t stride, pad, count;  // count: of windows that a position may lie in
  IndexOf<T> place[kMostStride * kLanes<T>], rest[kMostStride * kLanes<T>];
  WindowsOf(int64_t reach, int64_t s, int64_t p) : stride(s), pad(p), count((reach - 1) / s + 1) {
    for (int64_t r = 0; r < stride; ++r) {
      for (int64_t l = 0; l < kLanes<T>; ++l) {
        place[r * kLanes<T> + l] = static_cast<IndexOf<T>>((r + l) / stride);
        rest[r * kLanes<T> + l] = static_cast<IndexOf<T>>((r + l) % stride);
      }
    }
  }
  int64_t first(int64_t j) const { return (j + pad) / stride; }
  // The windows that the positions [j, end) may lie in start here; so many they are, and a register beyond.
  int64_t lowest(int64_t j) const { return first(j) - (count - 1); }
  int64_t span(int64_t j, int64_t end) const { return first(end - 1) - lowest(j) + 1 + kLanes<T>; }
};

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
