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

// log sum exp of a row.
template <class T>
T log_sum_exp(const T* x, int64_t n) {
  Vec<T> m = -math_detail::kInf<T>;
  sweep<T>(
      n, [&](int64_t i) __attribute__((always_inline)) { m = max(m, load(x + i)); },
      [&](int64_t i, int64_t c) __attribute__((always_inline)) {
        m = max(m, select(first_lanes<T>(c), load_n(x + i, c), Vec<T>(-math_detail::kInf<T>)));
      });
  const T top = reduce_max(m);
  const Vec<T> shift = top;
  const T sum = row_sum<T>(
      n, [&](int64_t i) __attribute__((always_inline)) { return math_detail::exp_bounded(load(x + i) - shift); },
      [&](int64_t i, int64_t c) __attribute__((always_inline)) {
        return select(first_lanes<T>(c), math_detail::exp_bounded(load_n(x + i, c) - shift), Vec<T>(T(0)));
      });
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

template <class T>
void cross_entropy_backward(const ClassLoss& s, const T* x, const T* log_sum, const T* grad, const T* total_weight,
                            T* dx) {
  const T e = static_cast<T>(s.smoothing), each = e / static_cast<T>(s.classes);
  const T all = e != T(0) ? class_weight_sum<T>(s) * each : T(0);
  if (s.spatial == 1) {
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
        const auto slope = [&](int64_t c, int64_t n, Vec<T> v) __attribute__((always_inline)) {
          const Vec<T> p = math_detail::exp_bounded(v - l) * a;
          return each != T(0) ? p - weights<T>(s, c, n) * (each * f) : p;
        };
        sweep<T>(
            s.classes,
            [&](int64_t c) __attribute__((always_inline)) { store(to + c, slope(c, kLanes<T>, load(from + c))); },
            [&](int64_t c, int64_t n)
                __attribute__((always_inline)) { store_n(to + c, n, slope(c, n, load_n(from + c, n))); });
        to[t] -= on_target;
      }
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

template <class T>
void embedding_backward(int64_t count, int64_t rows, int64_t size, const T* grad, const int64_t* index, int64_t padding,
                        bool by_frequency, T* dweight) {
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
