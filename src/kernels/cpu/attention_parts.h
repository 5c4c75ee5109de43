#pragma once

// What the forward and the backward of attention share. For files under isa/.

#include "kernels/attention.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/tile_product.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

template <class T>
void attention_backward(const AttentionShape& s, const T* query, const T* key, const T* value, const T* output,
                        const T* row_stats, const T* grad_output, const HeadStrides& up, T* grad_query,
                        const HeadStrides& dq, T* grad_key, const HeadStrides& dk, T* grad_value,
                        const HeadStrides& dv);

namespace attention_detail {

template <class T>
TENSORGRAD_INLINE int64_t padded(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}
TENSORGRAD_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
TENSORGRAD_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

TENSORGRAD_INLINE int64_t offset_of(const AttentionShape& s, const HeadStrides& strides, int64_t index) {
  return index / s.heads * strides.batch + index % s.heads * strides.head;
}

// Head number `index`: its arrays.
template <class T>
struct Head {
  const T *query, *key, *value;
  const void* mask;
};
template <class T>
TENSORGRAD_INLINE Head<T> head_of(const AttentionShape& s, int64_t index, const T* query, const T* key,
                                  const T* value) {
  const int64_t mask = index / s.heads * s.mask.batch + index % s.heads * s.mask.head;
  const auto* bytes = static_cast<const char*>(s.mask.data);
  return {query + offset_of(s, s.query, index), key + offset_of(s, s.key, index), value + offset_of(s, s.value, index),
          bytes ? bytes + mask * (s.mask.boolean ? 1 : static_cast<int64_t>(sizeof(T))) : nullptr};
}

// Each query's largest score (infinity where it sees nothing) and one over its sum of exponentials.
template <class T>
struct RowStats {
  T *top, *inverse;
  TENSORGRAD_INLINE RowStats(const AttentionShape& s, T* room, int64_t head) : top(room + head * s.queries) {
    inverse = top + s.batch * s.heads * s.queries;
  }
};

// What the mask adds at (query i, keys j .. j + count): 0 or -inf for a boolean one.
template <class T>
TENSORGRAD_INLINE Vec<T> mask_values(const AttentionShape& s, const void* mask, int64_t i, int64_t j, int64_t count) {
  const int64_t at = i * s.mask.row + j * s.mask.column;
  const auto* values = static_cast<const T*>(mask) + at;
  const auto* bytes = static_cast<const uint8_t*>(mask) + at;
  if (!s.mask.boolean && s.mask.column == 1) return count >= kLanes<T> ? load(values) : load_n(values, count);
  if (s.mask.boolean && s.mask.column == 1 && count >= kLanes<T>) {
    using I = simd_detail::IntOf<sizeof(T)>;
    Raw<uint8_t, kLanes<T>> eight;
    __builtin_memcpy(&eight, bytes, sizeof(eight));
    const Vec<I> seen(__builtin_convertvector(eight, Raw<I>));
    return select(Mask<T>((seen == I{0}).v), Vec<T>(-math_detail::kInf<T>), Vec<T>(T(0)));
  }
  alignas(64) T each[kLanes<T>] = {};
  for (int64_t k = 0; k < count && k < kLanes<T>; ++k) {
    const int64_t step = k * s.mask.column;
    each[k] = !s.mask.boolean ? values[step] : bytes[step] ? T(0) : -math_detail::kInf<T>;
  }
  return load(each);
}

// Rows of a head are short pieces far apart, which the hardware does not foresee: while one head is computed the next
// one's rows are asked for. kWrite: they will be written.
template <bool kWrite, class T>
inline void ask_for(const T* p, const HeadStrides& strides, int64_t begin, int64_t end, int64_t size) {
  if (strides.row <= size) return;
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t e = 0; e < size; e += line) __builtin_prefetch(p + r * strides.row + e, kWrite ? 1 : 0, 2);
  }
}

// to[r * to_row + e] = from[r * from_row + e] * factor, zero from `size` up to to_row, which is whole registers.
template <class T>
inline void copy_rows(const T* from, int64_t from_row, int64_t rows, int64_t size, T factor, T* to, int64_t to_row) {
  for (int64_t r = 0; r < rows; ++r, from += from_row, to += to_row) {
    int64_t e = 0;
    for (; e + kLanes<T> <= size; e += kLanes<T>) store(to + e, load(from + e) * factor);
    if (e < size) store(to + e, load_n(from + e, size - e) * factor);
  }
}

// to[j * to_row + i] = from[i * from_row + j] for i < size, j < rows, and nothing else. room: rows * padded(size)
// values.
template <class T>
inline void store_turned(const T* from, int64_t from_row, int64_t size, int64_t rows, T* to, int64_t to_row, T* room) {
  if (size % kLanes<T> == 0) return transpose_tile(from, from_row, size, rows, T(1), to, to_row);
  const int64_t width = padded<T>(size);
  transpose_tile(from, from_row, size, rows, T(1), room, width);
  for (int64_t r = 0; r < rows; ++r, room += width, to += to_row) {
    int64_t e = 0;
    for (; e + kLanes<T> <= size; e += kLanes<T>) store(to + e, load(room + e));
    store_n(to + e, size - e, load(room + e));
  }
}

template <class T>
inline void zero_values(T* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = T(0);
}

}  // namespace attention_detail
}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
