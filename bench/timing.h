#pragma once

// What the programs that time kernels alone share: operands and a clock.

#include <chrono>
#include <cstdint>
#include <vector>

namespace bench {

// n numbers between -1 and 1, the same at every call.
inline std::vector<float> values(int64_t n) {
  std::vector<float> v(static_cast<size_t>(n));
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
  using Clock = std::chrono::steady_clock;
  double least = 1e30, spent = 0;
  for (int i = 0; i < 2000 && (spent < seconds || i < 4); ++i) {
    const auto t0 = Clock::now();
    f();
    const double t = std::chrono::duration<double>(Clock::now() - t0).count();
    spent += t;
    if (t < least) least = t;
  }
  return least * 1e6;
}

}  // namespace bench
