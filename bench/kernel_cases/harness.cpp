#include "harness.h"

#include <algorithm>
#include <cstring>

#include "peak.h"
#include "tensorgrad/parallel.h"

namespace bench {

using tensorgrad::cpu::Level;

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
  return quantile(times, 0.5);
}

namespace {

double peak(Limit limit, double seconds) {
  const Level level = tensorgrad::cpu::isa_level();
  std::vector<double> found;
  const double until = now() + seconds;
  while (found.size() < 7 || now() < until) {
    found.push_back(limit == Limit::fma64 ? peak_run<double>(level) : peak_run<float>(level));
  }
  return quantile(found, 0.75);
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
  Array<char> from(total, 1), to(total, 2);
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

Timing time_case(const Case& c, double seconds) {
  const auto call = c.make();
  const Level level = tensorgrad::cpu::isa_level();
  if (c.limit == Limit::fma32 || c.limit == Limit::fma64) {
    const BesidePeak found =
        c.limit == Limit::fma64 ? beside_peak<double>(level, call, seconds) : beside_peak<float>(level, call, seconds);
    return {found.seconds, found.peak};
  }
  return {median_seconds(call, seconds), 0};
}

Limits measure_limits(double seconds) {
  Limits found;
  found.fma32 = peak(Limit::fma32, seconds);
  found.fma64 = peak(Limit::fma64, seconds);
  found.copy = 2 * bytes_per_second(copy_bytes, false, seconds);
  found.read = bytes_per_second(read_bytes, false, seconds);
  found.cached_copy = 2 * bytes_per_second(copy_bytes, true, seconds);
  found.cached_read = bytes_per_second(read_bytes, true, seconds);
  return found;
}

}  // namespace bench
