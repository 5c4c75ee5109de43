#pragma once

// What the tests of the CPU kernels share: random arrays, comparison with a reference, every instruction set in turn.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"

namespace kernel_test {

template <class T>
std::vector<T> random_values(int64_t count, uint64_t seed, double scale = 1.0) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0, scale);
  std::vector<T> v(static_cast<size_t>(count));
  for (T& x : v) x = static_cast<T>(normal(engine));
  return v;
}

// Largest |got - want| / (1 + |want|); 1e30 where one is NaN or infinite and the other is not the same.
template <class T, class R>
double worst_error(const std::vector<T>& got, const std::vector<R>& want) {
  if (got.size() != want.size()) return 1e30;
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double a = static_cast<double>(got[i]), b = static_cast<double>(want[i]);
    if (std::isnan(a) && std::isnan(b)) continue;
    if (a == b) continue;
    const double e = std::abs(a - b) / (1 + std::abs(b));
    if (!(e <= worst)) worst = std::isfinite(e) ? e : 1e30;
  }
  return worst;
}

template <class T>
constexpr double tolerance(double in_float = 2e-6, double in_double = 1e-14) {
  return sizeof(T) == 4 ? in_float : in_double;
}

// f(level) for every level of this machine.
template <class F>
void each_level(F f) {
  using tensorgrad::cpu::Level;
  for (Level level : {Level::baseline, Level::avx2, Level::avx512}) {
    if (level > tensorgrad::cpu::machine_level()) continue;
    const std::string name = tensorgrad::cpu::level_name(level);
    CAPTURE(name);
    f(level);
  }
}

}  // namespace kernel_test
