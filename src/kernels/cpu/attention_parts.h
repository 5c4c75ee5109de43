#pragma once

// What the forward and the backward of attention share. For files under isa/.

#include "kernels/attention.h"
#include "kernels/cpu/philox.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/tile_product.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

template <class T>
void attention_backward(const AttentionShape& s, const T* query, const T* key, const T* value, const T* output,
                        const T* row_stats, const T* grad_output, const HeadStrides& up, T* grad_query,
                        const HeadStrides& dq, T* grad_key, const HeadStrides& dk, T* grad_value,
                        const HeadStrides& dv);

// The same two for few queries beside many keys. See attention_few.cpp.
inline bool few_queries_pay(const AttentionShape& s, bool backward) {
  const bool four = s.queries == 4 && !backward && s.head_size % 64 == 0 && s.value_size % 64 == 0;
  return (s.queries <= 3 || four) && s.keys >= 64;
}
template <class T>
void few_forward(const AttentionShape& s, const T* query, const T* key, const T* value, T* output, T* row_stats);
template <class T>
void few_backward(const AttentionShape& s, const T* query, const T* key, const T* value, const T* output,
                  const T* row_stats, const T* grad_output, const HeadStrides& up, T* grad_query, const HeadStrides& dq,
                  T* grad_key, const HeadStrides& dk, T* grad_value, const HeadStrides& dv);

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
  int64_t index;
};
template <class T>
TENSORGRAD_INLINE Head<T> head_of(const AttentionShape& s, int64_t index, const T* query, const T* key,
                                  const T* value) {
  const int64_t mask = index / s.heads * s.mask.batch + index % s.heads * s.mask.head;
  const auto* bytes = static_cast<const char*>(s.mask.data);
  return {query + offset_of(s, s.query, index), key + offset_of(s, s.key, index), value + offset_of(s, s.value, index),
          bytes ? bytes + mask * (s.mask.boolean ? 1 : static_cast<int64_t>(sizeof(T))) : nullptr, index};
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

// ---- dropout ------------------------------------------------------------------------------------------------------

inline constexpr int64_t kDropRows = 64, kDropWords = 2;  // of a tile: at most 64 queries and 128 keys

// Which probabilities of a tile stay, a bit each, drawn again from the stream whenever they are needed.
struct Kept {
  alignas(64) uint64_t words[kDropRows * kDropWords];

  [[gnu::noinline]] explicit Kept(const AttentionShape& s)
      : keys_(s.dropout.stream.seed), block_(s.dropout.stream.block) {
    const double limit = static_cast<double>(static_cast<float>(1 - s.dropout.p)) * 0x1p24;
    limit_ = static_cast<int32_t>(limit);
    limit_ += limit_ < limit;
  }

  // Bit j % 64 of words[i * kDropWords + j / 64]: query i0 + i and key j0 + j of a head, keys <= 128.
  [[gnu::noinline]] void draw(const AttentionShape& s, int64_t head, int64_t i0, int64_t queries, int64_t j0,
                              int64_t keys) {
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t first = (head * s.queries + i0 + i) * s.keys + j0;
      for (int64_t j = 0; j < keys; j += 64) words[i * kDropWords + j / 64] = sixty_four(first + j, keys - j);
    }
  }

  // Words of a key with a query a bit: words[j], from draw()'s.
  [[gnu::noinline]] void turn(int64_t queries) {
    uint64_t left[64] = {}, right[64] = {};
    for (int64_t i = 0; i < queries; ++i) left[i] = words[i * kDropWords], right[i] = words[i * kDropWords + 1];
    turn_square(left, words);
    turn_square(right, words + 64);
  }

 private:
  philox_detail::Keys keys_;
  uint64_t block_;
  int32_t limit_;
  int64_t group_ = -1;  // what `bits_` are of: rows that follow each other share groups
  uint64_t bits_ = 0;

  uint64_t group(int64_t g) {
    if (g != group_) {
      bits_ = bernoulli_group(keys_, block_ + static_cast<uint64_t>(g * philox_detail::kBlocks), limit_);
      group_ = g;
    }
    return bits_;
  }
  // Elements first .. first + 63; those from `count` on are anything.
  uint64_t sixty_four(int64_t first, int64_t count) {
    const int64_t g = first / 64, shift = first % 64;
    const uint64_t low = group(g) >> shift;
    return shift == 0 || count <= 64 - shift ? low : low | (group(g + 1) << (64 - shift));
  }
  // A square of bits, transposed: halves of blocks of 32, 16, ... rows change places.
  static void turn_square(uint64_t* a, uint64_t* to) {
    uint64_t mask = 0xffffffffu;
    for (int64_t step = 32; step > 0; step /= 2, mask ^= mask << step) {
      for (int64_t block = 0; block < 64; block += 2 * step) {
        for (int64_t r = block; r < block + step; ++r) {
          const uint64_t t = ((a[r] >> step) ^ a[r + step]) & mask;
          a[r] ^= t << step;
          a[r + step] ^= t;
        }
      }
    }
    for (int64_t r = 0; r < 64; ++r) to[r] = a[r];
  }
};

// tile[r * lanes + i] times `factor` where bit i of row r's words is set, 0 elsewhere; width in whole registers.
template <class T>
[[gnu::noinline]] inline void drop_tile(const uint64_t* words, int64_t words_a_row, int64_t rows, int64_t width,
                                        T factor, T* tile, int64_t lanes) {
  using I = simd_detail::IntOf<sizeof(T)>;
  const Vec<I> each(Raw<I>(Vec<I>(I{1}).v << iota<I>().v));
  const Vec<T> times(factor), zero(T(0));
  for (int64_t r = 0; r < rows; ++r, tile += lanes) {
    for (int64_t i = 0; i < width; i += kLanes<T>) {
      const Vec<I> bits(static_cast<I>(words[r * words_a_row + i / 64] >> (i % 64)));
      const Mask<T> kept((Raw<I>)((bits & each).v != Vec<I>(I{0}).v));
      store(tile + i, select(kept, load(tile + i) * times, zero));
    }
  }
}

// What a kept probability is multiplied by.
template <class T>
inline T kept_factor(const AttentionShape& s) {
  return s.dropout.p < 1 ? static_cast<T>(1 / (1 - s.dropout.p)) : T(0);
}

}  // namespace attention_detail
}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
