// Layer, RMS, group and batch normalisation. Sums over rows are taken in groups whose number depends on the sizes
// alone, so that results do not depend on the number of threads.

#include "kernels/norm.h"

#include "kernels/cpu/rows.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
// behind simd.h
#include "kernels/cpu/batch_columns.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kGrain = 16384;    // elements that one thread should have at the least
constexpr int64_t kSumBlock = 4096;  // elements summed in T before the sum goes to double

int64_t grain_of(int64_t n) { return n >= kGrain ? 1 : kGrain / (n > 0 ? n : 1); }

template <class T>
T inverse_sqrt(double x) {
  return static_cast<T>(1.0 / __builtin_sqrt(x));
}

// ---- layer norm and RMS norm --------------------------------------------------------------------------------------

template <class T>
T mean_of(const T* x, int64_t n) {
  return row_sum<T>(
             n, [&](int64_t i) __attribute__((always_inline)) { return load(x + i); },
             [&](int64_t i, int64_t c) __attribute__((always_inline)) { return load_n(x + i, c); }) /
         static_cast<T>(n);
}
// Mean of (x - centre)^2.
template <class T>
T square_mean_of(const T* x, T centre, int64_t n) {
  const Vec<T> m = centre;
  return row_sum<T>(
             n,
             [&](int64_t i) __attribute__((always_inline)) {
               const Vec<T> d = load(x + i) - m;
               return d * d;
             },
             [&](int64_t i, int64_t c) __attribute__((always_inline)) {
               const Vec<T> d = select(first_lanes<T>(c), load_n(x + i, c) - m, Vec<T>(T(0)));
               return d * d;
             }) /
         static_cast<T>(n);
}

// y = (x - mean) * rstd * weight + bias over one row.
template <class T>
void affine_row(const T* x, T mean, T rstd, const T* weight, const T* bias, T* y, int64_t n) {
  const Vec<T> m = mean, r = rstd;
  registers<T>(
      n, [&](int64_t i, int64_t c) __attribute__((always_inline)) {
        Vec<T> v = (load_some(x + i, c) - m) * r;
        if (weight) v = v * load_some(weight + i, c);
        if (bias) v = v + load_some(bias + i, c);
        store_some(y + i, c, v);
      });
}

template <class T>
void layer_forward(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, double eps, bool centre, T* y,
                   T* mean, T* rstd) {
  parallel_sweep(0, rows, grain_of(n), [=](int64_t b, int64_t e) {
    for (int64_t r = b; r < e; ++r) {
      const T* in = x + r * n;
      const T m = centre ? mean_of(in, n) : T(0);
      const T s = inverse_sqrt<T>(static_cast<double>(square_mean_of(in, m, n)) + eps);
      if (centre) mean[r] = m;
      rstd[r] = s;
      affine_row(in, m, s, weight, bias, y + r * n, n);
    }
  });
}

// Sums of u = g * weight and of u * x^ over one row; g * x^ and g are added to dweight and dbias unless null.
template <class T>
TENSORGRAD_INLINE void layer_row_sums(const T* g, const T* x, T mean, T rstd, const T* weight, T* dweight, T* dbias,
                                      int64_t n, T& sum_u, T& sum_ux) {
  const Vec<T> m = mean, s = rstd;
  const auto term = [&](int64_t i, int64_t c, Vec<T> & a, Vec<T> & b) __attribute__((always_inline)) {
    const Vec<T> up = load_some(g + i, c);  // 0 past the end
    const Vec<T> normal = (load_some(x + i, c) - m) * s;
    const Vec<T> product = up * normal;
    if (dweight) store_some(dweight + i, c, load_some(dweight + i, c) + product);
    if (dbias) store_some(dbias + i, c, load_some(dbias + i, c) + up);
    if (weight) {
      const Vec<T> w = load_some(weight + i, c);
      a = fma(up, w, a);
      b = fma(product, w, b);
    } else {
      a = a + up;
      b = b + product;
    }
  };
  row_sums<T>(
      n, [&](int64_t i, Vec<T> & a, Vec<T> & b) __attribute__((always_inline)) { term(i, kLanes<T>, a, b); },
      [&](int64_t i, int64_t c, Vec<T> & a, Vec<T> & b) __attribute__((always_inline)) { term(i, c, a, b); }, sum_u,
      sum_ux);
}

template <class T>
void layer_backward(int64_t rows, int64_t n, const T* g, const T* x, const T* mean, const T* rstd, const T* weight,
                    bool centre, T* dx, T* dweight, T* dbias) {
  // Groups of rows, each with sums of its own for dweight and dbias, added in order at the end.
  const int64_t groups = rows * n < 2 * kGrain || rows < 2 ? 1 : rows < 16 ? rows : 16;
  const bool sums = dweight || dbias;
  T* partial = sums ? scratch_of<T>(ScratchSlot::shared, groups * 2 * n) : nullptr;
  parallel_sweep(0, groups, 1, [=](int64_t b, int64_t e) {
    for (int64_t k = b; k < e; ++k) {
      T* dw = dweight ? partial + k * 2 * n : nullptr;
      T* db = dbias ? partial + k * 2 * n + n : nullptr;
      if (sums) __builtin_memset(partial + k * 2 * n, 0, static_cast<size_t>(2 * n) * sizeof(T));
      for (int64_t r = rows * k / groups; r < rows * (k + 1) / groups; ++r) {
        const T m = centre ? mean[r] : T(0), s = rstd[r];
        T sum_u, sum_ux;
        layer_row_sums(g + r * n, x + r * n, m, s, weight, dw, db, n, sum_u, sum_ux);
        if (!dx) continue;
        const Vec<T> c1 = centre ? sum_u / static_cast<T>(n) : T(0), c2 = sum_ux / static_cast<T>(n), vm = m, vs = s;
        registers<T>(
            n, [&](int64_t i, int64_t c) __attribute__((always_inline)) {
              Vec<T> u = load_some(g + r * n + i, c);
              if (weight) u = u * load_some(weight + i, c);
              const Vec<T> normal = (load_some(x + r * n + i, c) - vm) * vs;
              store_some(dx + r * n + i, c, (u - c1 - normal * c2) * vs);
            });
      }
    }
  });
  T* const outputs[] = {dweight, dbias};
  for (T* out : outputs) {
    if (!out) continue;
    const T* from = out == dweight ? partial : partial + n;
    registers<T>(
        n, [&](int64_t i, int64_t c) __attribute__((always_inline)) {
          Vec<T> s = load_some(from + i, c);
          for (int64_t k = 1; k < groups; ++k) s += load_some(from + k * 2 * n + i, c);
          store_some(out + i, c, s);
        });
  }
}

// ---- sums over runs, shared by group and batch norm -----------------------------------------------------------------

// Adds the sums over `runs` runs of n values, `step` apart, of two terms: add(offset, count, a, b) adds both of the
// `count` values at an offset to registers. Short runs share the registers; what they hold goes to double every so
// often.
template <class T, class Add>
TENSORGRAD_INLINE void run_sums(int64_t runs, int64_t n, int64_t step, Add add, double& first, double& second) {
  Vec<T> a[2] = {T(0), T(0)}, b[2] = {T(0), T(0)};
  const auto flush = [&]() __attribute__((always_inline)) {
    first += static_cast<double>(reduce_add(a[0] + a[1]));
    second += static_cast<double>(reduce_add(b[0] + b[1]));
    a[0] = a[1] = b[0] = b[1] = Vec<T>(T(0));
  };
  int64_t held = 0;
  for (int64_t r = 0; r < runs; ++r) {
    for (int64_t start = 0; start < n; start += kSumBlock) {
      const int64_t end = n - start < kSumBlock ? n : start + kSumBlock;
      if (held + (end - start) > kSumBlock) {
        flush();
        held = 0;
      }
      held += end - start;
      int64_t i = r * step + start;
      const int64_t stop = r * step + end;
      for (; i + 2 * kLanes<T> <= stop; i += 2 * kLanes<T>) {
        add(i, int64_t{kLanes<T>}, a[0], b[0]);
        add(i + kLanes<T>, int64_t{kLanes<T>}, a[1], b[1]);
      }
      for (; i < stop; i += kLanes<T>) add(i, stop - i < kLanes<T> ? stop - i : int64_t{kLanes<T>}, a[0], b[0]);
    }
  }
  flush();
}
// Adds the sums of (x - shift) and (x - shift)^2.
template <class T>
void add_moments(const T* x, T shift, int64_t runs, int64_t n, int64_t step, double& first, double& second) {
  const Vec<T> k = shift;
  run_sums<T>(
      runs, n, step,
      [&](int64_t i, int64_t c, Vec<T> & s, Vec<T> & q) __attribute__((always_inline)) {
        Vec<T> d = load_some(x + i, c) - k;
        if (c < kLanes<T>) d = select(first_lanes<T>(c), d, Vec<T>(T(0)));
        s = s + d;
        q = fma(d, d, q);
      },
      first, second);
}
// Adds the sums of g and g * (x - mean).
template <class T>
void add_gradient_sums(const T* g, const T* x, T mean, int64_t runs, int64_t n, int64_t step, double& sum_g,
                       double& sum_gx) {
  const Vec<T> m = mean;
  run_sums<T>(
      runs, n, step,
      [&](int64_t i, int64_t c, Vec<T> & s, Vec<T> & t) __attribute__((always_inline)) {
        const Vec<T> up = load_some(g + i, c);
        Vec<T> d = load_some(x + i, c) - m;
        if (c < kLanes<T>) d = select(first_lanes<T>(c), d, Vec<T>(T(0)));
        s = s + up;
        t = fma(up, d, t);
      },
      sum_g, sum_gx);
}
// y = (x - mean) * scale + shift over n values.
template <class T>
TENSORGRAD_INLINE void scale_run(const T* x, T mean, T scale, T shift, T* y, int64_t n) {
  const Vec<T> m = mean, a = scale, b = shift;
  registers<T>(
      n, [&](int64_t i, int64_t c)
             __attribute__((always_inline)) { store_some(y + i, c, fma(load_some(x + i, c) - m, a, b)); });
}
// dx = g * a + (x - mean) * b + c over n values.
template <class T>
TENSORGRAD_INLINE void gradient_run(const T* g, const T* x, T mean, T a, T b, T c, T* dx, int64_t n) {
  const Vec<T> m = mean, va = a, vb = b, vc = c;
  registers<T>(
      n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
        store_some(dx + i, count, fma(load_some(g + i, count), va, fma(load_some(x + i, count) - m, vb, vc)));
      });
}

// v[0]'s lane k becomes the sum of v[k]'s lanes: neighbours are interleaved in blocks of S and added, down to one.
template <int S, class T, int... I>
TENSORGRAD_INLINE Vec<T> add_pair(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  constexpr int L = kLanes<T>;
  return Vec<T>(Raw<T>(__builtin_shufflevector(a.v, b.v, (I % (2 * S) < S ? I : L + I - S)...))) +
         Vec<T>(Raw<T>(__builtin_shufflevector(a.v, b.v, (I % (2 * S) < S ? I + S : L + I)...)));
}
template <int S, class T>
TENSORGRAD_INLINE void sum_each(Vec<T>* v) {
  if constexpr (S < kLanes<T>) {
#pragma GCC unroll 16
    for (int k = 0; k < kLanes<T>; k += 2 * S)
      v[k] = add_pair<S>(v[k], v[k + S], std::make_integer_sequence<int, kLanes<T>>{});
    sum_each<2 * S>(v);
  }
}
// The sums of g and of g * (x - mean) over each of a register of channels of n values, n of a few registers; channel k
// has the mean at k * step.
constexpr int64_t kFewRegisters = 4;
template <class T>
TENSORGRAD_INLINE void short_channel_sums(const T* g, const T* x, const T* mean, int64_t step, int64_t n, Vec<T>& sum_g,
                                          Vec<T>& sum_gx) {
  constexpr int L = kLanes<T>;
  Vec<T> a[L], b[L];
#pragma GCC unroll 16
  for (int k = 0; k < L; ++k) {
    const T *gk = g + k * n, *xk = x + k * n;
    const Vec<T> m = mean[k * step];
    a[k] = b[k] = T(0);
    int64_t i = 0;
    for (; i + L <= n; i += L) {
      const Vec<T> up = load(gk + i);
      a[k] = a[k] + up;
      b[k] = fma(up, load(xk + i) - m, b[k]);
    }
    if (i < n) {  // g is 0 past the end
      const Vec<T> up = load_n(gk + i, n - i);
      a[k] = a[k] + up;
      b[k] = b[k] + select(first_lanes<T>(n - i), up * (load_n(xk + i, n - i) - m), Vec<T>(T(0)));
    }
  }
  sum_each<1>(a);
  sum_each<1>(b);
  sum_g = a[0];
  sum_gx = b[0];
}

// ---- group norm ---------------------------------------------------------------------------------------------------

template <class T>
void group_forward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const T* x, const T* weight,
                   const T* bias, double eps, T* y, T* mean, T* rstd) {
  const int64_t per_group = channels / groups, n = per_group * spatial;
  parallel_sweep(0, batch * groups, grain_of(n), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* in = x + r * n;
      double sum = 0, square = 0;
      if (n > 0) add_moments(in, in[0], 1, n, n, sum, square);
      const double shifted = sum / static_cast<double>(n);
      const double var = square / static_cast<double>(n) - shifted * shifted;
      mean[r] = static_cast<T>((n > 0 ? static_cast<double>(in[0]) : 0) + shifted);
      rstd[r] = inverse_sqrt<T>((var > 0 || var != var ? var : 0) + eps);
      for (int64_t k = 0; k < per_group; ++k) {
        const int64_t c = r % groups * per_group + k;
        scale_run(in + k * spatial, mean[r], weight ? rstd[r] * weight[c] : rstd[r], bias ? bias[c] : T(0),
                  y + r * n + k * spatial, spatial);
      }
    }
  });
}

// A register of groups of one small channel each (instance norm), from r on. `sums`: those of g * x^ and g of every
// group, or null.
template <class T>
void single_backward(int64_t r, int64_t spatial, int64_t channels, const T* g, const T* x, const T* mean, const T* rstd,
                     const T* weight, T* dx, T* sums) {
  constexpr int L = kLanes<T>;
  Vec<T> sum_g, sum_gx;
  short_channel_sums(g + r * spatial, x + r * spatial, mean + r, 1, spatial, sum_g, sum_gx);
  const Vec<T> s = load(rstd + r);
  T of_g[L], of_x[L], constant[L];
  for (int k = 0; k < L; ++k) of_g[k] = weight ? weight[(r + k) % channels] : T(1);
  for (int k = 0; sums && k < L; ++k) {
    sums[(r + k) * 2] = sum_gx[k] * s[k];
    sums[(r + k) * 2 + 1] = sum_g[k];
  }
  if (!dx) return;
  const Vec<T> a = load(static_cast<const T*>(of_g)) * s, inverse = T(1) / static_cast<T>(spatial);
  store(of_g + 0, a);
  store(of_x + 0, -(a * s * s * sum_gx * inverse));
  store(constant + 0, -(a * sum_g * inverse));
  for (int k = 0; k < L; ++k) {
    const int64_t offset = (r + k) * spatial;
    gradient_run(g + offset, x + offset, mean[r + k], of_g[k], of_x[k], constant[k], dx + offset, spatial);
  }
}

template <class T>
void group_backward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const T* g, const T* x,
                    const T* mean, const T* rstd, const T* weight, T* dx, T* dweight, T* dbias) {
  const int64_t per_group = channels / groups, n = per_group * spatial;
  // Of each (sample, channel): the sums of g * x^ and of g.
  const bool wanted = dweight || dbias;
  T* sums = wanted ? scratch_of<T>(ScratchSlot::shared, batch * channels * 2) : nullptr;
  const int64_t strips = per_group == 1 && spatial <= kFewRegisters * kLanes<T> ? batch * groups / kLanes<T> : 0;
  parallel_sweep(0, strips, grain_of(n * kLanes<T>), [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k)
      single_backward(k * kLanes<T>, spatial, channels, g, x, mean, rstd, weight, dx, sums);
  });
  parallel_sweep(strips * kLanes<T>, batch * groups, grain_of(n), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T m = mean[r], s = rstd[r];
      double mean_u = 0, mean_ux = 0;
      int64_t k = 0;
      for (; spatial <= kFewRegisters * kLanes<T> && k + kLanes<T> <= per_group; k += kLanes<T>) {
        const int64_t offset = r * n + k * spatial, c = r % groups * per_group + k;
        Vec<T> sum_g, sum_gx;
        short_channel_sums(g + offset, x + offset, mean + r, 0, spatial, sum_g, sum_gx);
        if (wanted) {
          T* own = sums + (r / groups * channels + c) * 2;
          for (int lane = 0; lane < kLanes<T>; ++lane) {
            own[2 * lane] = sum_gx[lane] * s;
            own[2 * lane + 1] = sum_g[lane];
          }
        }
        const Vec<T> w = weight ? load(weight + c) : Vec<T>(T(1));
        mean_u += static_cast<double>(reduce_add(w * sum_g));
        mean_ux += static_cast<double>(reduce_add(w * sum_gx));
      }
      for (; k < per_group; ++k) {
        double sum_g = 0, sum_gx = 0;
        const int64_t offset = r * n + k * spatial;
        add_gradient_sums(g + offset, x + offset, m, 1, spatial, spatial, sum_g, sum_gx);
        const int64_t c = r % groups * per_group + k;
        if (wanted) {
          T* own = sums + (r / groups * channels + c) * 2;
          own[0] = static_cast<T>(sum_gx * s);
          own[1] = static_cast<T>(sum_g);
        }
        const double w = weight ? static_cast<double>(weight[c]) : 1.0;
        mean_u += w * sum_g;
        mean_ux += w * sum_gx;
      }
      if (!dx) continue;
      mean_u /= static_cast<double>(n);
      mean_ux *= s / static_cast<double>(n);
      for (k = 0; k < per_group; ++k) {
        const int64_t offset = r * n + k * spatial, c = r % groups * per_group + k;
        gradient_run(g + offset, x + offset, m, weight ? weight[c] * s : s, static_cast<T>(-mean_ux * s * s),
                     static_cast<T>(-mean_u * s), dx + offset, spatial);
      }
    }
  });
  if (!wanted) return;
  double totals[256];  // of 128 channels at a time, sample after sample
  for (int64_t from = 0; from < 2 * channels; from += 256) {
    const int64_t count = 2 * channels - from < 256 ? 2 * channels - from : 256;
    for (int64_t k = 0; k < count; ++k) totals[k] = 0;
    for (int64_t i = 0; i < batch; ++i) {
      const T* own = sums + i * channels * 2 + from;
      for (int64_t k = 0; k < count; ++k) totals[k] += static_cast<double>(own[k]);
    }
    for (int64_t k = 0; k < count; k += 2) {
      if (dweight) dweight[(from + k) / 2] = static_cast<T>(totals[k]);
      if (dbias) dbias[(from + k) / 2] = static_cast<T>(totals[k + 1]);
    }
  }
}

// ---- batch norm ---------------------------------------------------------------------------------------------------

template <class T>
void batch_stats(int64_t batch, int64_t channels, int64_t spatial, const T* x, double eps, double momentum,
                 T* running_mean, T* running_var, T* mean, T* rstd) {
  if (batch * spatial == 0) return;
  const double count = static_cast<double>(batch * spatial);
  const BatchStatistics<T> to{count, eps, momentum, running_mean, running_var, mean, rstd};
  if (spatial == 1) return column_stats(batch, channels, x, to);
  parallel_sweep(0, channels, grain_of(batch * spatial), [=](int64_t b, int64_t e) {
    for (int64_t c = b; c < e; ++c) {
      const T shift = x[c * spatial];
      double sum = 0, square = 0;
      add_moments(x + c * spatial, shift, batch, spatial, channels * spatial, sum, square);
      const double shifted = sum / count;
      to.put(c, static_cast<double>(shift) + shifted, square / count - shifted * shifted);
    }
  });
}

template <class T>
void batch_apply(int64_t batch, int64_t channels, int64_t spatial, const T* x, const T* mean, const T* rstd,
                 const T* weight, const T* bias, T* y) {
  if (spatial == 1) return column_apply(batch, channels, x, mean, rstd, weight, bias, y);
  parallel_sweep(0, batch * channels, grain_of(spatial), [=](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t c = i % channels;
      scale_run(x + i * spatial, mean[c], weight ? rstd[c] * weight[c] : rstd[c], bias ? bias[c] : T(0),
                y + i * spatial, spatial);
    }
  });
}

// A register of channels of few values each, which lie side by side in every sample.
template <class T>
void batch_backward_short(int64_t batch, int64_t channels, int64_t spatial, int64_t c, const T* g, const T* x,
                          const T* mean, const T* rstd, const T* weight, bool batch_statistics, T* dx, T* dweight,
                          T* dbias) {
  constexpr int64_t L = kLanes<T>, kSamples = 64;  // long chains of additions would lose digits
  Vec<T> sum_g = T(0), sum_gx = T(0);
  for (int64_t start = 0; start < batch; start += kSamples) {
    Vec<T> part_g = T(0), part_gx = T(0);
    for (int64_t i = start; i < batch && i < start + kSamples; ++i) {
      const int64_t offset = (i * channels + c) * spatial;
      Vec<T> one_g, one_gx;
      short_channel_sums(g + offset, x + offset, mean + c, 1, spatial, one_g, one_gx);
      part_g += one_g;
      part_gx += one_gx;
    }
    sum_g += part_g;
    sum_gx += part_gx;
  }
  const Vec<T> s = load(rstd + c), a = weight ? s * load(weight + c) : s;
  sum_gx = sum_gx * s;
  if (dweight) store(dweight + c, sum_gx);
  if (dbias) store(dbias + c, sum_g);
  if (!dx) return;
  const T inverse = batch_statistics ? T(1) / static_cast<T>(batch * spatial) : T(0);
  T of_g[L], of_x[L], constant[L];
  store(of_g + 0, a);
  store(of_x + 0, -(a * s * sum_gx * inverse));
  store(constant + 0, -(a * sum_g * inverse));
  for (int64_t i = 0; i < batch; ++i) {
    for (int64_t k = 0; k < L; ++k) {
      const int64_t offset = (i * channels + c + k) * spatial;
      gradient_run(g + offset, x + offset, mean[c + k], of_g[k], batch_statistics ? of_x[k] : T(0),
                   batch_statistics ? constant[k] : T(0), dx + offset, spatial);
    }
  }
}

template <class T>
void batch_backward(int64_t batch, int64_t channels, int64_t spatial, const T* g, const T* x, const T* mean,
                    const T* rstd, const T* weight, bool batch_statistics, T* dx, T* dweight, T* dbias) {
  if (spatial == 1)
    return column_backward(batch, channels, g, x, mean, rstd, weight, batch_statistics, dx, dweight, dbias);
  const double count = static_cast<double>(batch * spatial);
  const int64_t strips = spatial <= kFewRegisters * kLanes<T> ? channels / kLanes<T> : 0,
                strip_end = strips * kLanes<T>;
  parallel_sweep(0, strips, grain_of(batch * spatial * kLanes<T>), [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k)
      batch_backward_short(batch, channels, spatial, k * kLanes<T>, g, x, mean, rstd, weight, batch_statistics, dx,
                           dweight, dbias);
  });
  parallel_sweep(strip_end, channels, grain_of(batch * spatial), [=](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      double sum_g = 0, sum_gx = 0;
      if (batch_statistics || dweight || dbias) {
        add_gradient_sums(g + c * spatial, x + c * spatial, mean[c], batch, spatial, channels * spatial, sum_g, sum_gx);
      }
      const double s = static_cast<double>(rstd[c]);
      if (dweight) dweight[c] = static_cast<T>(sum_gx * s);
      if (dbias) dbias[c] = static_cast<T>(sum_g);
      if (!dx) continue;
      const double a = weight ? s * static_cast<double>(weight[c]) : s;
      const T b = batch_statistics ? static_cast<T>(-a * s * s * sum_gx / count) : T(0);
      const T d = batch_statistics ? static_cast<T>(-a * sum_g / count) : T(0);
      for (int64_t i = 0; i < batch; ++i) {
        const int64_t offset = (i * channels + c) * spatial;
        gradient_run(g + offset, x + offset, mean[c], static_cast<T>(a), b, d, dx + offset, spatial);
      }
    }
  });
}

template <class T>
void fill(NormFunctions<T>& f) {
  f.layer_forward = layer_forward<T>;
  f.layer_backward = layer_backward<T>;
  f.group_forward = group_forward<T>;
  f.group_backward = group_backward<T>;
  f.batch_stats = batch_stats<T>;
  f.batch_apply = batch_apply<T>;
  f.batch_backward = batch_backward<T>;
}

}  // namespace

void fill(NormKernels& kernels) {
  fill(kernels.f32);
  fill(kernels.f64);
  kernels.takes_channels_last = true;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
