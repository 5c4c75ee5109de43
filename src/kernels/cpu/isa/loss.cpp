// Losses over classes and embeddings. A loss's values are summed in their order, in double, whatever the threads did.

#include "kernels/loss.h"

#include "kernels/cpu/copy.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_math.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kGrain = 8192;

int64_t grain_of(int64_t n) { return n >= kGrain ? 1 : kGrain / (n > 0 ? n : 1); }

// The position of the first of n for which bad(value) is not 0; looked for only once it is known that there is one.
template <class Bad>
int64_t first_bad(const int64_t* values, int64_t n, Bad bad) {
  int found = 0;
  parallel_sweep(0, n, 4 * kGrain, [&](int64_t b, int64_t e) {
    int64_t any = 0;
    for (int64_t i = b; i < e; ++i) any |= bad(values[i]);
    if (any) __atomic_store_n(&found, 1, __ATOMIC_RELAXED);
  });
  if (!found) return -1;
  for (int64_t i = 0; i < n; ++i) {
    if (bad(values[i])) return i;
  }
  return -1;
}
// A target that is neither a class nor ignored.
int64_t first_bad(const ClassLoss& s) {
  const int64_t classes = s.classes, ignore = s.ignore;
  return first_bad(
      s.target, s.batch * s.spatial, [=](int64_t t) __attribute__((always_inline))->int64_t {
        return static_cast<int64_t>(static_cast<uint64_t>(t) >= static_cast<uint64_t>(classes)) & (t != ignore);
      });
}
template <class T>
T weight_of(const ClassLoss& s, int64_t t) {
  return s.weight ? static_cast<const T*>(s.weight)[t] : T(1);
}
// Whether the target is a class (ignore may be one of them).
bool counts(const ClassLoss& s, int64_t t) { return t != s.ignore; }

template <class T>
double sum_of_weights(const ClassLoss& s) {
  const int64_t n = s.batch * s.spatial, ignore = s.ignore;
  if (!s.weight) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += s.target[i] != ignore;
    return static_cast<double>(count);
  }
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (counts(s, s.target[i])) sum += static_cast<double>(weight_of<T>(s, s.target[i]));
  }
  return sum;
}
// In float64, eight sums side by side: one alone would wait for its last addition.
template <class T>
double sum_in_double(const T* x, int64_t n) {
  constexpr int64_t kSums = 8;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (int64_t k = 0; k < kSums; ++k) sums[k] += static_cast<double>(x[i + k]);
  }
  for (; i < n; ++i) sums[i % kSums] += static_cast<double>(x[i]);
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}
template <class T>
void reduce(const ClassLoss& s, const T* losses, T* out, T* total_weight) {
  const double weight = sum_of_weights<T>(s);
  *total_weight = static_cast<T>(weight);
  if (!s.reduce) return;
  const double sum = sum_in_double(losses, s.batch * s.spatial);
  *out = static_cast<T>(s.mean ? sum / weight : sum);
}
// What the scores of sample i are multiplied by: its gradient, over the total weight if the mean was taken.
template <class T>
T factor_of(const ClassLoss& s, const T* grad, const T* total_weight, int64_t i) {
  const T g = s.reduce ? grad[0] : grad[i];
  return s.reduce && s.mean ? g / *total_weight : g;
}

template <class T>
TENSORGRAD_INLINE Vec<T> weights(const ClassLoss& s, int64_t c, int64_t count) {
  return s.weight ? load_n(static_cast<const T*>(s.weight) + c, count) : Vec<T>(T(1));
}

template <class T>
TENSORGRAD_INLINE T largest(const T* x, int64_t n) {
  constexpr int64_t L = kLanes<T>;
  const T lowest = -math_detail::kInf<T>;
  Vec<T> m[4] = {lowest, lowest, lowest, lowest};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    for (int64_t k = 0; k < 4; ++k) m[k] = max(m[k], load(x + i + k * L));
  }
  for (; i + L <= n; i += L) m[0] = max(m[0], load(x + i));
  if (i < n) m[1] = max(m[1], select(first_lanes<T>(n - i), load_n(x + i, n - i), Vec<T>(lowest)));
  return reduce_max(max(max(m[0], m[1]), max(m[2], m[3])));
}
// kAhead: what lies so many elements further is asked for, as the exponentials leave time for it.
template <int64_t kAhead, class T>
TENSORGRAD_INLINE T sum_of_exp(const T* x, int64_t n, T top) {
  const Vec<T> shift = top;
  return row_sum<T>(
      n,
      [&](int64_t i) __attribute__((always_inline)) {
        if constexpr (kAhead > 0) __builtin_prefetch(x + i + kAhead);
        return math_detail::exp_bounded(load(x + i) - shift);
      },
      [&](int64_t i, int64_t c) __attribute__((always_inline)) {
        return select(first_lanes<T>(c), math_detail::exp_bounded(load_n(x + i, c) - shift), Vec<T>(T(0)));
      });
}
// log sum exp of a row. It is read once: pieces that stay in the near cache are gone through twice, and where one has a
// larger value than those before it, their sum is scaled to it.
template <class T>
T log_sum_exp(const T* x, int64_t n) {
  constexpr int64_t kPiece = 8192 / sizeof(T);
  T top = -math_detail::kInf<T>, sum = 0;
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t count = n - i < kPiece ? n - i : kPiece;
    const T here = largest(x + i, count);
    if (here > top) {
      if (i > 0) sum *= math_detail::exp_bounded(Vec<T>(top - here))[0];
      top = here;
    }
    // Nothing but -inf so far: the sum is 0 whatever the shift, but a row of nothing else has no logarithm.
    const bool none = top == -math_detail::kInf<T> && i + count < n;
    const T shift = none ? T(0) : top;
    sum += n > kPiece ? sum_of_exp<kPiece>(x + i, count, shift) : sum_of_exp<0>(x + i, count, shift);
  }
  return top + log(Vec<T>(sum))[0];
}
// Sum over the classes of weight * (log_sum - x), and of weight.
template <class T>
T smooth_sum(const ClassLoss& s, const T* x, T log_sum) {
  const Vec<T> l = log_sum;
  return row_sum<T>(
      s.classes,
      [&](int64_t i) __attribute__((always_inline)) { return (l - load(x + i)) * weights<T>(s, i, kLanes<T>); },
      [&](int64_t i, int64_t c) __attribute__((always_inline)) {
        return select(first_lanes<T>(c), (l - load_n(x + i, c)) * weights<T>(s, i, c), Vec<T>(T(0)));
      });
}
template <class T>
T class_weight_sum(const ClassLoss& s) {
  T sum = 0;
  for (int64_t c = 0; c < s.classes; ++c) sum += weight_of<T>(s, c);
  return sum;
}

// The classes of one sample lie next to each other.
template <class T>
T row_loss(const ClassLoss& s, const T* x, int64_t t, T* log_sum) {
  *log_sum = log_sum_exp(x, s.classes);
  if (!counts(s, t)) return T(0);
  const T plain = weight_of<T>(s, t) * (*log_sum - x[t]);
  if (s.smoothing == 0) return plain;
  const T e = static_cast<T>(s.smoothing);
  return (T(1) - e) * plain + e / static_cast<T>(s.classes) * smooth_sum(s, x, *log_sum);
}
// They are `spatial` apart: `count` <= kLanes neighbouring samples at once.
template <class T>
void strip_loss(const ClassLoss& s, const T* x, const int64_t* target, int64_t count, T* log_sum, T* losses) {
  Vec<T> top = -math_detail::kInf<T>, sum = T(0), smooth = T(0);
  for (int64_t c = 0; c < s.classes; ++c) top = max(top, load_n(x + c * s.spatial, count));
  for (int64_t c = 0; c < s.classes; ++c) sum += math_detail::exp_bounded(load_n(x + c * s.spatial, count) - top);
  const Vec<T> l = top + log(sum);
  store_n(log_sum, count, l);
  if (s.smoothing != 0) {
    for (int64_t c = 0; c < s.classes; ++c)
      smooth = fma(l - load_n(x + c * s.spatial, count), weight_of<T>(s, c), smooth);
  }
  const T e = static_cast<T>(s.smoothing);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t t = target[k];
    losses[k] = counts(s, t) ? (T(1) - e) * weight_of<T>(s, t) * (log_sum[k] - x[t * s.spatial + k]) +
                                   e / static_cast<T>(s.classes) * smooth[static_cast<int>(k)]
                             : T(0);
  }
}

// body(first sample of a strip, its number of samples, offset of its scores) over all strips of neighbouring samples.
template <class T, class Body>
void strips(const ClassLoss& s, Body body) {
  const int64_t per_batch = (s.spatial + kLanes<T> - 1) / kLanes<T>;
  parallel_sweep(0, s.batch * per_batch, grain_of(s.classes * kLanes<T>), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t at = i % per_batch * kLanes<T>, batch = i / per_batch;
      body(batch * s.spatial + at, s.spatial - at < kLanes<T> ? s.spatial - at : int64_t{kLanes<T>},
           batch * s.classes * s.spatial + at);
    }
  });
}

template <class T>
int64_t cross_entropy_forward(const ClassLoss& s, const T* x, T* log_sum, T* out, T* total_weight) {
  const int64_t bad = first_bad(s);
  if (bad >= 0) return bad;
  const int64_t count = s.batch * s.spatial;
  T* losses = s.reduce ? scratch_of<T>(ScratchSlot::shared, count) : out;
  if (s.spatial == 1) {
    parallel_sweep(0, count, grain_of(s.classes), [=](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) losses[i] = row_loss(s, x + i * s.classes, s.target[i], log_sum + i);
    });
  } else {
    strips<T>(s, [=](int64_t i, int64_t n, int64_t offset) {
      strip_loss(s, x + offset, s.target + i, n, log_sum + i, losses + i);
    });
  }
  reduce(s, losses, out, total_weight);
  return -1;
}

// to[i] = each(i, count) for a row of n results, a register at a time: past the caches, once the alignment is reached,
// if `past`.
template <class T, class Each>
TENSORGRAD_INLINE void write_row(T* to, int64_t n, bool past, Each each) {
  constexpr int64_t L = kLanes<T>;
  int64_t i = 0;
  if (past && n >= 2 * L) {
    const auto off = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kVectorBytes / sizeof(T));
    if (off != 0) {
      i = L - off;
      store_n(to, i, each(int64_t{0}, i));
    }
    for (; i + L <= n; i += L) stream(to + i, each(i, int64_t{L}));
  }
  for (; i + L <= n; i += L) store(to + i, each(i, int64_t{L}));
  if (i < n) store_n(to + i, n - i, each(i, n - i));
}

template <class T>
void cross_entropy_backward(const ClassLoss& s, const T* x, const T* log_sum, const T* grad, const T* total_weight,
                            T* dx) {
  const T e = static_cast<T>(s.smoothing), each = e / static_cast<T>(s.classes);
  const T all = e != T(0) ? class_weight_sum<T>(s) * each : T(0);
  if (s.spatial == 1) {
    const bool past = s.batch * s.classes * static_cast<int64_t>(2 * sizeof(T)) >= kStreamBytes &&
                      reinterpret_cast<uintptr_t>(dx) % sizeof(T) == 0;
    parallel_sweep(0, s.batch, grain_of(s.classes), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t t = s.target[i];
        T* to = dx + i * s.classes;
        const T* from = x + i * s.classes;
        if (!counts(s, t)) {
          __builtin_memset(to, 0, static_cast<size_t>(s.classes) * sizeof(T));
          continue;
        }
        const T f = factor_of(s, grad, total_weight, i), on_target = (T(1) - e) * weight_of<T>(s, t) * f;
        const Vec<T> l = log_sum[i], a = on_target + all * f;
        write_row(
            to, s.classes, past, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
              const Vec<T> v = n == kLanes<T> ? load(from + c) : load_n(from + c, n);
              const Vec<T> p = math_detail::exp_bounded(v - l) * a;
              return each != T(0) ? p - weights<T>(s, c, n) * (each * f) : p;
            });
        to[t] -= on_target;
      }
      if (past) stream_end();
    });
    return;
  }
  strips<T>(s, [=](int64_t i, int64_t n, int64_t offset) {
    T f[kLanes<T>] = {}, on_target[kLanes<T>] = {};
    for (int64_t k = 0; k < n; ++k) {
      const int64_t t = s.target[i + k];
      if (!counts(s, t)) continue;
      f[k] = factor_of(s, grad, total_weight, i + k);
      on_target[k] = (T(1) - e) * weight_of<T>(s, t) * f[k];
    }
    const Vec<T> vf = load(static_cast<const T*>(f)), l = load_n(log_sum + i, n);
    const Vec<T> a = fma(vf, all, load(static_cast<const T*>(on_target)));
    const Mask<T> wanted = vf != T(0);  // an ignored sample's infinite scores must not become NaN
    for (int64_t c = 0; c < s.classes; ++c) {
      const int64_t at = offset + c * s.spatial;
      const Vec<T> p = math_detail::exp_bounded(load_n(x + at, n) - l) * a - vf * (each * weight_of<T>(s, c));
      store_n(dx + at, n, select(wanted, p, Vec<T>(T(0))));
    }
    for (int64_t k = 0; k < n; ++k) {
      if (counts(s, s.target[i + k])) dx[offset + s.target[i + k] * s.spatial + k] -= on_target[k];
    }
  });
}

// each(i, t, where sample i's score for its class t is) for the samples [begin, end) whose target counts, skip(i) for
// the others.
template <class Each, class Skip>
TENSORGRAD_INLINE void each_target(const ClassLoss& s, int64_t begin, int64_t end, Each each, Skip skip) {
  if (begin >= end) return;  // there may be no pixels
  const int64_t sample = s.classes * s.spatial;
  int64_t pixel = begin % s.spatial, first = begin / s.spatial * sample;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t t = s.target[i];
    if (counts(s, t)) {
      each(i, t, first + t * s.spatial + pixel);
    } else {
      skip(i);
    }
    if (++pixel == s.spatial) {
      pixel = 0;
      first += sample;
    }
  }
}

template <class T>
int64_t nll_forward(const ClassLoss& s, const T* x, T* out, T* total_weight) {
  const int64_t bad = first_bad(s);
  if (bad >= 0) return bad;
  const int64_t count = s.batch * s.spatial;
  T* losses = s.reduce ? scratch_of<T>(ScratchSlot::shared, count) : out;
  parallel_sweep(0, count, kGrain, [=](int64_t b, int64_t e) {
    each_target(
        s, b, e, [=](int64_t i, int64_t t, int64_t at) { losses[i] = -weight_of<T>(s, t) * x[at]; },
        [=](int64_t i) { losses[i] = T(0); });
  });
  reduce(s, losses, out, total_weight);
  return -1;
}

template <class T>
void nll_backward(const ClassLoss& s, const T* grad, const T* total_weight, T* dx) {
  const int64_t sample = s.classes * s.spatial;
  parallel_sweep(0, s.batch, grain_of(sample), [=](int64_t b, int64_t e) {
    __builtin_memset(dx + b * sample, 0, static_cast<size_t>((e - b) * sample) * sizeof(T));
    each_target(
        s, b * s.spatial, e * s.spatial,
        [=](int64_t i, int64_t t, int64_t at) { dx[at] = -weight_of<T>(s, t) * factor_of(s, grad, total_weight, i); },
        [](int64_t) {});
  });
}

// ---- embedding ----------------------------------------------------------------------------------------------------

template <class T>
int64_t embedding_forward(int64_t count, int64_t rows, int64_t size, const T* weight, const int64_t* index, T* out) {
  const int64_t bad = first_bad(
      index, count, [=](int64_t t) __attribute__((always_inline))->int64_t {
        return static_cast<uint64_t>(t) >= static_cast<uint64_t>(rows);
      });
  if (bad >= 0) return bad;
  parallel_sweep(0, count, grain_of(size), [=](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i)
      copy_bytes(out + i * size, weight + index[i] * size, size * static_cast<int64_t>(sizeof(T)));
  });
  return -1;
}

// Where rows are short, or a few of them are named by most of the index.
template <class T>
void embedding_by_columns(int64_t count, int64_t rows, int64_t size, const T* grad, const int64_t* index,
                          int64_t padding, bool by_frequency, T* dweight) {
  parallel_sweep(0, rows, grain_of(size), [=](int64_t b, int64_t e) {
    __builtin_memset(dweight + b * size, 0, static_cast<size_t>((e - b) * size) * sizeof(T));
  });
  int64_t* times = nullptr;
  if (by_frequency) {
    times = scratch_of<int64_t>(ScratchSlot::shared, rows);
    __builtin_memset(times, 0, static_cast<size_t>(rows) * sizeof(int64_t));
    for (int64_t i = 0; i < count; ++i) ++times[index[i]];
  }
  // A thread has some columns and all indices: every row is summed in the order of the indices.
  constexpr int64_t strip = 64 / sizeof(T);
  parallel_sweep(0, (size + strip - 1) / strip, grain_of(count * strip), [=](int64_t b, int64_t e) {
    const int64_t first = b * strip, n = (e * strip < size ? e * strip : size) - first;
    for (int64_t i = 0; i < count; ++i) {
      if (index[i] == padding) continue;
      const T* from = grad + i * size + first;
      T* to = dweight + index[i] * size + first;
      const Vec<T> scale = times ? T(1) / static_cast<T>(times[index[i]]) : T(1);
      sweep<T>(
          n, [&](int64_t j) __attribute__((always_inline)) { store(to + j, fma(load(from + j), scale, load(to + j))); },
          [&](int64_t j, int64_t c) __attribute__((always_inline)) {
            store_n(to + j, c, fma(load_n(from + j, c), scale, load_n(to + j, c)));
          });
    }
  });
}

// Which entries of the index name which row: those of row r are order[begin(r) .. ends[r]), as they come in the index.
struct RowEntries {
  const int64_t *ends, *order;
  int64_t most;  // of one row
  int64_t begin(int64_t r) const { return r == 0 ? 0 : ends[r - 1]; }
};
RowEntries sort_entries(int64_t count, int64_t rows, const int64_t* index, int64_t padding) {
  auto* ends = scratch_of<int64_t>(ScratchSlot::shared, rows + count);
  int64_t* order = ends + rows;
  __builtin_memset(ends, 0, static_cast<size_t>(rows) * sizeof(int64_t));
  for (int64_t i = 0; i < count; ++i) ++ends[index[i]];
  if (padding >= 0 && padding < rows) ends[padding] = 0;
  int64_t total = 0, most = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t here = ends[r];
    most = here > most ? here : most;
    ends[r] = total;
    total += here;
  }
  for (int64_t i = 0; i < count; ++i) {
    if (index[i] != padding) order[ends[index[i]]++] = i;
  }
  return {ends, order, most};
}

// One row of the gradient: the sum of its entries' in their order, or zeros. past: `to` is aligned, write past the
// caches.
template <class T>
void sum_entries(const T* grad, int64_t size, const int64_t* entries, int64_t count, bool by_frequency, bool past,
                 T* to) {
  constexpr int64_t L = kLanes<T>, kWide = 4;
  const Vec<T> scale = by_frequency && count > 0 ? T(1) / static_cast<T>(count) : T(1);
  const auto put = [=](int64_t j, Vec<T> v) __attribute__((always_inline)) {
    past ? stream(to + j, v) : store(to + j, v);
  };
  int64_t j = 0;
  for (; j + kWide * L <= size; j += kWide * L) {
    Vec<T> sum[kWide] = {T(0), T(0), T(0), T(0)};
    for (int64_t k = 0; k < count; ++k) {
      const T* from = grad + entries[k] * size + j;
      for (int64_t v = 0; v < kWide; ++v) sum[v] = fma(load(from + v * L), scale, sum[v]);
    }
    for (int64_t v = 0; v < kWide; ++v) put(j + v * L, sum[v]);
  }
  for (; j < size; j += L) {
    const int64_t n = size - j < L ? size - j : L;
    Vec<T> sum = T(0);
    for (int64_t k = 0; k < count; ++k) sum = fma(load_n(grad + entries[k] * size + j, n), scale, sum);
    if (n == L) {
      put(j, sum);
    } else {
      store_n(to + j, n, sum);
    }
  }
}

// Every row is written once. Rows are shared out by what they cost: themselves and their entries. Where one row has too
// many for that, columns are shared out.
template <class T>
void embedding_backward(int64_t count, int64_t rows, int64_t size, const T* grad, const int64_t* index, int64_t padding,
                        bool by_frequency, T* dweight) {
  constexpr auto kItem = static_cast<int64_t>(sizeof(T));
  if (size * kItem < 64) return embedding_by_columns(count, rows, size, grad, index, padding, by_frequency, dweight);
  const RowEntries found = sort_entries(count, rows, index, padding);
  const int64_t used = rows > 0 ? found.ends[rows - 1] : 0, threads = get_num_threads();
  if (threads > 1 && found.most * 2 * threads > used + rows && found.most * size > 4 * kGrain) {
    return embedding_by_columns(count, rows, size, grad, index, padding, by_frequency, dweight);
  }
  const bool aligned = reinterpret_cast<uintptr_t>(dweight) % kVectorBytes == 0 && size * kItem % kVectorBytes == 0;
  const bool past = aligned && rows * size * kItem >= kStreamBytes;
  parallel_sweep(0, used + rows, grain_of(size), [=](int64_t b, int64_t e) {
    int64_t r = 0;  // the first row at or behind b: row r stands at found.begin(r) + r
    for (int64_t above = rows; r < above;) {
      const int64_t middle = (r + above) / 2;
      if (found.begin(middle) + middle < b) {
        r = middle + 1;
      } else {
        above = middle;
      }
    }
    for (; r < rows && found.begin(r) + r < e; ++r) {
      const int64_t first = found.begin(r);
      sum_entries(grad, size, found.order + first, found.ends[r] - first, by_frequency, past, dweight + r * size);
    }
    if (past) stream_end();
  });
}

template <class T>
void fill(LossFunctions<T>& f) {
  f.cross_entropy_forward = cross_entropy_forward<T>;
  f.cross_entropy_backward = cross_entropy_backward<T>;
  f.nll_forward = nll_forward<T>;
  f.nll_backward = nll_backward<T>;
  f.embedding_forward = embedding_forward<T>;
  f.embedding_backward = embedding_backward<T>;
}

}  // namespace

void fill(LossKernels& kernels) {
  fill(kernels.f32);
  fill(kernels.f64);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
