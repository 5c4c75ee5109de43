// Attention of one query or a few, a step of generation: in the lanes they would leave most of them empty, so the keys
// go there, and what is read or written once for every key is all that it costs.
//
// The backward walks over the keys once, some rows of them at a time while they are in the cache:
//   P = exp(q K^T - top) * inverse    dP = g V^T    dS = P (dP - dot)
//   dV = P^T g    dK = dS^T q    dq += dS K
// A work item is a head, or some runs of its keys where there are few heads; then the query's gradient is summed for
// each of them alone and the sums are added in order.

#include "kernels/attention.h"
#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/scratch.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

using namespace attention_detail;

constexpr int64_t kRowChunk = 256;  // keys whose rows stay in the cache for all queries

// scores[j] = q . key j for j < keys; q is padded with zeros to whole registers. Writes whole registers.
template <class T>
void score_row(const T* q, const T* key, int64_t key_row, int64_t keys, int64_t size, T* scores) {
  constexpr int N = kLanes<T>;
  for (int64_t j = 0; j < keys; j += N) {
    Vec<T> sums[N];
    for (int r = 0; r < N; ++r) sums[r] = Vec<T>(T(0));
    const int64_t count = least(N, keys - j);
    int64_t e = 0;
    for (; e + N <= size; e += N) {
      const Vec<T> x = load(q + e);
      const T* at = key + j * key_row + e;
      if (count == N) {
#pragma GCC unroll 16
        for (int r = 0; r < N; ++r) sums[r] = fma(x, load(at + r * key_row), sums[r]);
      } else {
        for (int64_t r = 0; r < count; ++r) sums[r] = fma(x, load(at + r * key_row), sums[r]);
      }
    }
    if (e < size) {
      const Vec<T> x = load(q + e);
      for (int64_t r = 0; r < count; ++r) {
        sums[r] = fma(x, load_n(key + (j + r) * key_row + e, size - e), sums[r]);
      }
    }
    tile_detail::stages<1>(sums);
    Vec<T> total = sums[0];
    for (int r = 1; r < N; ++r) total += sums[r];
    store(scores + j, total);
  }
}

// A row of scores becomes exp(score - maximum); its statistics.
template <class T>
void softmax_row(T* scores, int64_t keys, T& top, T& inverse) {
  const Vec<T> none(-math_detail::kInf<T>);
  const int64_t width = padded<T>(keys);
  const Mask<T> rest = first_lanes<T>(keys - (width - kLanes<T>));
  store(scores + width - kLanes<T>, select(rest, load(scores + width - kLanes<T>), none));
  Vec<T> m = none;
  for (int64_t j = 0; j < width; j += kLanes<T>) m = max_nan(m, load(scores + j));
  const T highest = reduce_max(m);
  const Vec<T> shift(highest == -math_detail::kInf<T> ? T(0) : highest);
  Vec<T> sum(T(0));
  for (int64_t j = 0; j < width; j += kLanes<T>) {
    const Vec<T> p = math_detail::exp_bounded(load(scores + j) - shift);
    store(scores + j, p);
    sum += p;
  }
  const T total = reduce_add(sum);
  top = total == T(0) ? math_detail::kInf<T> : highest;
  inverse = total == T(0) ? T(0) : T(1) / total;
}

// out[e] += sum over j < keys of p[j] * value[j][e] for V registers, of which the last has `last` values. Few registers
// take several keys at a time: one chain of sums would wait for itself.
template <class T, int V, bool kWhole>
void add_rows(const T* p, const T* value, int64_t value_row, int64_t keys, int64_t last, T* out) {
  constexpr int kKeys = V == 1 ? 8 : V == 2 ? 4 : V == 3 ? 3 : 2;
  Vec<T> sums[kKeys][V];
  for (int k = 0; k < kKeys; ++k) {
    for (int v = 0; v < V; ++v) sums[k][v] = k == 0 ? load(out + v * kLanes<T>) : Vec<T>(T(0));
  }
  const auto add = [&](const T* at, T factor, Vec<T>(&to)[V]) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const T* const x = at + v * kLanes<T>;
      to[v] = fma(Vec<T>(factor), kWhole || v < V - 1 ? load(x) : load_n(x, last), to[v]);
    }
  };
  int64_t j = 0;
  for (; j + kKeys <= keys; j += kKeys, value += kKeys * value_row) {
#pragma GCC unroll 8
    for (int k = 0; k < kKeys; ++k) add(value + k * value_row, p[j + k], sums[k]);
  }
  for (; j < keys; ++j, value += value_row) add(value, p[j], sums[0]);
  for (int v = 0; v < V; ++v) {
    for (int k = 1; k < kKeys; ++k) sums[0][v] += sums[k][v];
    store(out + v * kLanes<T>, sums[0][v]);
  }
}
template <class T>
void add_values(const T* p, const T* value, int64_t value_row, int64_t keys, int64_t size, T* out) {
  for (int64_t e = 0; e < size; e += 4 * kLanes<T>) {
    const int64_t left = size - e, registers = least(4, padded<T>(left) / kLanes<T>);
    const int64_t last = least(kLanes<T>, left - (registers - 1) * kLanes<T>);
    const auto pick = [&]<bool kWhole>() {
      return registers == 1   ? add_rows<T, 1, kWhole>
             : registers == 2 ? add_rows<T, 2, kWhole>
             : registers == 3 ? add_rows<T, 3, kWhole>
                              : add_rows<T, 4, kWhole>;
    };
    const auto run = last == kLanes<T> ? pick.template operator()<true>() : pick.template operator()<false>();
    run(p, value + e, value_row, keys, last, out + e);
  }
}

template <class T>
int64_t seen_keys(const AttentionShape& s, int64_t i) {
  return s.causal ? least(s.keys, i + 1) : s.keys;
}

// The scores of keys [first, last), rows `width` apart.
template <class T>
void few_scores(const AttentionShape& s, const Head<T>& head, int64_t first, int64_t last, int64_t width, T* scores) {
  const int64_t size = padded<T>(s.head_size);
  T* const q = scratch_of<T>(ScratchSlot::item, s.queries * size);
  copy_rows(head.query, s.query.row, s.queries, s.head_size, static_cast<T>(s.scale), q, size);
  for (int64_t j = first; j < last; j += kRowChunk) {
    for (int64_t i = 0; i < s.queries; ++i) {
      const int64_t keys = least(kRowChunk, last - j);
      T* const row = scores + i * width + j;
      score_row(q + i * size, head.key + j * s.key.row, s.key.row, keys, s.head_size, row);
      for (int64_t k = 0; head.mask && k < keys; k += kLanes<T>) {
        store(row + k, load(row + k) + mask_values<T>(s, head.mask, i, j + k, keys - k));
      }
    }
  }
}

// out (queries, padded value size) = the sum of the values of keys [first, last) times their exponentials.
template <class T>
void few_values(const AttentionShape& s, const Head<T>& head, int64_t first, int64_t last, int64_t width,
                const T* scores, T* out) {
  const int64_t value_size = padded<T>(s.value_size);
  zero_values(out, s.queries * value_size);
  for (int64_t j = first; j < last; j += kRowChunk) {
    for (int64_t i = 0; i < s.queries; ++i) {
      const int64_t keys = least(least(kRowChunk, last - j), seen_keys<T>(s, i) - j);
      if (keys <= 0) continue;
      add_values(scores + i * width + j, head.value + j * s.value.row, s.value.row, keys, s.value_size,
                 out + i * value_size);
    }
  }
}

// Runs of keys of a head that are work items of their own, where there are few heads. From the shape alone, so that
// sums do not depend on the number of threads.
inline int64_t few_parts(const AttentionShape& s) {
  const int64_t heads = s.batch * s.heads;
  return heads >= 8 || s.keys < 1024 ? 1 : least(s.keys / 512, (16 + heads - 1) / heads);
}

// Keys of a part.
inline int64_t few_step(const AttentionShape& s, int64_t parts) {
  return (s.keys + parts * kRowChunk - 1) / (parts * kRowChunk) * kRowChunk;
}

// All rows of head `index` become exponentials, some of them dropped; their statistics.
template <class T>
void few_softmax(const AttentionShape& s, int64_t index, const RowStats<T>& stats, int64_t width, T* scores) {
  for (int64_t i = 0; i < s.queries; ++i) {
    softmax_row(scores + i * width, seen_keys<T>(s, i), stats.top[i], stats.inverse[i]);
  }
  if (s.dropout.p == 0) return;
  Kept kept(s);
  for (int64_t i = 0; i < s.queries; ++i) {
    for (int64_t j = 0; j < s.keys; j += 64 * kDropWords) {
      const int64_t keys = least(64 * kDropWords, s.keys - j);
      kept.draw(s, index, i, 1, j, keys);
      drop_tile(kept.words, kDropWords, 1, padded<T>(keys), kept_factor<T>(s), scores + i * width + j, width);
    }
  }
}

// One head's output from the sums of its parts, (parts, queries, padded value size).
template <class T>
void few_finish(const AttentionShape& s, const RowStats<T>& stats, int64_t parts, const T* sums, T* output) {
  const int64_t value_size = padded<T>(s.value_size);
  for (int64_t i = 0; i < s.queries; ++i, output += s.output.row) {
    const Vec<T> factor(stats.inverse[i]);
    for (int64_t e = 0; e < s.value_size; e += kLanes<T>) {
      Vec<T> sum = load(sums + i * value_size + e);
      for (int64_t part = 1; part < parts; ++part) sum += load(sums + (part * s.queries + i) * value_size + e);
      store_n(output + e, least(kLanes<T>, s.value_size - e), sum * factor);
    }
  }
}

}  // namespace

template <class T>
void few_forward(const AttentionShape& s, const T* query, const T* key, const T* value, T* output, T* row_stats) {
  const int64_t heads = s.batch * s.heads, parts = few_parts(s);
  const int64_t width = padded<T>(s.keys), sums_size = s.queries * padded<T>(s.value_size);
  const int64_t work = s.queries * s.keys * (s.head_size + s.value_size) / 8;
  if (parts == 1) {
    parallel_for(0, heads, 1 + 20000 / most(1, work), [=](int64_t begin, int64_t end) {
      T* const scores = scratch_of<T>(ScratchSlot::item2, s.queries * width + sums_size);
      for (int64_t index = begin; index < end; ++index) {
        const Head<T> head = head_of(s, index, query, key, value);
        const RowStats<T> stats(s, row_stats, index);
        few_scores(s, head, 0, s.keys, width, scores);
        few_softmax(s, index, stats, width, scores);
        few_values(s, head, 0, s.keys, width, scores, scores + s.queries * width);
        few_finish(s, stats, 1, scores + s.queries * width, output + offset_of(s, s.output, index));
      }
    });
    return;
  }
  const int64_t step = few_step(s, parts);
  T* const scores = scratch_of<T>(ScratchSlot::shared, heads * (s.queries * width + parts * sums_size));
  T* const sums = scores + heads * s.queries * width;
  const auto over_parts = [&](auto body) {
    parallel_for(0, heads * parts, 1 + 40000 * parts / most(1, work), [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t index = item / parts, first = least(s.keys, item % parts * step);
        body(item, index, head_of(s, index, query, key, value), first, least(s.keys, first + step));
      }
    });
  };
  over_parts([&](int64_t, int64_t index, const Head<T>& head, int64_t first, int64_t last) {
    few_scores(s, head, first, last, width, scores + index * s.queries * width);
  });
  for (int64_t index = 0; index < heads; ++index) {
    few_softmax(s, index, RowStats<T>(s, row_stats, index), width, scores + index * s.queries * width);
  }
  over_parts([&](int64_t item, int64_t index, const Head<T>& head, int64_t first, int64_t last) {
    few_values(s, head, first, last, width, scores + index * s.queries * width, sums + item * sums_size);
  });
  for (int64_t index = 0; index < heads; ++index) {
    few_finish(s, RowStats<T>(s, row_stats, index), parts, sums + index * parts * sums_size,
               output + offset_of(s, s.output, index));
  }
}

// ---- the gradients ------------------------------------------------------------------------------------------------

namespace {

// to[j][e] = sum over rows i of p[i * width + j] * x[i * x_row + e] for j < keys, e < size; x has whole registers.
template <class T>
void outer_rows(const T* p, int64_t width, int64_t rows, const T* x, int64_t x_row, int64_t keys, int64_t size, T* to,
                int64_t to_row) {
  constexpr int kWide = 4;
  int64_t e = 0;
  for (; e + kWide * kLanes<T> <= size; e += kWide * kLanes<T>) {
    for (int64_t j = 0; j < keys; ++j) {
      Vec<T> sums[kWide];
      const Vec<T> first(p[j]);
#pragma GCC unroll 4
      for (int v = 0; v < kWide; ++v) sums[v] = first * load(x + e + v * kLanes<T>);
      for (int64_t i = 1; i < rows; ++i) {
        const Vec<T> factor(p[i * width + j]);
        const T* const row = x + i * x_row + e;
#pragma GCC unroll 4
        for (int v = 0; v < kWide; ++v) sums[v] = fma(factor, load(row + v * kLanes<T>), sums[v]);
      }
#pragma GCC unroll 4
      for (int v = 0; v < kWide; ++v) store(to + j * to_row + e + v * kLanes<T>, sums[v]);
    }
  }
  for (; e < size; e += kLanes<T>) {
    const int64_t count = least(kLanes<T>, size - e);
    for (int64_t j = 0; j < keys; ++j) {
      Vec<T> sum(T(0));
      for (int64_t i = 0; i < rows; ++i) sum = fma(Vec<T>(p[i * width + j]), load(x + i * x_row + e), sum);
      store_some(to + j * to_row + e, count, sum);
    }
  }
}

// One head's arrays and gradients, rows as in the shape; query (times the scale) and up padded to whole registers.
template <class T>
struct FewTask {
  Head<T> head;
  RowStats<T> stats;
  const T *query, *up, *dots;
  T *grad_key, *grad_value;
  int64_t grad_key_row, grad_value_row;
};

// Row i of a chunk of keys: scores become probabilities, slopes those of the scores. Nothing is kept of the keys that
// the query does not see. The dot product is taken here where the chunk is all keys: then it cancels a saturated
// softmax's slope to the last bit.
template <class T>
void few_slopes(const AttentionShape& s, const FewTask<T>& task, int64_t i, int64_t j0, int64_t keys, T* scores,
                T* slopes, Kept& kept) {
  using I = simd_detail::IntOf<sizeof(T)>;
  const int64_t seen = most(0, least(keys, seen_keys<T>(s, i) - j0));
  const Vec<T> shift(task.stats.top[i]), factor(task.stats.inverse[i]), none(-math_detail::kInf<T>), zero(T(0));
  const auto drop = [&](T* row) {
    for (int64_t j = 0; j < keys; j += 64 * kDropWords) {
      const int64_t some = least(64 * kDropWords, keys - j);
      if (row == slopes) kept.draw(s, task.head.index, i, 1, j0 + j, some);
      if (row == scores && keys > 64 * kDropWords) kept.draw(s, task.head.index, i, 1, j0 + j, some);
      drop_tile(kept.words, kDropWords, 1, padded<T>(some), kept_factor<T>(s), row + j, some);
    }
  };
  if (s.dropout.p > 0) drop(slopes);
  Vec<T> sum(T(0));
  for (int64_t j = 0; j < keys; j += kLanes<T>) {
    const Mask<T> visible((iota<I>() < Vec<I>(static_cast<I>(most(0, seen - j)))).v);
    Vec<T> score = load(scores + j);
    if (task.head.mask) score += mask_values<T>(s, task.head.mask, i, j0 + j, keys - j);
    const Vec<T> p = math_detail::exp_bounded(select(visible, score, none) - shift) * factor;
    store(scores + j, p);
    sum = fma(p, select(visible, load(slopes + j), zero), sum);
  }
  const Vec<T> dot(keys == s.keys ? reduce_add(sum) : task.dots[i]);
  for (int64_t j = 0; j < keys; j += kLanes<T>) {
    const Mask<T> visible((iota<I>() < Vec<I>(static_cast<I>(most(0, seen - j)))).v);
    store(slopes + j, load(scores + j) * select(visible, load(slopes + j) - dot, zero));
  }
  if (s.dropout.p > 0) drop(scores);
}

// Keys [first, last) of a head: their gradients, and their part of the query's in sums (queries, padded head size).
template <class T>
void few_gradients(const AttentionShape& s, const FewTask<T>& task, int64_t first, int64_t last, T* sums) {
  const int64_t size = padded<T>(s.head_size), value_size = padded<T>(s.value_size);
  T* const scores = scratch_of<T>(ScratchSlot::item2, 2 * s.queries * kRowChunk);
  T* const slopes = scores + s.queries * kRowChunk;
  Kept kept(s);
  zero_values(sums, s.queries * size);
  for (int64_t j = first; j < last; j += kRowChunk) {
    const int64_t keys = least(kRowChunk, last - j);
    const T* const key = task.head.key + j * s.key.row;
    for (int64_t i = 0; i < s.queries; ++i) {
      T *const p = scores + i * kRowChunk, *const slope = slopes + i * kRowChunk;
      score_row(task.query + i * size, key, s.key.row, keys, s.head_size, p);
      score_row(task.up + i * value_size, task.head.value + j * s.value.row, s.value.row, keys, s.value_size, slope);
      few_slopes(s, task, i, j, keys, p, slope, kept);
      add_values(slope, key, s.key.row, keys, s.head_size, sums + i * size);
    }
    outer_rows(scores, kRowChunk, s.queries, task.up, value_size, keys, s.value_size,
               task.grad_value + j * task.grad_value_row, task.grad_value_row);
    outer_rows(slopes, kRowChunk, s.queries, task.query, size, keys, s.head_size, task.grad_key + j * task.grad_key_row,
               task.grad_key_row);
  }
}

}  // namespace

template <class T>
void few_backward(const AttentionShape& s, const T* query, const T* key, const T* value, const T* output,
                  const T* row_stats, const T* grad_output, const HeadStrides& up, T* grad_query, const HeadStrides& dq,
                  T* grad_key, const HeadStrides& dk, T* grad_value, const HeadStrides& dv) {
  const int64_t heads = s.batch * s.heads, parts = few_parts(s), step = few_step(s, parts);
  const int64_t size = padded<T>(s.head_size), value_size = padded<T>(s.value_size);
  const int64_t work = s.queries * s.keys * (s.head_size + s.value_size) / 4;
  const int64_t sums_size = s.queries * size;
  T* const sums = scratch_of<T>(ScratchSlot::shared, heads * parts * sums_size);
  parallel_for(0, heads * parts, 1 + 20000 * parts / most(1, work), [&](int64_t begin, int64_t end) {
    T* const q = scratch_of<T>(ScratchSlot::item, s.queries * (size + value_size + 1));
    T *const g = q + s.queries * size, *const dots = g + s.queries * value_size;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t index = item / parts, first = least(s.keys, item % parts * step);
      const Head<T> head = head_of(s, index, query, key, value);
      const T* const out = output + offset_of(s, s.output, index);
      copy_rows(head.query, s.query.row, s.queries, s.head_size, static_cast<T>(s.scale), q, size);
      copy_rows(grad_output + offset_of(s, up, index), up.row, s.queries, s.value_size, T(1), g, value_size);
      for (int64_t i = 0; i < s.queries; ++i) {
        const T *const a = g + i * value_size, *const b = out + i * s.output.row;
        dots[i] = row_sum<T>(
            s.value_size, [&](int64_t e) __attribute__((always_inline)) { return load(a + e) * load(b + e); },
            [&](int64_t e, int64_t c) __attribute__((always_inline)) { return load(a + e) * load_n(b + e, c); });
      }
      const FewTask<T> task{head,
                            RowStats<T>(s, const_cast<T*>(row_stats), index),
                            q,
                            g,
                            dots,
                            grad_key + offset_of(s, dk, index),
                            grad_value + offset_of(s, dv, index),
                            dk.row,
                            dv.row};
      few_gradients(s, task, first, least(s.keys, first + step), sums + item * sums_size);
    }
  });
  for (int64_t index = 0; index < heads; ++index) {
    for (int64_t i = 0; i < s.queries; ++i) {
      T* const to = grad_query + offset_of(s, dq, index) + i * dq.row;
      for (int64_t e = 0; e < s.head_size; e += kLanes<T>) {
        Vec<T> sum(T(0));
        for (int64_t part = 0; part < parts; ++part) {
          sum += load(sums + ((index * parts + part) * s.queries + i) * size + e);
        }
        store_n(to + e, least(kLanes<T>, s.head_size - e), sum * Vec<T>(static_cast<T>(s.scale)));
      }
    }
  }
}

#define FEW(T)                                                                                                     \
  template void few_forward<T>(const AttentionShape&, const T*, const T*, const T*, T*, T*);                       \
  template void few_backward<T>(const AttentionShape&, const T*, const T*, const T*, const T*, const T*, const T*, \
                                const HeadStrides&, T*, const HeadStrides&, T*, const HeadStrides&, T*,            \
                                const HeadStrides&);
FEW(float)
FEW(double)
#undef FEW

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
