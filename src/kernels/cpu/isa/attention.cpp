// Attention by tiles of some queries and kKeys keys that stay in the cache. The scores of a tile are kept transposed, a
// row per key with the queries in the lanes: then the softmax needs no sums across lanes, key and value are read as
// they lie, and the output is summed up transposed as well. A work item is a block of queries. attention_backward.cpp
// has the gradients.

#include "kernels/attention.h"

#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/scratch.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

using namespace attention_detail;

constexpr int64_t kKeys = 128;
constexpr int64_t kMostQueries = 64;
constexpr int64_t kCopyBytes = 512 * 1024;  // of a head's keys and values that are copied together

// Queries of a block: fewer where a causal limit leaves much of a short tile unseen.
int64_t block_of(const AttentionShape& s) { return s.causal && s.keys <= 512 ? kMostQueries / 2 : kMostQueries; }

// Adds mask and causal limit to the scores (keys, lanes of queries) of a tile that starts at (i0, j0).
template <class T>
void add_mask(const AttentionShape& s, const void* mask, int64_t i0, int64_t queries, int64_t j0, int64_t keys,
              T* scores, int64_t lanes, T* room) {
  if (mask && s.mask.row == 0) {
    for (int64_t j = 0; j < keys; j += kLanes<T>) {
      store(room, mask_values<T>(s, mask, 0, j0 + j, keys - j));
      for (int64_t k = j; k < keys && k < j + kLanes<T>; ++k) {
        const Vec<T> add(room[k - j]);
        for (int64_t i = 0; i < lanes; i += kLanes<T>) {
          store(scores + k * lanes + i, load(scores + k * lanes + i) + add);
        }
      }
    }
  } else if (mask) {
    // Row by row as it lies, then transposed.
    T* turned = room + kMostQueries * kKeys;
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < keys; j += kLanes<T>) {
        store(room + i * kKeys + j, mask_values<T>(s, mask, i0 + i, j0 + j, keys - j));
      }
    }
    transpose_tile(room, kKeys, queries, keys, T(1), turned, lanes);
    for (int64_t j = 0; j < keys * lanes; j += kLanes<T>) store(scores + j, load(scores + j) + load(turned + j));
  }
  if (s.causal && j0 + keys - 1 > i0) {
    using I = simd_detail::IntOf<sizeof(T)>;
    for (int64_t j = most(0, i0 - j0 + 1); j < keys; ++j) {
      const int64_t first = j0 + j - i0;  // the first query of the block that sees the key
      for (int64_t i = 0; i < lanes && i < first; i += kLanes<T>) {
        const Mask<T> hidden((iota<I>() < Vec<I>(static_cast<I>(first - i))).v);
        T* at = scores + j * lanes + i;
        store(at, select(hidden, Vec<T>(-math_detail::kInf<T>), load(at)));
      }
    }
  }
}

template <class T>
struct Room {
  T *turned, *scores, *output, *rows, *top, *total, *correction, *mask;
  explicit Room(const AttentionShape& s) {
    const int64_t size = padded<T>(s.head_size), value_size = padded<T>(s.value_size);
    const int64_t wide = size + kKeys + 2 * value_size + 3 + (s.mask.data ? 2 * kKeys : 0);
    T* at = scratch_of<T>(ScratchSlot::item, wide * kMostQueries);
    const auto take = [&](int64_t n) { return at += n * kMostQueries, at - n * kMostQueries; };
    turned = take(size), scores = take(kKeys), output = take(value_size), rows = take(value_size);
    top = take(1), total = take(1), correction = take(1), mask = at;
  }
};

// The scores of a tile become exp(score - maximum); maximum and total are carried from tile to tile and `correction` is
// what the sums of earlier tiles have to be multiplied by.
template <class T>
void softmax_tile(T* scores, int64_t keys, int64_t lanes, bool first, T* top, T* total, T* correction) {
  for (int64_t i = 0; i < lanes; i += kLanes<T>) {
    T* at = scores + i;
    const Vec<T> before = first ? Vec<T>(-math_detail::kInf<T>) : load(top + i);
    Vec<T> m = before, m2 = before;
    int64_t j = 0;
    for (; j + 2 <= keys; j += 2) {
      m = max(m, load(at + j * lanes));
      m2 = max(m2, load(at + (j + 1) * lanes));
    }
    if (j < keys) m = max(m, load(at + j * lanes));
    m = max(m, m2);
    // A row that has seen nothing yet: exp(-inf - 0) = 0 instead of exp(-inf + inf).
    const Vec<T> shift = select(m == -math_detail::kInf<T>, Vec<T>(T(0)), m);
    Vec<T> sum = T(0), sum2 = T(0);
    for (j = 0; j + 2 <= keys; j += 2) {
      const Vec<T> a = math_detail::exp_bounded(load(at + j * lanes) - shift);
      const Vec<T> b = math_detail::exp_bounded(load(at + (j + 1) * lanes) - shift);
      store(at + j * lanes, a);
      store(at + (j + 1) * lanes, b);
      sum += a;
      sum2 += b;
    }
    if (j < keys) {
      const Vec<T> a = math_detail::exp_bounded(load(at + j * lanes) - shift);
      store(at + j * lanes, a);
      sum += a;
    }
    sum = sum + sum2;
    store(top + i, m);
    if (first) {
      store(total + i, sum);
    } else {
      const Vec<T> factor = math_detail::exp_bounded(before - shift);
      store(correction + i, factor);
      store(total + i, fma(load(total + i), factor, sum));
    }
  }
}

// The output so far, (size, lanes), times a factor of each query.
template <class T>
void scale_output(int64_t size, int64_t lanes, const T* factors, T* output) {
  for (int64_t i = 0; i < lanes; i += kLanes<T>) {
    const Vec<T> factor = load(factors + i);
    for (int64_t e = 0; e < size; ++e) store(output + e * lanes + i, load(output + e * lanes + i) * factor);
  }
}

// The statistics of a block after its last tile; total becomes one over the sum.
template <class T>
void finish_stats(const Room<T>& room, const RowStats<T>& stats, int64_t i0, int64_t queries) {
  for (int64_t i = 0; i < queries; i += kLanes<T>) {
    const Vec<T> total = load(room.total + i);
    const Mask<T> nothing = total == T(0);
    const Vec<T> inverse = select(nothing, Vec<T>(T(0)), T(1) / total);
    const int64_t count = least(kLanes<T>, queries - i);
    store_n(stats.top + i0 + i, count, select(nothing, Vec<T>(math_detail::kInf<T>), load(room.top + i)));
    store_n(stats.inverse + i0 + i, count, inverse);
    store(room.total + i, inverse);
  }
}

// Queries [i0, i0 + queries) of a head; key and value have rows of their own strides here.
template <class T>
void forward_block(const AttentionShape& s, const Head<T>& head, int64_t key_row, int64_t value_row, int64_t i0,
                   int64_t queries, T* output, const RowStats<T>& stats) {
  const int64_t lanes = padded<T>(queries);
  const Room<T> room(s);
  transpose_tile(head.query + i0 * s.query.row, s.query.row, queries, s.head_size, static_cast<T>(s.scale), room.turned,
                 lanes);
  const int64_t visible = s.causal ? least(s.keys, i0 + queries) : s.keys;
  Kept kept(s);
  for (int64_t j0 = 0; j0 < visible; j0 += kKeys) {
    const int64_t keys = least(kKeys, visible - j0);
    tile_product<T>({.m = keys,
                     .n = lanes,
                     .k = s.head_size,
                     .w = head.key + j0 * key_row,
                     .w_row = key_row,
                     .w_col = 1,
                     .x = room.turned,
                     .x_row = lanes,
                     .c = room.scores,
                     .c_row = lanes});
    if (head.mask || s.causal) add_mask(s, head.mask, i0, queries, j0, keys, room.scores, lanes, room.mask);
    softmax_tile(room.scores, keys, lanes, j0 == 0, room.top, room.total, room.correction);
    if (s.dropout.p > 0) {
      kept.draw(s, head.index, i0, queries, j0, keys);
      kept.turn(queries);
      drop_tile(kept.words, 1, keys, lanes, kept_factor<T>(s), room.scores, lanes);
    }
    if (j0 > 0) scale_output(s.value_size, lanes, room.correction, room.output);
    tile_product<T>({.m = s.value_size,
                     .n = lanes,
                     .k = keys,
                     .w = head.value + j0 * value_row,
                     .w_row = 1,
                     .w_col = value_row,
                     .x = room.scores,
                     .x_row = lanes,
                     .c = room.output,
                     .c_row = lanes,
                     .add = j0 > 0});
  }
  finish_stats(room, stats, i0, queries);
  scale_output(s.value_size, lanes, room.total, room.output);
  store_turned(room.output, lanes, s.value_size, queries, output + i0 * s.output.row, s.output.row, room.rows);
}

// ---- all of it ----------------------------------------------------------------------------------------------------

// No keys at all.
template <class T>
void nothing_seen(const AttentionShape& s, T* output, const RowStats<T>& stats) {
  for (int64_t r = 0; r < s.batch * s.heads * s.queries; ++r) {
    T* row = output + offset_of(s, s.output, r / s.queries) + r % s.queries * s.output.row;
    zero_values(row, s.value_size);
    stats.top[r] = math_detail::kInf<T>;
    stats.inverse[r] = T(0);
  }
}

// The next head's rows, a part of them with each of this head's blocks.
template <class T>
void ask_for_next(const AttentionShape& s, int64_t index, int64_t block, int64_t blocks, const T* query, const T* key,
                  const T* value) {
  if (++index >= s.batch * s.heads) return;
  const int64_t first = s.keys * block / blocks, last = s.keys * (block + 1) / blocks;
  ask_for<false>(key + offset_of(s, s.key, index), s.key, first, last, s.head_size);
  ask_for<false>(value + offset_of(s, s.value, index), s.value, first, last, s.value_size);
  ask_for<false>(query + offset_of(s, s.query, index), s.query, s.queries * block / blocks,
                 s.queries * (block + 1) / blocks, s.head_size);
}

template <class T>
void forward(const AttentionShape& s, const T* query, const T* key, const T* value, T* output, T* row_stats) {
  if (s.keys == 0) return nothing_seen(s, output, RowStats<T>(s, row_stats, 0));
  if (few_queries_pay(s, false)) return few_forward(s, query, key, value, output, row_stats);
  const int64_t step = block_of(s), blocks = (s.queries + step - 1) / step;
  // Rows of a packed projection are a multiple of 512 bytes apart and would share a few sets of the first-level cache:
  // a head's keys and values are copied to where they lie together, once for all its blocks.
  const int64_t size = padded<T>(s.head_size), value_size = padded<T>(s.value_size);
  const int64_t copy_values = s.keys * (size + value_size);
  const bool copies = (s.key.row > size || s.value.row > value_size) && s.queries > 16 &&
                      copy_values * static_cast<int64_t>(sizeof(T)) <= kCopyBytes;
  // Nanoseconds of work in an item, roughly: an item should not be less than a few microseconds.
  const int64_t work = step * s.keys * (s.head_size + s.value_size + 32) / 32;
  int64_t grain = work > 20000 ? 1 : 20000 / (work > 0 ? work : 1);
  if (copies && s.batch * s.heads >= 8) grain = most(grain, blocks);
  parallel_for(0, s.batch * s.heads * blocks, grain, [=](int64_t begin, int64_t end) {
    int64_t copied = -1;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t index = item / blocks, block = item % blocks;
      ask_for_next(s, index, block, blocks, query, key, value);
      Head<T> head = head_of(s, index, query, key, value);
      int64_t key_row = s.key.row, value_row = s.value.row;
      if (copies) {
        T* room = scratch_of<T>(ScratchSlot::item2, copy_values);
        if (copied != index) {
          copy_rows(head.key, s.key.row, s.keys, s.head_size, T(1), room, size);
          copy_rows(head.value, s.value.row, s.keys, s.value_size, T(1), room + s.keys * size, value_size);
          copied = index;
        }
        head.key = room, head.value = room + s.keys * size, key_row = size, value_row = value_size;
      }
      forward_block(s, head, key_row, value_row, block * step, least(step, s.queries - block * step),
                    output + offset_of(s, s.output, index), RowStats<T>(s, row_stats, index));
    }
  });
}

// ---- column sums --------------------------------------------------------------------------------------------------

template <class T>
void column_sums(int64_t rows, int64_t n, const T* x, int64_t stride, T* out) {
  constexpr int64_t strip = 4 * kLanes<T>;
  const int64_t strips = (n + strip - 1) / strip;
  const int64_t work = rows * strip;
  parallel_for(0, strips, work > 16384 ? 1 : 16384 / (work > 0 ? work : 1), [=](int64_t b, int64_t e) {
    for (int64_t i = b * strip; i < e * strip && i < n; i += kLanes<T>) {
      const int64_t count = n - i < kLanes<T> ? n - i : kLanes<T>;
      Vec<T> total = T(0);
      for (int64_t start = 0; start < rows; start += 64) {
        const int64_t stop = rows - start < 64 ? rows : start + 64;
        Vec<T> s = T(0);
        for (int64_t r = start; r < stop; ++r) s += load_n(x + r * stride + i, count);
        total += s;
      }
      store_n(out + i, count, total);
    }
  });
}

template <class T>
void fill(AttentionFunctions<T>& f) {
  f.forward = forward<T>;
  f.backward = attention_backward<T>;
  f.column_sums = column_sums<T>;
}

}  // namespace

void fill(AttentionKernels& kernels) {
  fill(kernels.f32);
  fill(kernels.f64);
  kernels.drops = true;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
