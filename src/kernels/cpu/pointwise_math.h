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
  // The squares must neither overflow nor lose digits below the normal numbers: a power of two before and after.
  const Vec<double> a = abs(x), b = abs(y), most = max(a, b);
  const double inf = __builtin_inf();
  const Vec<double> up =
      select(most > 0x1p+500, Vec<double>(0x1p-600), select(most < 0x1p-450, Vec<double>(0x1p+600), Vec<double>(1.)));
  const Vec<double> down =
      select(most > 0x1p+500, Vec<double>(0x1p+600), select(most < 0x1p-450, Vec<double>(0x1p-600), Vec<double>(1.)));
  const Vec<double> u = a * up, v = b * up;
  return select((a == inf) | (b == inf), Vec<double>(inf), sqrt(fma(u, u, v * v)) * down);
}
inline Vec<float> hypot(Vec<float> x, Vec<float> y) {
  const Vec<float> r = math_detail::by_double(
      x, y, [](Vec<double> u, Vec<double> v) __attribute__((always_inline)) { return sqrt(fma(u, u, v * v)); });
  const float inf = __builtin_inff();
  return select((abs(x) == inf) | (abs(y) == inf), Vec<float>(inf), r);
}

namespace math_detail {
// The inverse of erf to about 2e-9: y times a polynomial in w = -log(1 - y^2), or its root, in three pieces.
// tail = 1 - |y|, without the rounding of that difference where the caller knows better.
TENSORGRAD_INLINE Vec<double> erfinv_estimate(Vec<double> a, Vec<double> tail) {
  const Vec<double> w = -log(tail * (1. + a)), s = sqrt(w);
  const Vec<double> near =
      horner(w - 3., 1.6235420065379758, 0.24163040414304734, -0.0057381360161078926, -0.00083618152497467047,
             0.00019506272533632717, -1.2716873090583235e-5, -1.7489187809627484e-6, 4.502891203278818e-7,
             -2.3407992568788054e-8, -5.5654659371024444e-9, 1.0684025387667025e-9, -1.4866618057868202e-11,
             -1.4563269630773786e-11, 1.2732868700624293e-12);
  const Vec<double> far =
      horner(s - 3.3, 3.1341615319962741, 1.0057691391991353, 0.0048436141337780931, -0.0032933396296217067,
             0.0021030794929731613, -0.0014167326570781201, 0.00083407852042178916, -0.00035287600845731716,
             4.3429632340677558e-5, 6.6137219914915589e-5, -3.4256556247920937e-5);
  const Vec<double> farther =
      horner(s - 5.2, 5.0519593409890272, 1.0102214558643854, -0.00025097297605519109, -0.00016142865601598945,
             5.8790554758414783e-5, -1.5019699901312544e-5, 3.3145523984530817e-6, -6.5651624136293602e-7,
             1.8340910928634416e-7, -6.3555515713499227e-8);
  return a * select(w < 6., near, select(w < 17., far, farther));
}
TENSORGRAD_INLINE Vec<double> erfinv_edges(Vec<double> x, Vec<double> y) {
  const Vec<double> a = abs(y);
  x = select(a == 1., Vec<double>(__builtin_inf()), x);
  x = select(a > 1., Vec<double>(__builtin_nan("")), x);
  return select(y != y, y, copysign(x, y));
}
}  // namespace math_detail

// The inverse of erf: the estimate, for double improved by a step of Halley's method, on erfc where that keeps the
// tail's digits.
inline Vec<double> erfinv(Vec<double> y) {
  const Vec<double> a = abs(y), tail = 1. - a;
  Vec<double> x = math_detail::erfinv_estimate(a, tail);
  const Vec<double> z = x * x, by_series = fma(x, math_detail::erf_tail(z), x);
  const Vec<double> error = select(a < 0.5, a - by_series, erfc(x) - tail);  // erf(x) falls short by this
  const Vec<double> u = error * exp(z) * 0.88622692545275801365;
  return math_detail::erfinv_edges(x + u / (1. - x * u), y);
}
inline Vec<float> erfinv(Vec<float> x) {
  return math_detail::by_double(
      x, [](Vec<double> v) __attribute__((always_inline)) {
        return math_detail::erfinv_edges(math_detail::erfinv_estimate(abs(v), 1. - abs(v)), v);
      });
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
// The same for x >= 1/2.
TENSORGRAD_INLINE Vec<double> trigamma_positive(Vec<double> x) {
  Vec<double> sum = 0.;
  for (int step = 0; step < 10; ++step) {
    const Mask<double> low = x < 10.;
    const Vec<double> r = 1. / x;
    sum = select(low, fma(r, r, sum), sum);
    x = select(low, x + 1., x);
  }
  const Vec<double> r = 1. / x, z = r * r;
  const Vec<double> series = horner(z, 1. / 6, -1. / 30, 1. / 42, -1. / 30, 5. / 66, -691. / 2730, 7. / 6);
  return sum + (fma(z, Vec<double>(0.5), r) + z * r * series);
}
}  // namespace math_detail
inline Vec<double> trigamma(Vec<double> x) {
  return math_detail::patch(math_detail::trigamma_positive(x), ~(x >= 0.5),
                            [&](int lane) { return math_detail::trigamma(x[lane]); });
}
inline Vec<float> trigamma(Vec<float> x) {
  return math_detail::by_double(
      x, [](Vec<double> v) __attribute__((always_inline)) { return trigamma(v); });
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
