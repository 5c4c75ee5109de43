// The gradients of attention, tile by tile of some keys and some queries. The scores of a tile are computed again, a
// row a query with the keys in the lanes: then all of a tile's keys and values are transposed once for all queries, a
// mask is added as it lies, and the key's and value's gradients are sums of whole rows of the tile,
//   dV^T (size, keys) += G^T P      dK^T (size, keys) += Q^T dS      dQ (queries, size) += dS K.
// Operands are copied to where a tile's rows lie together: rows of a packed projection are a multiple of 512 bytes
// apart and would share a few sets of the first-level cache.
//
// A work item is a head, or some of the key tiles of a head (a "group") where there are few heads: then the query's
// gradient is summed up in a copy for each group, and the copies are added in a fixed order. The groups depend on the
// shape alone, not on the threads.

#include "kernels/attention.h"
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/scratch.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

using namespace attention_detail;

constexpr int64_t kWantedItems = 16;
constexpr int64_t kMostGroups = 8;
constexpr double kGroupFlops = 4e6;  // what a group has to be worth

template <class T>
struct Plan {
  const AttentionShape& s;
  int64_t key_tile, query_block, tiles, groups;
  int64_t size, value_size;  // padded to whole registers

  explicit Plan(const AttentionShape& shape) : s(shape) {
    size = padded<T>(s.head_size), value_size = padded<T>(s.value_size);
    key_tile = size + value_size > 1024 / static_cast<int64_t>(sizeof(T)) ? 64 : 128;
    query_block = s.causal && s.keys <= 512 ? 32 : 64;
    tiles = (s.keys + key_tile - 1) / key_tile;
    const int64_t heads = most(1, s.batch * s.heads);
    const double flops = 2.0 * static_cast<double>(s.queries * s.keys) * static_cast<double>(3 * size + 2 * value_size);
    groups = least(least(tiles, kMostGroups), (kWantedItems + heads - 1) / heads);
    groups = most(1, least(groups, static_cast<int64_t>(flops * (s.causal ? 0.5 : 1) / kGroupFlops)));
  }
};

template <class T>
struct Room {
  T *key_turned, *value_turned, *key, *grad_key, *grad_value;  // of a tile of keys
  T *query, *up, *scores, *slopes;                             // of a block of queries
  T *dots, *rows;

  explicit Room(const Plan<T>& p) {
    const int64_t both = p.size + p.value_size;
    const int64_t of_keys = (2 * both + p.size) * p.key_tile, of_queries = (both + 2 * p.key_tile) * p.query_block;
    const int64_t dots_size = padded<T>(p.s.queries);
    const int64_t rows_size = most(p.size, p.value_size) * p.key_tile;
    T* at = scratch_of<T>(ScratchSlot::item, of_keys + of_queries + dots_size + rows_size);
    const auto take = [&](int64_t n) { return at += n, at - n; };
    key_turned = take(p.size * p.key_tile), value_turned = take(p.value_size * p.key_tile);
    key = take(p.size * p.key_tile);
    grad_key = take(p.size * p.key_tile), grad_value = take(p.value_size * p.key_tile);
    query = take(p.size * p.query_block), up = take(p.value_size * p.query_block);
    scores = take(p.key_tile * p.query_block), slopes = take(p.key_tile * p.query_block);
    dots = take(dots_size), rows = take(rows_size);
  }
};

// One head's arrays.
template <class T>
struct Task {
  Head<T> head;
  RowStats<T> stats;
  const T *output, *up;
  int64_t up_row;
  T *grad_query, *grad_key, *grad_value;
  int64_t grad_query_row, grad_key_row, grad_value_row;
};

// A tile: queries [i0, i0 + queries), keys [j0, j0 + keys), a row of the scores `lanes` wide.
struct Tile {
  int64_t i0, queries, j0, keys, lanes;
};

// Adds the mask and hides what the causal limit and the padding hide.
template <class T>
void hide(const AttentionShape& s, const void* mask, const Tile& t, T* scores) {
  using I = simd_detail::IntOf<sizeof(T)>;
  const Vec<T> none(-math_detail::kInf<T>);
  for (int64_t i = 0; i < t.queries; ++i) {
    T* row = scores + i * t.lanes;
    const int64_t width = padded<T>(t.keys);
    if (mask) {
      for (int64_t j = 0; j < t.keys; j += kLanes<T>) {
        store(row + j, load(row + j) + mask_values<T>(s, mask, t.i0 + i, t.j0 + j, t.keys - j));
      }
    }
    const int64_t seen = s.causal ? most(0, least(t.keys, t.i0 + i + 1 - t.j0)) : t.keys;
    for (int64_t j = seen / kLanes<T> * kLanes<T>; j < width; j += kLanes<T>) {
      const Mask<T> visible((iota<I>() < Vec<I>(static_cast<I>(seen - j))).v);
      store(row + j, select(visible, load(row + j), none));
    }
  }
}

// scores: S becomes P = exp(S - top) * inverse; slopes: dP becomes P * (dP - dot). Where all keys are in the tile dot
// is the sum of P * dP itself: with a saturated softmax it cancels dP to the last bit, which the product of the output
// and its gradient would not.
template <class T>
void gradient_rows(const Tile& t, const RowStats<T>& stats, const T* dots, bool whole, T* scores, T* slopes) {
  const int64_t width = padded<T>(t.keys);
  for (int64_t i = 0; i < t.queries; ++i, scores += t.lanes, slopes += t.lanes) {
    const Vec<T> shift(stats.top[t.i0 + i]), factor(stats.inverse[t.i0 + i]);
    if (whole) {
      Vec<T> sum(T(0));
      for (int64_t j = 0; j < width; j += kLanes<T>) {
        const Vec<T> p = math_detail::exp_bounded(load(scores + j) - shift) * factor;
        store(scores + j, p);
        sum = fma(p, load(slopes + j), sum);
      }
      const Vec<T> dot(reduce_add(sum));
      for (int64_t j = 0; j < width; j += kLanes<T>) {
        store(slopes + j, load(scores + j) * (load(slopes + j) - dot));
      }
      continue;
    }
    const Vec<T> dot(dots[t.i0 + i]);
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      const Vec<T> p = math_detail::exp_bounded(load(scores + j) - shift) * factor;
      store(scores + j, p);
      store(slopes + j, p * (load(slopes + j) - dot));
    }
  }
}

// dots[i] = grad_output . output of a row.
template <class T>
void fill_dots(const AttentionShape& s, const Task<T>& task, int64_t i0, int64_t queries, T* dots) {
  for (int64_t i = i0; i < i0 + queries; ++i) {
    const T *a = task.up + i * task.up_row, *b = task.output + i * s.output.row;
    dots[i] = row_sum<T>(
        s.value_size, [&](int64_t e) __attribute__((always_inline)) { return load(a + e) * load(b + e); },
        [&](int64_t e, int64_t c) __attribute__((always_inline)) { return load_n(a + e, c) * load_n(b + e, c); });
  }
}

// One tile's share of all three gradients. The tile's keys and values lie in the room; add: grad_query has a value.
template <class T>
void add_tile(const Plan<T>& p, const Task<T>& task, const Room<T>& room, Kept& kept, const Tile& t, bool add) {
  const AttentionShape& s = p.s;
  const int64_t width = padded<T>(t.keys);
  copy_rows(task.head.query + t.i0 * s.query.row, s.query.row, t.queries, s.head_size, static_cast<T>(s.scale),
            room.query, p.size);
  copy_rows(task.up + t.i0 * task.up_row, task.up_row, t.queries, s.value_size, T(1), room.up, p.value_size);
  const auto against_keys = [&](int64_t size, const T* rows, int64_t row, const T* turned, T* to) {
    tile_product<T>({.m = t.queries,
                     .n = width,
                     .k = size,
                     .w = rows,
                     .w_row = row,
                     .w_col = 1,
                     .x = turned,
                     .x_row = t.lanes,
                     .c = to,
                     .c_row = t.lanes});
  };
  against_keys(s.head_size, room.query, p.size, room.key_turned, room.scores);
  against_keys(s.value_size, room.up, p.value_size, room.value_turned, room.slopes);
  if (task.head.mask || width != t.keys || (s.causal && t.i0 < t.j0 + t.keys - 1)) {
    hide(s, task.head.mask, t, room.scores);
  }
  const auto drop = [&](T* tile) {
    drop_tile(kept.words, kDropWords, t.queries, width, kept_factor<T>(s), tile, t.lanes);
  };
  if (s.dropout.p > 0) {
    kept.draw(s, task.head.index, t.i0, t.queries, t.j0, t.keys);
    drop(room.slopes);
  }
  gradient_rows(t, task.stats, room.dots, p.tiles == 1, room.scores, room.slopes);
  if (s.dropout.p > 0) drop(room.scores);
  const auto over_queries = [&](int64_t size, const T* rows, int64_t row, const T* tile, T* sums) {
    tile_product<T>({.m = size,
                     .n = width,
                     .k = t.queries,
                     .w = rows,
                     .w_row = 1,
                     .w_col = row,
                     .x = tile,
                     .x_row = t.lanes,
                     .c = sums,
                     .c_row = t.lanes,
                     .add = true});
  };
  over_queries(s.value_size, room.up, p.value_size, room.scores, room.grad_value);
  over_queries(s.head_size, room.query, p.size, room.slopes, room.grad_key);
  tile_product<T>({.m = t.queries,
                   .n = s.head_size,
                   .k = t.keys,
                   .w = room.slopes,
                   .w_row = t.lanes,
                   .w_col = 1,
                   .x = room.key,
                   .x_row = p.size,
                   .c = task.grad_query + t.i0 * task.grad_query_row,
                   .c_row = task.grad_query_row,
                   .add = add});
}

// A group of a head's key tiles: group, group + groups, ...
template <class T>
void run_group(const Plan<T>& p, const Task<T>& task, int64_t group) {
  const AttentionShape& s = p.s;
  const Room<T> room(p);
  Kept kept(s);
  for (int64_t tile = group; tile < p.tiles; tile += p.groups) {
    const int64_t j0 = tile * p.key_tile, keys = least(p.key_tile, s.keys - j0), lanes = padded<T>(keys);
    const T *k = task.head.key + j0 * s.key.row, *v = task.head.value + j0 * s.value.row;
    transpose_tile(k, s.key.row, keys, s.head_size, T(1), room.key_turned, lanes);
    transpose_tile(v, s.value.row, keys, s.value_size, T(1), room.value_turned, lanes);
    copy_rows(k, s.key.row, keys, s.head_size, static_cast<T>(s.scale), room.key, p.size);
    zero_values(room.grad_key, s.head_size * lanes);
    zero_values(room.grad_value, s.value_size * lanes);
    // With a causal limit the queries before the tile's first key see nothing of it, and those at its height not all.
    for (int64_t i0 = s.causal ? j0 / p.query_block * p.query_block : 0; i0 < s.queries; i0 += p.query_block) {
      const int64_t queries = least(p.query_block, s.queries - i0);
      const int64_t seen = s.causal ? least(keys, i0 + queries - j0) : keys;
      if (tile == group && p.tiles > 1) fill_dots(s, task, i0, queries, room.dots);
      add_tile(p, task, room, kept, {i0, queries, j0, seen, lanes}, tile != group);
    }
    store_turned(room.grad_key, lanes, s.head_size, keys, task.grad_key + j0 * task.grad_key_row, task.grad_key_row,
                 room.rows);
    store_turned(room.grad_value, lanes, s.value_size, keys, task.grad_value + j0 * task.grad_value_row,
                 task.grad_value_row, room.rows);
  }
}

// While head `index` is computed the next one's rows are asked for.
template <class T>
void ask_for_next(const AttentionShape& s, int64_t index, const T* query, const T* key, const T* value, const T* up,
                  const HeadStrides& up_strides, T* grad_query, const HeadStrides& dq, T* grad_key,
                  const HeadStrides& dk, T* grad_value, const HeadStrides& dv) {
  if (index + 1 >= s.batch * s.heads) return;
  const auto ask = [&](const T* p, const HeadStrides& strides, int64_t rows, int64_t size) {
    ask_for<false>(p + offset_of(s, strides, index + 1), strides, 0, rows, size);
  };
  const auto ask_to_write = [&](const T* p, const HeadStrides& strides, int64_t rows, int64_t size) {
    ask_for<true>(p + offset_of(s, strides, index + 1), strides, 0, rows, size);
  };
  ask(key, s.key, s.keys, s.head_size);
  ask(value, s.value, s.keys, s.value_size);
  ask(query, s.query, s.queries, s.head_size);
  ask(up, up_strides, s.queries, s.value_size);
  ask_to_write(grad_key, dk, s.keys, s.head_size);
  ask_to_write(grad_value, dv, s.keys, s.value_size);
  ask_to_write(grad_query, dq, s.queries, s.head_size);
}

// grad_query += the sums of groups 1, 2, ..., which a causal limit leaves unwritten above their first key.
template <class T>
void add_groups(const Plan<T>& p, const T* sums, T* grad_query, const HeadStrides& dq) {
  const AttentionShape& s = p.s;
  const int64_t of_head = s.queries * p.size;
  parallel_for(0, s.batch * s.heads * s.queries, most(1, 16384 / p.size), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t index = r / s.queries, i = r % s.queries;
      T* to = grad_query + offset_of(s, dq, index) + i * dq.row;
      for (int64_t e = 0; e < s.head_size; e += kLanes<T>) {
        const int64_t count = least(kLanes<T>, s.head_size - e);
        Vec<T> sum = load_n(to + e, count);
        for (int64_t group = 1; group < p.groups; ++group) {
          if (s.causal && group * p.key_tile / p.query_block * p.query_block > i) break;
          sum += load(sums + (index * (p.groups - 1) + group - 1) * of_head + i * p.size + e);
        }
        store_n(to + e, count, sum);
      }
    }
  });
}

template <class T>
void zero_rows(const AttentionShape& s, int64_t rows, int64_t size, T* to, const HeadStrides& strides) {
  for (int64_t index = 0; index < s.batch * s.heads; ++index) {
    for (int64_t r = 0; r < rows; ++r) zero_values(to + offset_of(s, strides, index) + r * strides.row, size);
  }
}

}  // namespace

template <class T>
void attention_backward(const AttentionShape& s, const T* query, const T* key, const T* value, const T* output,
                        const T* row_stats, const T* grad_output, const HeadStrides& up, T* grad_query,
                        const HeadStrides& dq, T* grad_key, const HeadStrides& dk, T* grad_value,
                        const HeadStrides& dv) {
  if (s.keys == 0 || s.queries == 0) {
    zero_rows(s, s.queries, s.head_size, grad_query, dq);
    zero_rows(s, s.keys, s.head_size, grad_key, dk);
    zero_rows(s, s.keys, s.value_size, grad_value, dv);
    return;
  }
  if (few_queries_pay(s, true)) {
    return few_backward(s, query, key, value, output, row_stats, grad_output, up, grad_query, dq, grad_key, dk,
                        grad_value, dv);
  }
  const Plan<T> p(s);
  const int64_t of_head = s.queries * p.size;  // of a group's sums
  T* sums = nullptr;
  if (p.groups > 1) sums = scratch_of<T>(ScratchSlot::shared, s.batch * s.heads * (p.groups - 1) * of_head);
  const int64_t work = s.queries * s.keys * (s.head_size + s.value_size + 32) / (12 * p.groups);
  const int64_t grain = work > 20000 ? 1 : 20000 / (work > 0 ? work : 1);
  parallel_for(0, s.batch * s.heads * p.groups, grain, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t index = item / p.groups, group = item % p.groups;
      if (group == 0) {
        ask_for_next(s, index, query, key, value, grad_output, up, grad_query, dq, grad_key, dk, grad_value, dv);
      }
      T* own =
          group == 0 ? grad_query + offset_of(s, dq, index) : sums + (index * (p.groups - 1) + group - 1) * of_head;
      const Task<T> task{head_of(s, index, query, key, value),
                         RowStats<T>(s, const_cast<T*>(row_stats), index),
                         output + offset_of(s, s.output, index),
                         grad_output + offset_of(s, up, index),
                         up.row,
                         own,
                         grad_key + offset_of(s, dk, index),
                         grad_value + offset_of(s, dv, index),
                         group == 0 ? dq.row : p.size,
                         dk.row,
                         dv.row};
      run_group(p, task, group);
    }
  });
  if (p.groups > 1) add_groups(p, sums, grad_query, dq);
}

template void attention_backward<float>(const AttentionShape&, const float*, const float*, const float*, const float*,
                                        const float*, const float*, const HeadStrides&, float*, const HeadStrides&,
                                        float*, const HeadStrides&, float*, const HeadStrides&);
template void attention_backward<double>(const AttentionShape&, const double*, const double*, const double*,
                                         const double*, const double*, const double*, const HeadStrides&, double*,
                                         const HeadStrides&, double*, const HeadStrides&, double*, const HeadStrides&);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
