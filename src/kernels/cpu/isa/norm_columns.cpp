// Batch norm where the channels lie side by side. Rows of few channels are seen as longer ones, of several rows each,
// so that they are whole registers. Sums are taken by blocks of rows, which depend on the sizes alone, and put together
// in order.

#include "kernels/cpu/copy.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
// behind simd.h
#include "kernels/cpu/batch_columns.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kGrain = 16384;    // elements that one thread should have at the least
constexpr int64_t kMostRows = 512;   // of a block: longer chains of additions would lose digits
constexpr int64_t kBlock = 1 << 17;  // elements of a block
constexpr int64_t kSamples = 16;     // rows whose mean the squares are taken around

// The array as whole rows of `width` elements and a shorter one, in blocks.
struct Columns {
  int64_t channels, width, n;  // n: elements in all
  int64_t whole, tail;         // whole rows, elements of the last one
  int64_t per_block, blocks;

  Columns(int64_t rows, int64_t c, int64_t lanes) : channels(c), n(rows * c) {
    int64_t together = 1;
    if (c < 16 * lanes) {
      const int64_t common = c & -c;  // of both, as lanes is a power of two
      together = common < lanes ? lanes / common : 1;
      while (c * together < 8 * lanes || (c * together < 32 * lanes && c * together * 128 < n)) together *= 2;
    }
    width = c * together;
    whole = n / width;
    tail = n % width;
    per_block = kBlock / width < whole / 8 ? kBlock / width : whole / 8;
    if (per_block > kMostRows) per_block = kMostRows;
    if (per_block * width < kGrain) per_block = kGrain / width + 1;
    blocks = whole <= per_block ? 1 : (whole + per_block - 1) / per_block;
  }
};
// to[w] = from(w % channels) for a row.
template <class T, class From>
TENSORGRAD_INLINE void spread(const Columns& c, T* to, From from) {
  for (int64_t w = 0; w < c.channels; ++w) to[w] = from(w);
  for (int64_t w = c.channels; w < c.width; ++w) to[w] = to[w - c.channels];
}

// Adds kRows rows of `count` elements from `at` on to both sums of a block: term(element, w, lanes, a, b) adds to a, b.
template <int64_t kRows, class T, class Term>
TENSORGRAD_INLINE void add_rows(const Columns& c, int64_t at, int64_t count, T* first, T* second, Term term) {
  registers<T>(
      count, [&](int64_t w, int64_t lanes) __attribute__((always_inline)) {
        Vec<T> a = T(0), b = T(0);
#pragma GCC unroll 4
        for (int64_t k = 0; k < kRows; ++k) term(at + k * c.width + w, w, lanes, a, b);
        store_some(first + w, lanes, load_some(first + w, lanes) + a);
        store_some(second + w, lanes, load_some(second + w, lanes) + b);
      });
}
// The two sums of every channel: put(channel, first, second).
template <class T, class Term, class Put>
void column_sums(const Columns& c, Term term, Put put) {
  T* const partial = scratch_of<T>(ScratchSlot::shared, c.blocks * 2 * c.width);
  const int64_t least = 2 * kGrain / (c.per_block * c.width);
  parallel_sweep(0, c.blocks, least > 0 ? least : 1, [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      T *first = partial + k * 2 * c.width, *second = first + c.width;
      __builtin_memset(first, 0, static_cast<size_t>(2 * c.width) * sizeof(T));
      int64_t r = k * c.per_block;
      const int64_t last = r + c.per_block < c.whole ? r + c.per_block : c.whole;
      for (; r + 4 <= last; r += 4) add_rows<4>(c, r * c.width, c.width, first, second, term);
      for (; r < last; ++r) add_rows<1>(c, r * c.width, c.width, first, second, term);
      if (k + 1 == c.blocks && c.tail > 0) add_rows<1>(c, c.whole * c.width, c.tail, first, second, term);
    }
  });
  // Up to kTogether blocks in T, those sums in double.
  constexpr int64_t kTogether = 16;
  for (int64_t k = 0; k < c.blocks; k += kTogether) {
    T* const sum = partial + k * 2 * c.width;
    for (int64_t other = k + 1; other < k + kTogether && other < c.blocks; ++other) {
      const T* more = partial + other * 2 * c.width;
      registers<T>(
          2 * c.width, [&](int64_t w, int64_t lanes) __attribute__((always_inline)) {
            store_some(sum + w, lanes, load_some(sum + w, lanes) + load_some(more + w, lanes));
          });
    }
  }
  for (int64_t channel = 0; channel < c.channels; ++channel) {
    double first = 0, second = 0;
    for (int64_t k = 0; k < c.blocks; k += kTogether) {
      const T* sum = partial + k * 2 * c.width;
      for (int64_t w = channel; w < c.width; w += c.channels) {
        first += static_cast<double>(sum[w]);
        second += static_cast<double>(sum[w + c.width]);
      }
    }
    put(channel, first, second);
  }
}

// to[i] = formula(w, lanes)(i) for kRows rows of `count` elements from `at` on: what a formula reads of its column
// alone is read once for all of them.
template <int64_t kRows, bool kPast, class T, class Formula>
TENSORGRAD_INLINE void map_some(const Columns& c, int64_t at, int64_t count, T* to, Formula formula) {
  registers<T>(
      count, [&](int64_t w, int64_t lanes) __attribute__((always_inline)) {
        const auto each = formula(w, lanes);
#pragma GCC unroll 4
        for (int64_t k = 0; k < kRows; ++k) {
          const int64_t i = at + k * c.width + w;
          kPast&& lanes == kLanes<T> ? stream(to + i, each(i)) : store_some(to + i, lanes, each(i));
        }
      });
}
template <bool kPast, class T, class Formula>
TENSORGRAD_INLINE void map_range(const Columns& c, int64_t r, int64_t end, T* to, Formula formula) {
  const int64_t last = end < c.whole ? end : c.whole;
  for (; !kPast && r + 4 <= last; r += 4) map_some<4, kPast>(c, r * c.width, c.width, to, formula);
  for (; r < last; ++r) map_some<1, kPast>(c, r * c.width, c.width, to, formula);
  if (end > c.whole) map_some<1, false>(c, c.whole * c.width, c.tail, to, formula);
}
// Every row, past the caches where results would not stay in them.
template <class T, class Formula>
void map_rows(const Columns& c, int64_t bytes_read, T* to, Formula formula) {
  constexpr auto kItem = static_cast<int64_t>(sizeof(T));
  const bool past = c.n * (bytes_read + kItem) >= kStreamBytes && c.width % kLanes<T> == 0 &&
                    reinterpret_cast<uintptr_t>(to) % kVectorBytes == 0;
  const int64_t rows = c.whole + (c.tail > 0), least = 4 * kGrain / c.width;  // little to do for each
  parallel_sweep(0, rows, least > 0 ? least : 1, [=](int64_t begin, int64_t end) {
    if (!past) return map_range<false>(c, begin, end, to, formula);
    map_range<true>(c, begin, end, to, formula);
    stream_end();
  });
}

}  // namespace

template <class T>
void column_stats(int64_t rows, int64_t channels, const T* x, const BatchStatistics<T>& to) {
  const Columns c(rows, channels, kLanes<T>);
  T* const centre = scratch_of<T>(ScratchSlot::shared2, c.width);
  const int64_t samples = rows < kSamples ? rows : kSamples, step = rows / samples * channels;
  const Vec<T> share = T(1) / static_cast<T>(samples);
  registers<T>(
      channels, [&](int64_t k, int64_t lanes) __attribute__((always_inline)) {
        Vec<T> sum = T(0);
        for (int64_t s = 0; s < samples; ++s) sum = fma(load_some(x + s * step + k, lanes), share, sum);
        store_some(centre + k, lanes, sum);
      });
  spread(c, centre, [=](int64_t k) { return centre[k]; });
  const auto term = [=](int64_t i, int64_t w, int64_t lanes, Vec<T> & a, Vec<T> & b) __attribute__((always_inline)) {
    const Vec<T> d = load_some(x + i, lanes) - load_some(centre + w, lanes);
    a = a + d;
    b = fma(d, d, b);
  };
  column_sums<T>(c, term, [&](int64_t k, double sum, double squares) {
    const double mean = sum / to.count;
    to.put(k, static_cast<double>(centre[k]) + mean, squares / to.count - mean * mean);
  });
}

template <class T>
void column_apply(int64_t rows, int64_t channels, const T* x, const T* mean, const T* rstd, const T* weight,
                  const T* bias, T* y) {
  const Columns c(rows, channels, kLanes<T>);
  T* const centre = scratch_of<T>(ScratchSlot::shared, 3 * c.width);
  T *const scale = centre + c.width, *const shift = scale + c.width;
  spread(c, centre, [=](int64_t k) { return mean[k]; });
  spread(c, scale, [=](int64_t k) { return weight ? rstd[k] * weight[k] : rstd[k]; });
  spread(c, shift, [=](int64_t k) { return bias ? bias[k] : T(0); });
  map_rows(
      c, sizeof(T), y, [=](int64_t w, int64_t lanes) __attribute__((always_inline)) {
        const Vec<T> m = load_some(centre + w, lanes), a = load_some(scale + w, lanes), b = load_some(shift + w, lanes);
        return [=](int64_t i) __attribute__((always_inline)) { return fma(load_some(x + i, lanes) - m, a, b); };
      });
}

template <class T>
void column_backward(int64_t rows, int64_t channels, const T* g, const T* x, const T* mean, const T* rstd,
                     const T* weight, bool batch_statistics, T* dx, T* dweight, T* dbias) {
  const Columns c(rows, channels, kLanes<T>);
  // Of each channel: its mean, and the factors in dx = g * of_g + ((x - mean) * of_x + constant).
  T* const centre = scratch_of<T>(ScratchSlot::shared2, 4 * c.width);
  T *const of_g = centre + c.width, *const of_x = of_g + c.width, *const constant = of_x + c.width;
  spread(c, centre, [=](int64_t k) { return mean[k]; });
  spread(c, of_g, [=](int64_t k) { return weight ? rstd[k] * weight[k] : rstd[k]; });
  if (batch_statistics || dweight || dbias) {
    const auto term = [=](int64_t i, int64_t w, int64_t lanes, Vec<T> & a, Vec<T> & b) __attribute__((always_inline)) {
      const Vec<T> up = load_some(g + i, lanes);
      a = a + up;
      b = fma(up, load_some(x + i, lanes) - load_some(centre + w, lanes), b);
    };
    column_sums<T>(c, term, [&](int64_t k, double sum_g, double sum_gx) {
      const double s = static_cast<double>(rstd[k]), a = static_cast<double>(of_g[k]) / static_cast<double>(rows);
      if (dweight) dweight[k] = static_cast<T>(sum_gx * s);
      if (dbias) dbias[k] = static_cast<T>(sum_g);
      of_x[k] = static_cast<T>(-a * s * s * sum_gx);
      constant[k] = static_cast<T>(-a * sum_g);
    });
  }
  if (!dx) return;
  if (!batch_statistics) {
    return map_rows(
        c, sizeof(T), dx, [=](int64_t w, int64_t lanes) __attribute__((always_inline)) {
          const Vec<T> a = load_some(of_g + w, lanes);
          return [=](int64_t i) __attribute__((always_inline)) { return load_some(g + i, lanes) * a; };
        });
  }
  spread(c, of_x, [=](int64_t k) { return of_x[k]; });
  spread(c, constant, [=](int64_t k) { return constant[k]; });
  map_rows(
      c, 2 * sizeof(T), dx, [=](int64_t w, int64_t lanes) __attribute__((always_inline)) {
        const Vec<T> m = load_some(centre + w, lanes), a = load_some(of_g + w, lanes), b = load_some(of_x + w, lanes),
                     d = load_some(constant + w, lanes);
        return [=](int64_t i) __attribute__((always_inline)) {
          return fma(load_some(g + i, lanes), a, fma(load_some(x + i, lanes) - m, b, d));
        };
      });
}

#define TENSORGRAD_COLUMNS(T)                                                                                        \
  template void column_stats<T>(int64_t, int64_t, const T*, const BatchStatistics<T>&);                              \
  template void column_apply<T>(int64_t, int64_t, const T*, const T*, const T*, const T*, const T*, T*);             \
  template void column_backward<T>(int64_t, int64_t, const T*, const T*, const T*, const T*, const T*, bool, T*, T*, \
                                   T*);
TENSORGRAD_COLUMNS(float)
TENSORGRAD_COLUMNS(double)

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
