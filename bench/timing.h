#pragma once

// What the programs that time kernels alone share: operands and a clock.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace bench {

// Seconds of a clock that only goes forward.
inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The value below which `share` of them lie; at least one value.
inline double quantile(std::vector<double> values, double share) {
  const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

// Memory as the library's allocator gives it to a tensor: large blocks begin at a page, small ones at a cache line.
template <class T>
struct LikeTensors {
  using value_type = T;
  LikeTensors() = default;
  template <class U>
  LikeTensors(const LikeTensors<U>&) {}
  static constexpr std::align_val_t unit(size_t n) { return std::align_val_t(n * sizeof(T) < 4096 ? 64 : 4096); }
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), unit(n))); }
  void deallocate(T* p, size_t n) { ::operator delete(p, unit(n)); }
  bool operator==(const LikeTensors&) const { return true; }
};
template <class T>
using Array = std::vector<T, LikeTensors<T>>;
using Values = Array<float>;

// n numbers between -1 and 1, the same at every call.
inline Values values(int64_t n) {
  Values v(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& x : v) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return v;
}

// Microseconds of the shortest of f's runs: at most 2000, at least 4, for about `seconds`.
template <class F>
double least_us(F f, double seconds = 0.15) {
  double least = 1e30, spent = 0;
  for (int i = 0; i < 2000 && (spent < seconds || i < 4); ++i) {
    const double begin = now();
    f();
    const double t = now() - begin;
    spent += t;
    if (t < least) least = t;
  }
  return least * 1e6;
}

}  // namespace bench
