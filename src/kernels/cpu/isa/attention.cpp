// Attention by tiles of kQueries queries and kKeys keys that stay in the cache. The scores of a tile are kept
// transposed, a row per key with the queries in the lanes: then the softmax needs no sums across lanes, key and value
// are read as they lie, and the query (with the upstream gradient) is all that is transposed. A work item is a block of
// queries in the forward, a head in the backward (so that the sums of its key's and value's gradients have one order).

#include "kernels/attention.h"

#include "kernels/cpu/rows.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/tile_product.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kQueries = 32;
constexpr int64_t kKeys = 128;

template <class T>
int64_t padded(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// One head's arrays and a block of its queries.
template <class T>
struct Head {
  const T *query, *key, *value;
  const void* mask;
};
template <class T>
Head<T> head_of(const AttentionShape& s, int64_t index, const T* query, const T* key, const T* value) {
  const int64_t b = index / s.heads, h = index % s.heads;
  const int64_t mask = b * s.mask.batch + h * s.mask.head;
  const auto* bytes = static_cast<const char*>(s.mask.data);
  return {query + b * s.query.batch + h * s.query.head, key + b * s.key.batch + h * s.key.head,
          value + b * s.value.batch + h * s.value.head,
          bytes ? bytes + mask * (s.mask.boolean ? 1 : static_cast<int64_t>(sizeof(T))) : nullptr};
}

// What the mask adds at (query i, key j): 0 or -inf for a boolean one.
template <class T>
T mask_value(const AttentionShape& s, const void* mask, int64_t i, int64_t j) {
  const int64_t at = i * s.mask.row + j * s.mask.column;
  if (s.mask.boolean) return static_cast<const uint8_t*>(mask)[at] ? T(0) : -math_detail::kInf<T>;
  return static_cast<const T*>(mask)[at];
}

// Adds mask and causal limit to the scores (keys, lanes of queries) of a tile that starts at (i0, j0).
template <class T>
void add_mask(const AttentionShape& s, const void* mask, int64_t i0, int64_t queries, int64_t j0, int64_t keys,
              T* scores, int64_t lanes, T* room) {
  if (mask && s.mask.row == 0) {
    for (int64_t j = 0; j < keys; ++j) {
      const Vec<T> add = mask_value<T>(s, mask, 0, j0 + j);
      for (int64_t i = 0; i < lanes; i += kLanes<T>) store(scores + j * lanes + i, load(scores + j * lanes + i) + add);
    }
  } else if (mask) {
    // Row by row as it lies, then transposed.
    T* turned = room + kQueries * kKeys;
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < keys; ++j) room[i * kKeys + j] = mask_value<T>(s, mask, i0 + i, j0 + j);
    }
    transpose_tile(room, kKeys, queries, keys, T(1), turned, lanes);
    for (int64_t j = 0; j < keys * lanes; j += kLanes<T>) store(scores + j, load(scores + j) + load(turned + j));
  }
  if (s.causal && j0 + keys - 1 > i0) {
    using I = simd_detail::IntOf<sizeof(T)>;
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t first = j0 + j - i0;  // the first query of the block that sees the key
      for (int64_t i = 0; i < lanes && i < first; i += kLanes<T>) {
        const Mask<T> hidden((iota<I>() < Vec<I>(static_cast<I>(first - i))).v);
        T* at = scores + j * lanes + i;
        store(at, select(hidden, Vec<T>(-math_detail::kInf<T>), load(at)));
      }
    }
  }
}

// Rows of a head are short pieces far apart, which the hardware does not foresee: while one head is computed the next
// one's rows are asked for. kWrite: they will be written.
template <bool kWrite, class T>
void ask_for(const T* p, const HeadStrides& strides, int64_t offset, int64_t begin, int64_t end, int64_t size) {
  if (strides.row <= size) return;
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t e = 0; e < size; e += line) __builtin_prefetch(p + offset + r * strides.row + e, kWrite ? 1 : 0, 2);
  }
}

// Each query's largest score (infinity where it sees nothing) and one over its sum of exponentials.
template <class T>
struct RowStats {
  T *top, *inverse;
  RowStats(const AttentionShape& s, T* room, int64_t head) : top(room + head * s.queries) {
    inverse = top + s.batch * s.heads * s.queries;
  }
};

// ---- forward ------------------------------------------------------------------------------------------------------

template <class T>
struct ForwardRoom {
  T *turned, *scores, *mask, *top, *total, *correction;
  explicit ForwardRoom(const AttentionShape& s) {
    const int64_t sizes = padded<T>(s.head_size) * kQueries + kKeys * kQueries + 3 * kQueries;
    turned = scratch_of<T>(ScratchSlot::item, sizes + (s.mask.data ? 2 * kKeys * kQueries : 0));
    scores = turned + padded<T>(s.head_size) * kQueries;
    top = scores + kKeys * kQueries;
    total = top + kQueries;
    correction = total + kQueries;
    mask = correction + kQueries;
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

template <class T>
void forward_block(const AttentionShape& s, const Head<T>& head, int64_t i0, T* output, const RowStats<T>& stats) {
  const int64_t queries = s.queries - i0 < kQueries ? s.queries - i0 : kQueries, lanes = padded<T>(queries);
  const ForwardRoom<T> room(s);
  transpose_tile(head.query + i0 * s.query.row, s.query.row, queries, s.head_size, static_cast<T>(s.scale), room.turned,
                 lanes);
  const int64_t visible = s.causal && i0 + queries < s.keys ? i0 + queries : s.keys;
  for (int64_t j0 = 0; j0 < visible; j0 += kKeys) {
    const int64_t keys = visible - j0 < kKeys ? visible - j0 : kKeys;
    tile_product<T>({.m = keys,
                     .n = lanes,
                     .k = s.head_size,
                     .w = head.key + j0 * s.key.row,
                     .w_row = s.key.row,
                     .w_col = 1,
                     .x = room.turned,
                     .x_row = lanes,
                     .c = room.scores,
                     .c_row = lanes});
    if (head.mask || s.causal) add_mask(s, head.mask, i0, queries, j0, keys, room.scores, lanes, room.mask);
    softmax_tile(room.scores, keys, lanes, j0 == 0, room.top, room.total, room.correction);
    const bool last = j0 + kKeys >= visible;
    if (last) {
      for (int64_t i = 0; i < lanes; i += kLanes<T>) {
        const Vec<T> total = load(room.total + i);
        const Mask<T> nothing = total == T(0);
        const Vec<T> inverse = select(nothing, Vec<T>(T(0)), T(1) / total);
        const int64_t count = queries - i < kLanes<T> ? queries - i : int64_t{kLanes<T>};
        store_n(stats.top + i0 + i, count, select(nothing, Vec<T>(math_detail::kInf<T>), load(room.top + i)));
        store_n(stats.inverse + i0 + i, count, inverse);
        store(room.total + i, inverse);
      }
    }
    tile_product<T>({.m = queries,
                     .n = s.value_size,
                     .k = keys,
                     .w = room.scores,
                     .w_row = 1,
                     .w_col = lanes,
                     .x = head.value + j0 * s.value.row,
                     .x_row = s.value.row,
                     .c = output + i0 * s.output.row,
                     .c_row = s.output.row,
                     .add = j0 > 0,
                     .before = j0 > 0 ? room.correction : nullptr,
                     .after = last ? room.total : nullptr});
  }
}

// No keys at all.
template <class T>
void nothing_seen(const AttentionShape& s, T* output, const RowStats<T>& stats) {
  for (int64_t r = 0; r < s.batch * s.heads * s.queries; ++r) {
    const int64_t index = r / s.queries;
    T* row = output + index / s.heads * s.output.batch + index % s.heads * s.output.head + r % s.queries * s.output.row;
    for (int64_t e = 0; e < s.value_size; ++e) row[e] = T(0);
    stats.top[r] = math_detail::kInf<T>;
    stats.inverse[r] = T(0);
  }
}

// The next head's rows, a part of them with each of this head's blocks.
template <class T>
void ask_for_next(const AttentionShape& s, int64_t index, int64_t block, int64_t blocks, const T* query, const T* key,
                  const T* value) {
  if (index + 1 >= s.batch * s.heads) return;
  const int64_t b = (index + 1) / s.heads, h = (index + 1) % s.heads;
  const int64_t first = s.keys * block / blocks, last = s.keys * (block + 1) / blocks;
  ask_for<false>(key, s.key, b * s.key.batch + h * s.key.head, first, last, s.head_size);
  ask_for<false>(value, s.value, b * s.value.batch + h * s.value.head, first, last, s.value_size);
  ask_for<false>(query, s.query, b * s.query.batch + h * s.query.head, s.queries * block / blocks,
                 s.queries * (block + 1) / blocks, s.head_size);
}

template <class T>
void forward(const AttentionShape& s, const T* query, const T* key, const T* value, T* output, T* row_stats) {
  const int64_t blocks = (s.queries + kQueries - 1) / kQueries;
  if (s.keys == 0) return nothing_seen(s, output, RowStats<T>(s, row_stats, 0));
  // Nanoseconds of work in an item, roughly: an item should not be less than a few microseconds.
  const int64_t work = kQueries * s.keys * (s.head_size + s.value_size + 32) / 32;
  const int64_t grain = work > 20000 ? 1 : 20000 / (work > 0 ? work : 1);
  parallel_for(0, s.batch * s.heads * blocks, grain, [=](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t index = item / blocks, block = item % blocks;
      ask_for_next(s, index, block, blocks, query, key, value);
      T* out = output + index / s.heads * s.output.batch + index % s.heads * s.output.head;
      forward_block(s, head_of(s, index, query, key, value), block * kQueries, out, RowStats<T>(s, row_stats, index));
    }
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

template <class T>
struct BackwardRoom {
  T *query, *up, *scores, *slopes, *dots, *mask;
  explicit BackwardRoom(const AttentionShape& s) {
    const int64_t size = padded<T>(s.head_size), value_size = padded<T>(s.value_size);
    const int64_t tiles = (size + value_size + 2 * kKeys + 1) * kQueries;
    query = scratch_of<T>(ScratchSlot::item, tiles + (s.mask.data ? 2 * kKeys * kQueries : 0));
    up = query + size * kQueries;
    scores = up + value_size * kQueries;
    slopes = scores + kKeys * kQueries;
    dots = slopes + kKeys * kQueries;
    mask = dots + kQueries;
  }
};

// scores: S becomes P = exp(S - top) * inverse; slopes: dP becomes dS = P * (dP - dot) * scale.
template <class T>
void gradient_tile(T* scores, T* slopes, int64_t keys, int64_t lanes, const T* top, const T* inverse, const T* dots,
                   int64_t queries, T scale) {
  for (int64_t i = 0; i < lanes; i += kLanes<T>) {
    const int64_t count = queries - i < kLanes<T> ? queries - i : kLanes<T>;
    const Vec<T> shift = load_n(top + i, count), factor = load_n(inverse + i, count), dot = load(dots + i);
    for (int64_t j = 0; j < keys; ++j) {
      const Vec<T> p = math_detail::exp_bounded(load(scores + j * lanes + i) - shift) * factor;
      store(scores + j * lanes + i, p);
      store(slopes + j * lanes + i, p * ((load(slopes + j * lanes + i) - dot) * scale));
    }
  }
}

template <class T>
struct Gradients {
  T *query, *key, *value;
  int64_t query_row, key_row, value_row;
};

template <class T>
void backward_head(const AttentionShape& s, const Head<T>& head, const T* output, const RowStats<T>& stats, const T* up,
                   int64_t up_row, const Gradients<T>& d) {
  const BackwardRoom<T> room(s);
  for (int64_t i0 = 0; i0 < s.queries; i0 += kQueries) {
    const int64_t queries = s.queries - i0 < kQueries ? s.queries - i0 : kQueries, lanes = padded<T>(queries);
    const T *q = head.query + i0 * s.query.row, *g = up + i0 * up_row;
    transpose_tile(q, s.query.row, queries, s.head_size, static_cast<T>(s.scale), room.query, lanes);
    transpose_tile(g, up_row, queries, s.value_size, T(1), room.up, lanes);
    for (int64_t i = 0; i < lanes; ++i) room.dots[i] = 0;
    for (int64_t i = 0; i < queries; ++i) {
      const T *a = g + i * up_row, *b = output + (i0 + i) * s.output.row;
      room.dots[i] = row_sum<T>(
          s.value_size, [&](int64_t e) __attribute__((always_inline)) { return load(a + e) * load(b + e); },
          [&](int64_t e, int64_t c) __attribute__((always_inline)) { return load_n(a + e, c) * load_n(b + e, c); });
    }
    // With a causal limit later keys are not seen: the first block of queries that sees a key stores its gradient.
    const int64_t visible = s.causal && i0 + queries < s.keys ? i0 + queries : s.keys;
    for (int64_t j0 = 0; j0 < visible; j0 += kKeys) {
      const int64_t keys = visible - j0 < kKeys ? visible - j0 : kKeys;
      const T *k = head.key + j0 * s.key.row, *v = head.value + j0 * s.value.row;
      tile_product<T>({.m = keys,
                       .n = lanes,
                       .k = s.head_size,
                       .w = k,
                       .w_row = s.key.row,
                       .w_col = 1,
                       .x = room.query,
                       .x_row = lanes,
                       .c = room.scores,
                       .c_row = lanes});
      if (head.mask || s.causal) add_mask(s, head.mask, i0, queries, j0, keys, room.scores, lanes, room.mask);
      tile_product<T>({.m = keys,
                       .n = lanes,
                       .k = s.value_size,
                       .w = v,
                       .w_row = s.value.row,
                       .w_col = 1,
                       .x = room.up,
                       .x_row = lanes,
                       .c = room.slopes,
                       .c_row = lanes});
      gradient_tile(room.scores, room.slopes, keys, lanes, stats.top + i0, stats.inverse + i0, room.dots, queries,
                    static_cast<T>(s.scale));
      tile_product<T>({.m = queries,
                       .n = s.head_size,
                       .k = keys,
                       .w = room.slopes,
                       .w_row = 1,
                       .w_col = lanes,
                       .x = k,
                       .x_row = s.key.row,
                       .c = d.query + i0 * d.query_row,
                       .c_row = d.query_row,
                       .add = j0 > 0});
      // Keys below `known` have a gradient from earlier queries already.
      const int64_t known = i0 == 0 ? 0 : s.causal && i0 < s.keys ? i0 : s.keys;
      for (int part = 0; part < 2; ++part) {
        const int64_t begin = part == 0 ? 0 : (known > j0 ? (known < j0 + keys ? known - j0 : keys) : 0);
        const int64_t end = part == 0 ? (known > j0 ? (known < j0 + keys ? known - j0 : keys) : 0) : keys;
        if (begin >= end) continue;
        tile_product<T>({.m = end - begin,
                         .n = s.head_size,
                         .k = queries,
                         .w = room.slopes + begin * lanes,
                         .w_row = lanes,
                         .w_col = 1,
                         .x = q,
                         .x_row = s.query.row,
                         .c = d.key + (j0 + begin) * d.key_row,
                         .c_row = d.key_row,
                         .add = part == 0});
        tile_product<T>({.m = end - begin,
                         .n = s.value_size,
                         .k = queries,
                         .w = room.scores + begin * lanes,
                         .w_row = lanes,
                         .w_col = 1,
                         .x = g,
                         .x_row = up_row,
                         .c = d.value + (j0 + begin) * d.value_row,
                         .c_row = d.value_row,
                         .add = part == 0});
      }
    }
  }
  for (int64_t i = 0; s.keys == 0 && i < s.queries; ++i) {
    for (int64_t e = 0; e < s.head_size; ++e) d.query[i * d.query_row + e] = T(0);
  }
  // Keys that no query sees.
  const int64_t seen = s.queries == 0 ? 0 : s.causal && s.queries < s.keys ? s.queries : s.keys;
  for (int64_t j = seen; j < s.keys; ++j) {
    for (int64_t e = 0; e < s.head_size; ++e) d.key[j * d.key_row + e] = T(0);
    for (int64_t e = 0; e < s.value_size; ++e) d.value[j * d.value_row + e] = T(0);
  }
}

template <class T>
void backward(const AttentionShape& s, const T* query, const T* key, const T* value, const T* output,
              const T* row_stats, const T* grad_output, const HeadStrides& up, T* grad_query, const HeadStrides& dq,
              T* grad_key, const HeadStrides& dk, T* grad_value, const HeadStrides& dv) {
  const int64_t work = s.queries * s.keys * (s.head_size + s.value_size + 32) / 12;
  const int64_t grain = work > 20000 ? 1 : 20000 / (work > 0 ? work : 1);
  parallel_for(0, s.batch * s.heads, grain, [=](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t b = index / s.heads, h = index % s.heads;
      const auto at = [&](const HeadStrides& strides) { return b * strides.batch + h * strides.head; };
      if (index + 1 < s.batch * s.heads) {
        const int64_t nb = (index + 1) / s.heads, nh = (index + 1) % s.heads;
        const auto next = [&](const HeadStrides& strides) { return nb * strides.batch + nh * strides.head; };
        ask_for<false>(key, s.key, next(s.key), 0, s.keys, s.head_size);
        ask_for<false>(value, s.value, next(s.value), 0, s.keys, s.value_size);
        ask_for<false>(query, s.query, next(s.query), 0, s.queries, s.head_size);
        ask_for<false>(output, s.output, next(s.output), 0, s.queries, s.value_size);
        ask_for<false>(grad_output, up, next(up), 0, s.queries, s.value_size);
        ask_for<true>(grad_key, dk, next(dk), 0, s.keys, s.head_size);
        ask_for<true>(grad_value, dv, next(dv), 0, s.keys, s.value_size);
        ask_for<true>(grad_query, dq, next(dq), 0, s.queries, s.head_size);
      }
      const Gradients<T> d{grad_query + at(dq), grad_key + at(dk), grad_value + at(dv), dq.row, dk.row, dv.row};
      backward_head(s, head_of(s, index, query, key, value), output + at(s.output),
                    RowStats<T>(s, const_cast<T*>(row_stats), index), grad_output + at(up), up.row, d);
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
  f.backward = backward<T>;
  f.column_sums = column_sums<T>;
}

}  // namespace

void fill(AttentionKernels& kernels) {
  fill(kernels.f32);
  fill(kernels.f64);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
