#pragma once

// The machine's limit of multiply-adds, and a kernel timed in turns with it: on a busy or throttled machine both are
// slowed alike, so that the share of the limit stays what it is on a quiet one.

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cpu/isa.h"
#include "tensorgrad/parallel.h"
#include "timing.h"

namespace bench {

namespace peak_detail {
using tensorgrad::cpu::Level;

// Multiply-adds on registers alone, 12 independent chains: what a core can do at most. The compiler may not know x: a
// chain whose value it can tell beforehand would be no work.
#define TENSORGRAD_PEAK_LOOP(NAME, TARGET, TYPE, BYTES)                                                         \
  __attribute__((target(TARGET), noinline)) inline TYPE NAME(int64_t steps) {                                   \
    typedef TYPE V __attribute__((vector_size(BYTES)));                                                         \
    V x;                                                                                                        \
    for (size_t i = 0; i < BYTES / sizeof(TYPE); ++i) x[i] = TYPE(0.5);                                         \
    asm volatile("" : "+v"(x));                                                                                 \
    V a = x, b = a + x, c = b + x, d = c + x, e = d + x, f = e + x, g = f + x, h = g + x, k = h + x, l = k + x, \
      m = l + x, n = m + x;                                                                                     \
    for (int64_t s = 0; s < steps; ++s) {                                                                       \
      a = a * x + x, b = b * x + x, c = c * x + x, d = d * x + x;                                               \
      e = e * x + x, f = f * x + x, g = g * x + x, h = h * x + x;                                               \
      k = k * x + x, l = l * x + x, m = m * x + x, n = n * x + x;                                               \
      asm volatile("" ::: "memory");                                                                            \
    }                                                                                                           \
    return (a + b + c + d + e + f + g + h + k + l + m + n)[0];                                                  \
  }
TENSORGRAD_PEAK_LOOP(peak32_avx512, "avx512f", float, 64)
TENSORGRAD_PEAK_LOOP(peak32_avx2, "avx2,fma", float, 32)
TENSORGRAD_PEAK_LOOP(peak32_baseline, "sse2", float, 16)
TENSORGRAD_PEAK_LOOP(peak64_avx512, "avx512f", double, 64)
TENSORGRAD_PEAK_LOOP(peak64_avx2, "avx2,fma", double, 32)
TENSORGRAD_PEAK_LOOP(peak64_baseline, "sse2", double, 16)
#undef TENSORGRAD_PEAK_LOOP

template <class T>
T loop(Level level, int64_t steps) {
  if constexpr (sizeof(T) == 4) {
    return level == Level::avx512 ? peak32_avx512(steps)
           : level == Level::avx2 ? peak32_avx2(steps)
                                  : peak32_baseline(steps);
  } else {
    return level == Level::avx512 ? peak64_avx512(steps)
           : level == Level::avx2 ? peak64_avx2(steps)
                                  : peak64_baseline(steps);
  }
}
}  // namespace peak_detail

// Seconds: of the clock, or with one thread its CPU time, to which other programs add nothing.
inline double work_now() {
  if (tensorgrad::get_num_threads() > 1) return now();
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Floating-point operations per second of all threads together, T float or double, in a run of about `seconds`, a third
// of a millisecond at least.
template <class T>
double peak_run(tensorgrad::cpu::Level level, double seconds = 0) {
  using tensorgrad::cpu::Level;
  const int64_t steps = 25'000, parts = tensorgrad::get_num_threads() * 8;
  const size_t lanes = (level == Level::avx512 ? 64 : level == Level::avx2 ? 32 : 16) / sizeof(T);
  const double begin = work_now();
  double end = begin;
  int64_t runs = 0;
  do {
    tensorgrad::parallel_for(0, parts, 1, [&](int64_t b, int64_t e) {
      volatile T sink = 0;
      for (; b < e; ++b) sink = peak_detail::loop<T>(level, steps);
      (void)sink;
    });
    ++runs;
    end = work_now();
  } while (end < begin + seconds);
  return 2.0 * 12 * static_cast<double>(lanes) * static_cast<double>(steps * parts * runs) / (end - begin);
}

struct BesidePeak {
  double seconds;  // of one call: the low quartile
  double peak;     // operations per second: the high quartile
};

// Times `call` in turns with the peak for about `seconds`, 15 turns at least: quartiles of seven moved by a tenth when
// the machine was slower for some of them. A turn of the one is as long as a turn of the other, so that both are
// interrupted alike.
template <class T, class Call>
BesidePeak beside_peak(tensorgrad::cpu::Level level, Call&& call, double seconds) {
  call();
  const double first = work_now();
  call();
  const int inner = static_cast<int>(std::clamp(3e-4 / std::max(work_now() - first, 1e-9), 1.0, 1e5));
  std::vector<double> times, peaks;
  const double until = now() + seconds;
  while (times.size() < 15 || now() < until) {
    const double begin = work_now();
    for (int i = 0; i < inner; ++i) call();
    const double spent = work_now() - begin;
    times.push_back(spent / inner);
    peaks.push_back(peak_run<T>(level, spent));
  }
  return {quantile(times, 0.25), quantile(peaks, 0.75)};
}

}  // namespace bench
