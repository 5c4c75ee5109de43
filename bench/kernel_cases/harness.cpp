#include "harness.h"

#include <algorithm>
#include <cstring>

#include "tensorgrad/parallel.h"

namespace bench {

using tensorgrad::cpu::Level;

std::vector<float> numbers(int64_t n) {
  std::vector<float> v(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& x : v) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return v;
}

double median_seconds(const std::function<void()>& call, double seconds) {
  call();
  const double first = now();
  call();
  const double once = std::max(now() - first, 1e-9);
  const int inner = std::max(1, static_cast<int>(5e-5 / once));
  std::vector<double> times;
  const double until = now() + seconds;
  while (times.size() < 3 || (now() < until && times.size() < 2000)) {
    const double begin = now();
    for (int i = 0; i < inner; ++i) call();
    times.push_back((now() - begin) / inner);
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

namespace {

// Multiply-adds on registers alone, 12 independent chains: what a core can do at most.
#define PEAK_LOOP(NAME, TARGET, TYPE, BYTES)                                                                    \
  __attribute__((target(TARGET), noinline)) TYPE NAME(int64_t steps) {                                          \
    typedef TYPE V __attribute__((vector_size(BYTES)));                                                         \
    V x;                                                                                                        \
    for (size_t i = 0; i < BYTES / sizeof(TYPE); ++i) x[i] = TYPE(0.5);                                         \
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
PEAK_LOOP(peak32_avx512, "avx512f", float, 64)
PEAK_LOOP(peak32_avx2, "avx2,fma", float, 32)
PEAK_LOOP(peak32_baseline, "sse2", float, 16)
PEAK_LOOP(peak64_avx512, "avx512f", double, 64)
PEAK_LOOP(peak64_avx2, "avx2,fma", double, 32)
PEAK_LOOP(peak64_baseline, "sse2", double, 16)
#undef PEAK_LOOP

template <class T>
T peak_loop(Level level, int64_t steps) {
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

template <class T>
double fma_per_second(double seconds) {
  const Level level = tensorgrad::cpu::isa_level();
  const int64_t steps = 100'000, parts = tensorgrad::get_num_threads() * 8;
  const size_t lanes = (level == Level::avx512 ? 64 : level == Level::avx2 ? 32 : 16) / sizeof(T);
  const double time = median_seconds(
      [&] {
        tensorgrad::parallel_for(0, parts, 1, [&](int64_t b, int64_t e) {
          volatile T sink = 0;
          for (; b < e; ++b) sink = peak_loop<T>(level, steps);
          (void)sink;
        });
      },
      seconds);
  return 2.0 * 12 * static_cast<double>(lanes) * static_cast<double>(steps * parts) / time;
}

// The sum of 64-bit words: a loop that waits for memory alone.
uint64_t sum_words(const uint64_t* p, int64_t n) {
  typedef uint64_t V __attribute__((vector_size(16), may_alias, aligned(8)));
  V s0 = {}, s1 = {}, s2 = {}, s3 = {}, s4 = {}, s5 = {}, s6 = {}, s7 = {};
  for (const uint64_t* end = p + n / 16 * 16; p != end; p += 16) {
    const V* v = reinterpret_cast<const V*>(p);
    s0 += v[0], s1 += v[1], s2 += v[2], s3 += v[3];
    s4 += v[4], s5 += v[5], s6 += v[6], s7 += v[7];
  }
  const V all = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
  return all[0] + all[1];
}

constexpr int64_t kMemory = int64_t{1} << 27, kGrain = int64_t{1} << 20;  // bytes
constexpr int64_t kCache = int64_t{1} << 18;                              // of each array of each thread
constexpr int64_t kRepeats = 64;                                          // in the cache, by one thread

void copy_bytes(char* to, const char* from, int64_t n) { std::memcpy(to, from, static_cast<size_t>(n)); }
void read_bytes(char*, const char* from, int64_t n) {
  volatile uint64_t sink = sum_words(reinterpret_cast<const uint64_t*>(from), n / 8);
  (void)sink;
}
using Body = void (*)(char* to, const char* from, int64_t n);

// Bytes of `from` that all threads together go through in a second: each part of the whole once, or each thread's own
// small part many times.
double bytes_per_second(Body body, bool cached, double seconds) {
  const int64_t threads = tensorgrad::get_num_threads();
  const auto total = static_cast<size_t>(cached ? threads * kCache : kMemory);
  std::vector<char> from(total, 1), to(total, 2);
  const auto call = [&] {
    if (!cached) {
      tensorgrad::parallel_for(0, kMemory, kGrain, [&](int64_t b, int64_t e) {
        body(&to[static_cast<size_t>(b)], &from[static_cast<size_t>(b)], e - b);
      });
      return;
    }
    tensorgrad::parallel_for(0, threads, 1, [&](int64_t b, int64_t e) {
      for (; b < e; ++b) {
        const auto at = static_cast<size_t>(b * kCache);
        for (int64_t i = 0; i < kRepeats; ++i) body(&to[at], &from[at], kCache);
      }
    });
  };
  return static_cast<double>(total) * (cached ? kRepeats : 1) / median_seconds(call, seconds);
}

}  // namespace

std::pair<double, const char*> Limits::of(const Case& c) const {
  const bool cached = c.work <= kCached;
  switch (c.limit) {
    case Limit::fma32:
      return {fma32, "float32 peak"};
    case Limit::fma64:
      return {fma64, "float64 peak"};
    case Limit::copy:
      return cached ? std::pair(cached_copy, "copy in cache") : std::pair(copy, "copy");
    case Limit::read:
      return cached ? std::pair(cached_read, "read in cache") : std::pair(read, "read");
  }
  return {0, ""};
}

Limits measure_limits(double seconds) {
  Limits found;
  found.fma32 = fma_per_second<float>(seconds);
  found.fma64 = fma_per_second<double>(seconds);
  found.copy = 2 * bytes_per_second(copy_bytes, false, seconds);
  found.read = bytes_per_second(read_bytes, false, seconds);
  found.cached_copy = 2 * bytes_per_second(copy_bytes, true, seconds);
  found.cached_read = bytes_per_second(read_bytes, true, seconds);
  return found;
}

}  // namespace bench
