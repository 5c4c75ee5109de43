// Softmax along the last dimension, one row at a time (rows of a few registers stay in them), and along another one, a
// strip of columns at a time.

#include "kernels/softmax.h"

#include "kernels/cpu/rows.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_math.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

// Elements that one thread should have at the least: about 3 us of work.
constexpr int64_t kGrain = 12288;

template <class T>
inline constexpr T kMinusInf = -math_detail::kInf<T>;

// ---- the last dimension, rows that fit V registers -----------------------------------------------------------------

// Vector k of a row of n, of which only the last may be partial.
template <int V, class T>
TENSORGRAD_INLINE Vec<T> load_part(const T* p, int k, int64_t n, T fill) {
  if (k < V - 1) return load(p + k * kLanes<T>);
  const int64_t left = n - (V - 1) * kLanes<T>;
  if (left == kLanes<T>) return load(p + k * kLanes<T>);
  return select(first_lanes<T>(left), load_n(p + k * kLanes<T>, left), Vec<T>(fill));
}
template <int V, class T>
TENSORGRAD_INLINE void store_part(T* p, int k, int64_t n, Vec<T> v) {
  if (k < V - 1) return store(p + k * kLanes<T>, v);
  store_n(p + k * kLanes<T>, n - (V - 1) * kLanes<T>, v);
}
template <int V, class T>
TENSORGRAD_INLINE T sum_of(const Vec<T>* v) {
  Vec<T> s = v[0];
  for (int k = 1; k < V; ++k) s += v[k];
  return reduce_add(s);
}

// kStep: the gradient's stride along the row, 0 or 1.
template <int V, int kStep, class T>
void backward_short(const T* y, const T* g, int64_t g_row, T* dx, int64_t rows, int64_t n, bool log_form) {
  for (int64_t r = 0; r < rows; ++r, y += n, g += g_row, dx += n) {
    Vec<T> v[V], u[V], p[V];
    for (int k = 0; k < V; ++k) {
      v[k] = load_part<V>(y, k, n, T(0));
      u[k] = kStep == 0 ? Vec<T>(g[0]) : load_part<V>(g, k, n, T(0));
    }
    if (log_form) {
      const T total = kStep == 0 ? g[0] * static_cast<T>(n) : sum_of<V>(u);
      for (int k = 0; k < V; ++k) store_part<V>(dx, k, n, u[k] - exp(v[k]) * total);
    } else {
      for (int k = 0; k < V; ++k) p[k] = u[k] * v[k];
      const T total = sum_of<V>(p);
      for (int k = 0; k < V; ++k) store_part<V>(dx, k, n, (u[k] - total) * v[k]);
    }
  }
}

// ---- the last dimension, long rows --------------------------------------------------------------------------------

template <class T>
T row_max(const T* x, int64_t n) {
  Vec<T> m[4] = {kMinusInf<T>, kMinusInf<T>, kMinusInf<T>, kMinusInf<T>};
  int64_t i = 0;
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>) {
    for (int k = 0; k < 4; ++k) m[k] = max(m[k], load(x + i + k * kLanes<T>));
  }
  for (; i + kLanes<T> <= n; i += kLanes<T>) m[0] = max(m[0], load(x + i));
  if (i < n) m[1] = max(m[1], select(first_lanes<T>(n - i), load_n(x + i, n - i), Vec<T>(kMinusInf<T>)));
  return reduce_max(max(max(m[0], m[1]), max(m[2], m[3])));
}

// A block of rows goes through three stages, so that no row waits for the end of its own reduction: the rows' maxima,
// the exponentials and their sums, the division. V: registers in a row if that is at most 4, otherwise 0.
constexpr int kBlockRows = 16;

template <int V, class T>
TENSORGRAD_INLINE T max_of_row(const T* x, int64_t n) {
  if constexpr (V == 0) return row_max(x, n);
  Vec<T> m = load_part<V>(x, V - 1, n, kMinusInf<T>);
  for (int k = 0; k < V - 1; ++k) m = max(m, load(x + k * kLanes<T>));
  return reduce_max(m);
}

// Sum of exp(x - top) over a row; the terms go to y if kStore.
template <int V, bool kStore, class T>
TENSORGRAD_INLINE T exp_of_row(const T* x, Vec<T> top, T* y, int64_t n) {
  const auto full = [&](int64_t i) __attribute__((always_inline)) {
    const Vec<T> e = math_detail::exp_bounded(load(x + i) - top);
    if constexpr (kStore) store(y + i, e);
    return e;
  };
  const auto part = [&](int64_t i, int64_t c) __attribute__((always_inline)) {
    const Vec<T> e = math_detail::exp_bounded(load_n(x + i, c) - top);
    if constexpr (kStore) store_n(y + i, c, e);
    return select(first_lanes<T>(c), e, Vec<T>(T(0)));
  };
  if constexpr (V == 0) return row_sum<T>(n, full, part);
  constexpr int64_t last = (V - 1) * kLanes<T>;
  Vec<T> s = n == last + kLanes<T> ? full(last) : part(last, n - last);
  for (int k = 0; k < V - 1; ++k) s += full(k * kLanes<T>);
  return reduce_add(s);
}

template <int V, bool kLog, class T>
void forward_rows(const T* x, T* y, int64_t rows, int64_t n) {
  alignas(64) T top[kBlockRows], total[kBlockRows];
  // Long rows singly, or the stages would go through a block that has left the cache.
  const int64_t step = n <= 512 ? kBlockRows : n <= 2048 ? 2 : 1;
  for (int64_t r0 = 0; r0 < rows; r0 += step) {
    const int64_t count = rows - r0 < step ? rows - r0 : step;
    const T* in = x + r0 * n;
    T* out = y + r0 * n;
    for (int64_t r = 0; r < count; ++r) top[r] = max_of_row<V>(in + r * n, n);
    for (int64_t r = 0; r < count; ++r) total[r] = exp_of_row<V, !kLog>(in + r * n, Vec<T>(top[r]), out + r * n, n);
    for (int64_t r = 0; r < count; r += kLanes<T>) {
      const Vec<T> t = load_n(total + r, count - r < kLanes<T> ? count - r : kLanes<T>);
      store(total + r, kLog ? log(t) : T(1) / t);
    }
    for (int64_t r = 0; r < count; ++r) {
      const Vec<T> m = top[r], f = total[r];
      const T* from = (kLog ? in : out) + r * n;
      T* to = out + r * n;
      const auto finish = [&](Vec<T> v) __attribute__((always_inline)) { return kLog ? (v - m) - f : v * f; };
      if constexpr (V == 0) {
        sweep<T>(
            n, [&](int64_t i) __attribute__((always_inline)) { store(to + i, finish(load(from + i))); },
            [&](int64_t i, int64_t c) { store_n(to + i, c, finish(load_n(from + i, c))); });
      } else {
        for (int k = 0; k < V; ++k) store_part<V>(to, k, n, finish(load_part<V>(from, k, n, T(0))));
      }
    }
  }
}

// What a row's gradient needs of the whole row: the sum of g * y, or of g.
// dx is where that row's gradient will be written: its lines are asked for meanwhile.
template <int kStep, class T>
TENSORGRAD_INLINE T backward_sum(const T* y, const T* g, const T* dx, int64_t n, bool log_form) {
  const auto up = [&](int64_t i) __attribute__((always_inline)) {
    __builtin_prefetch(dx + i, 1);
    return kStep == 0 ? Vec<T>(g[0]) : load(g + i);
  };
  const auto up_n = [&](int64_t i, int64_t c) __attribute__((always_inline)) {
    return kStep == 0 ? select(first_lanes<T>(c), Vec<T>(g[0]), Vec<T>(T(0))) : load_n(g + i, c);
  };
  if (log_form) return kStep == 0 ? g[0] * static_cast<T>(n) : row_sum<T>(n, up, up_n);
  return row_sum<T>(
      n, [&](int64_t i) __attribute__((always_inline)) { return up(i) * load(y + i); },
      [&](int64_t i, int64_t c) __attribute__((always_inline)) { return up_n(i, c) * load_n(y + i, c); });
}
template <int kStep, class T>
TENSORGRAD_INLINE void backward_row(const T* y, const T* g, T* dx, int64_t n, T sum, bool log_form) {
  const Vec<T> total = sum;
  const auto up = [&](int64_t i) __attribute__((always_inline)) { return kStep == 0 ? Vec<T>(g[0]) : load(g + i); };
  const auto up_n = [&](int64_t i, int64_t c) __attribute__((always_inline)) {
    return kStep == 0 ? select(first_lanes<T>(c), Vec<T>(g[0]), Vec<T>(T(0))) : load_n(g + i, c);
  };
  if (log_form) {
    sweep<T>(
        n, [&](int64_t i) { store(dx + i, up(i) - exp(load(y + i)) * total); },
        [&](int64_t i, int64_t c) { store_n(dx + i, c, up_n(i, c) - exp(load_n(y + i, c)) * total); });
  } else {
    sweep<T>(
        n, [&](int64_t i) { store(dx + i, (up(i) - total) * load(y + i)); },
        [&](int64_t i, int64_t c) { store_n(dx + i, c, (up_n(i, c) - total) * load_n(y + i, c)); });
  }
}

// The sums of some rows first, so that no row waits for the end of its own: as many as stay in the first cache with
// their gradients.
template <int kStep, class T>
void backward_block(const T* y, const T* g, int64_t g_row, T* dx, int64_t rows, int64_t n, bool log_form) {
  T sum[kBlockRows];
  const int64_t fit = 24576 / (3 * static_cast<int64_t>(sizeof(T)) * n), step = fit > 8 ? 8 : fit > 1 ? fit : 1;
  for (int64_t r0 = 0; r0 < rows; r0 += step) {
    const int64_t count = rows - r0 < step ? rows - r0 : step;
    for (int64_t r = 0; r < count; ++r)
      sum[r] = backward_sum<kStep>(y + (r0 + r) * n, g + (r0 + r) * g_row, dx + (r0 + r) * n, n, log_form);
    for (int64_t r = 0; r < count; ++r)
      backward_row<kStep>(y + (r0 + r) * n, g + (r0 + r) * g_row, dx + (r0 + r) * n, n, sum[r], log_form);
  }
}

// ---- another dimension: a strip of `count` <= kLanes columns --------------------------------------------------------

// The strip goes through `room` (n rows of kStrip registers) if that is not null: rows whose distance in memory is a
// power of two push each other out of the first cache.
constexpr int kStrip = 4;

template <class T>
void forward_strip(const T* x, T* y, int64_t n, int64_t inner, int64_t count, bool log_form, T* room) {
  T* work = room ? room : y;
  const int64_t work_row = room ? kStrip * kLanes<T> : inner;
  for (int64_t c = 0; c < count; c += kLanes<T>) {
    const int64_t lanes = count - c < kLanes<T> ? count - c : kLanes<T>;
    const auto read = [&](const T* p) __attribute__((always_inline)) {
      return lanes == kLanes<T> ? load(p) : load_n(p, lanes);
    };
    const auto write = [&](T * p, Vec<T> v) __attribute__((always_inline)) {
      lanes == kLanes<T> ? store(p, v) : store_n(p, lanes, v);
    };
    Vec<T> top = kMinusInf<T>, total = T(0);
    for (int64_t d = 0; d < n; ++d) {
      const Vec<T> v = read(x + d * inner + c);
      if (room) write(work + d * work_row + c, v);
      top = max(top, v);
    }
    const T* from = room ? room : x;
    for (int64_t d = 0; d < n; ++d) {
      const Vec<T> e = math_detail::exp_bounded(read(from + d * work_row + c) - top);
      total += e;
      if (!log_form) write(work + d * work_row + c, e);
    }
    if (log_form) {
      const Vec<T> shift = log(total);
      for (int64_t d = 0; d < n; ++d) write(y + d * inner + c, (read(from + d * work_row + c) - top) - shift);
    } else {
      const Vec<T> inverse = T(1) / total;
      for (int64_t d = 0; d < n; ++d) write(y + d * inner + c, read(work + d * work_row + c) * inverse);
    }
  }
}

// A wider strip, whose rows are read as they come: `count` <= kWide registers of columns.
constexpr int kWide = 16;

template <class T>
void backward_strip(const T* y, const T* g, int64_t g_n, int64_t g_inner, T* dx, int64_t n, int64_t inner,
                    int64_t count, bool log_form) {
  const int64_t whole = count / kLanes<T>, rest = count % kLanes<T>;
  const auto up = [&](int64_t d, int64_t k, int64_t lanes) __attribute__((always_inline)) {
    if (g_inner == 0) return Vec<T>(g[d * g_n]);
    const T* p = g + d * g_n + k * kLanes<T>;
    return lanes == kLanes<T> ? load(p) : load_n(p, lanes);
  };
  Vec<T> total[kWide + 1];
  for (int64_t k = 0; k <= whole; ++k) total[k] = T(0);
  const auto add = [&](int64_t d, int64_t k, int64_t lanes) __attribute__((always_inline)) {
    const T* p = y + d * inner + k * kLanes<T>;
    const Vec<T> v = up(d, k, lanes);
    total[k] = log_form ? total[k] + v : fma(v, lanes == kLanes<T> ? load(p) : load_n(p, lanes), total[k]);
  };
  const auto finish = [&](int64_t d, int64_t k, int64_t lanes) __attribute__((always_inline)) {
    const int64_t at = d * inner + k * kLanes<T>;
    const Vec<T> v = up(d, k, lanes), r = lanes == kLanes<T> ? load(y + at) : load_n(y + at, lanes);
    const Vec<T> out = log_form ? v - math_detail::exp_bounded(r) * total[k] : (v - total[k]) * r;
    lanes == kLanes<T> ? store(dx + at, out) : store_n(dx + at, lanes, out);
  };
  for (int64_t d = 0; d < n; ++d) {
    for (int64_t k = 0; k < whole; ++k) add(d, k, kLanes<T>);
    if (rest) add(d, whole, rest);
  }
  for (int64_t d = 0; d < n; ++d) {
    for (int64_t k = 0; k < whole; ++k) finish(d, k, kLanes<T>);
    if (rest) finish(d, whole, rest);
  }
}

// ---- all rows -----------------------------------------------------------------------------------------------------

template <class T>
int64_t row_grain(int64_t n) {
  return n >= kGrain ? 1 : kGrain / (n > 0 ? n : 1);
}

template <bool kLog, class T>
void rows_of(const T* x, T* y, int64_t rows, int64_t n) {
  switch ((n + kLanes<T> - 1) / kLanes<T>) {
    case 1:
      return forward_rows<1, kLog>(x, y, rows, n);
    case 2:
      return forward_rows<2, kLog>(x, y, rows, n);
    case 3:
      return forward_rows<3, kLog>(x, y, rows, n);
    case 4:
      return forward_rows<4, kLog>(x, y, rows, n);
    default:
      return forward_rows<0, kLog>(x, y, rows, n);
  }
}

template <class T>
void forward(const DimShape& s, const T* x, T* y, bool log_form) {
  if (s.outer == 0 || s.n == 0 || s.inner == 0) return;
  if (s.inner == 1) {
    const int64_t n = s.n;
    parallel_sweep(0, s.outer, row_grain<T>(n), [=](int64_t b, int64_t e) {
      if (log_form)
        rows_of<true>(x + b * n, y + b * n, e - b, n);
      else
        rows_of<false>(x + b * n, y + b * n, e - b, n);
    });
    return;
  }
  constexpr int64_t width = kStrip * kLanes<T>;
  const int64_t strips = (s.inner + width - 1) / width;
  const bool staged = s.n * width * static_cast<int64_t>(sizeof(T)) <= 32768;
  parallel_sweep(0, s.outer * strips, row_grain<T>(s.n * width), [=](int64_t b, int64_t e) {
    T* room = staged ? scratch_of<T>(ScratchSlot::item, s.n * width) : nullptr;
    for (int64_t i = b; i < e; ++i) {
      const int64_t column = i % strips * width, offset = i / strips * s.n * s.inner + column;
      const int64_t count = s.inner - column < width ? s.inner - column : width;
      forward_strip(x + offset, y + offset, s.n, s.inner, count, log_form, room);
    }
  });
}

template <int kStep, class T>
void backward_rows(const DimShape& s, const T* y, const T* g, int64_t g_row, T* dx, bool log_form) {
  const int64_t n = s.n;
  parallel_sweep(0, s.outer, row_grain<T>(n), [=](int64_t b, int64_t e) {
    const T* out = y + b * n;
    const T* up = g + b * g_row;
    T* in = dx + b * n;
    switch ((n + kLanes<T> - 1) / kLanes<T>) {
      case 1:
        return backward_short<1, kStep>(out, up, g_row, in, e - b, n, log_form);
      case 2:
        return backward_short<2, kStep>(out, up, g_row, in, e - b, n, log_form);
      case 3:
        return backward_short<3, kStep>(out, up, g_row, in, e - b, n, log_form);
      case 4:
        return backward_short<4, kStep>(out, up, g_row, in, e - b, n, log_form);
      default:
        return backward_block<kStep>(out, up, g_row, in, e - b, n, log_form);
    }
  });
}

template <class T>
void backward(const DimShape& s, const T* y, const T* g, const DimStrides& strides, T* dx, bool log_form) {
  if (s.outer == 0 || s.n == 0 || s.inner == 0) return;
  if (s.inner == 1) {
    if (strides.n == 0) return backward_rows<0>(s, y, g, strides.outer, dx, log_form);
    return backward_rows<1>(s, y, g, strides.outer, dx, log_form);
  }
  constexpr int64_t width = kWide * kLanes<T>;
  const int64_t strips = (s.inner + width - 1) / width;
  parallel_sweep(0, s.outer * strips, row_grain<T>(s.n * width), [=](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t column = i % strips * width, row = i / strips, offset = row * s.n * s.inner + column;
      const int64_t count = s.inner - column < width ? s.inner - column : width;
      const T* up = g + row * strides.outer + column * strides.inner;
      backward_strip(y + offset, up, strides.n, strides.inner, dx + offset, s.n, s.inner, count, log_form);
    }
  });
}

template <class T>
void fill(SoftmaxFunctions<T>& f) {
  f.forward = forward<T>;
  f.backward = backward<T>;
}

}  // namespace

void fill(SoftmaxKernels& kernels) {
  fill(kernels.f32);
  fill(kernels.f64);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
