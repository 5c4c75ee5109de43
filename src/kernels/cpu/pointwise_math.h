#pragma once

// Vector functions that only the pointwise formulas need: fmod, hypot, erfinv.

#include "kernels/cpu/simd_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// C's fmod, exact. With n = trunc(a / b) at most one too large, a - n b is representable, so one fused operation gives
// it.
template <class T>
TENSORGRAD_INLINE Vec<T> fmod(Vec<T> a, Vec<T> b) {
  const auto by_libm = [&](int lane) {
    if constexpr (sizeof(T) == 4)
      return __builtin_fmodf(a[lane], b[lane]);
    else
      return __builtin_fmod(a[lane], b[lane]);
  };
#if defined(__FMA__)
  const Vec<T> n = trunc(a / b);
  Vec<T> r = fma(-n, b, a);
  r = select((r < T(0)) ^ (a < T(0)), select(r == T(0), r, r + copysign(abs(b), a)), r);
  const Mask<T> usual = (abs(n) < T(sizeof(T) == 4 ? 0x1p22 : 0x1p51)) & (abs(b) < T(__builtin_inf()));
  return math_detail::patch(copysign(r, a), ~usual, by_libm);
#else
  T r[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) r[i] = by_libm(i);
  return load(static_cast<const T*>(r));
#endif
}

inline Vec<double> hypot(Vec<double> x, Vec<double> y) {
  double a[kLanes<double>], b[kLanes<double>];
  store(a, x);
  store(b, y);
  for (int i = 0; i < kLanes<double>; ++i) a[i] = __builtin_hypot(a[i], b[i]);
  return load(static_cast<const double*>(a));
}
inline Vec<float> hypot(Vec<float> x, Vec<float> y) {
  const Vec<float> r = math_detail::by_double(
      x, y, [](Vec<double> u, Vec<double> v) __attribute__((always_inline)) { return sqrt(fma(u, u, v * v)); });
  const float inf = __builtin_inff();
  return select((abs(x) == inf) | (abs(y) == inf), Vec<float>(inf), r);
}

// The inverse of erf: Winitzki's estimate (0.2 %), then two steps of Halley's method on erfc, which keeps the tail's
// digits.
inline Vec<double> erfinv(Vec<double> y) {
  const Vec<double> a = abs(y);
  const Vec<double> tail = 1. - a;
  const Vec<double> l = log(tail * (1. + a)) * 0.5;
  const Vec<double> h = l + 4.3307467508;  // 2 / (pi 0.147)
  Vec<double> x = sqrt(max(Vec<double>(0.), sqrt(max(Vec<double>(0.), h * h - l * (2 / 0.147))) - h));
  for (int step = 0; step < 2; ++step) {
    const Vec<double> error = select(a < 0.5, a - erf(x), erfc(x) - tail);  // erf(x) falls short by this
    const Vec<double> u = error * exp(x * x) * 0.88622692545275801365;
    x = x + u / (1. - x * u);
  }
  // Near 0 the estimate has no digits: the series.
  const Vec<double> z = a * a;
  const Vec<double> small =
      a * (0.88622692545275801365 + z * (0.23201366653465449 + z * (0.12755617530559793 + z * 0.08655212924154753)));
  x = select(a < 1e-3, small, x);
  x = select(a == 1., Vec<double>(__builtin_inf()), x);
  x = select(a > 1., Vec<double>(__builtin_nan("")), x);
  return select(y != y, y, copysign(x, y));
}
inline Vec<float> erfinv(Vec<float> x) {
  return math_detail::by_double(
      x, [](Vec<double> v) __attribute__((always_inline)) { return erfinv(v); });
}

// The slope of digamma: recurrence up to x >= 10, then the asymptotic series; reflection below 0.
namespace math_detail {
inline double trigamma(double x) {
  double result = 0, sign = 1;
  if (x < 0.5) {
    const double s = 3.14159265358979323846 / __builtin_sin(3.14159265358979323846 * (x - __builtin_floor(x)));
    result = -s * s;
    sign = -1;
    x = 1 - x;
  }
  double sum = 0;
  for (; x < 10; x += 1) sum += 1 / (x * x);
  const double z = 1 / (x * x);
  sum +=
      1 / x + z / 2 +
      z / x * (1. / 6 - z * (1. / 30 - z * (1. / 42 - z * (1. / 30 - z * (5. / 66 - z * (691. / 2730 - z * 7 / 6))))));
  return sign * (result + sum);
}
}  // namespace math_detail
template <class T>
inline Vec<T> trigamma(Vec<T> x) {
  return math_detail::each_lane(x, [](T v) { return static_cast<T>(math_detail::trigamma(v)); });
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
