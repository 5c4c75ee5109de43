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
template <class T>
TENSORGRAD_INLINE Vec<T> erfinv_edges(Vec<T> x, Vec<T> y) {
  const Vec<T> a = abs(y);
  x = select(a == T(1), Vec<T>(kInf<T>), x);
  x = select(a > T(1), Vec<T>(kNaN<T>), x);
  return select(y != y, y, copysign(x, y));
}
// The estimate for a = |y| improved by a step of Halley's method, on erfc where that keeps the tail's digits.
__attribute__((noinline)) inline Vec<double> erfinv_improved(Vec<double> a) {
  const Vec<double> tail = 1. - a, x = erfinv_estimate(a, tail);
  const Vec<double> z = x * x, by_series = fma(x, erf_tail(z), x);
  const Vec<double> error = select(a < 0.5, a - by_series, erfc(x) - tail);  // erf(x) falls short by this
  const Vec<double> u = error * exp(z) * 0.88622692545275801365;
  return x + u / (1. - x * u);
}
}  // namespace math_detail

// The inverse of erf: y times a polynomial in w = -log(1 - y^2) up to w = 5, |y| = 0.9966.
inline Vec<double> erfinv(Vec<double> y) {
  using namespace math_detail;
  const Vec<double> a = abs(y), w = -log((1. - a) * (1. + a));
  // About a point where the polynomial's value has few bits.
  Vec<double> x =
      a * horner(w - 1.0019063949584960938, 1.12784687645575765, 0.247849051440715401, 0.00423712053162271366,
                 -0.00237560508118704085, 0.000100485682295164202, 3.81529236645863555e-5, -4.28311606024407208e-6,
                 -5.63358959822962268e-7, 1.22420283751020021e-7, 5.98248546548565789e-9, -3.02380869057040804e-9,
                 1.81241333509253248e-11, 6.74943611129857282e-11, -3.75859580244964746e-12, -1.36085598339022833e-12,
                 1.51601718555017709e-13, 2.51544896216046786e-14, -4.83122909386352197e-15, -5.47000268053072076e-16,
                 2.57367600338569214e-16, -3.55227610585526802e-17, 2.39839159604374013e-18, -6.76362997086976587e-20);
  const Mask<double> usual = w < 5.;
  if (__builtin_expect(!all(usual), 0)) x = select(usual, x, erfinv_improved(a));
  return erfinv_edges(x, y);
}
inline Vec<float> erfinv(Vec<float> y) {
  using namespace math_detail;
  const Vec<float> a = abs(y), w = -log((1.f - a) * (1.f + a));
  Vec<float> p = horner(w - 1.12469482421875f, 1.15833939, 0.248782927, 0.003371733, -0.00232065522, 0.000123056291,
                        3.47796805e-5, -4.79921766e-6, -3.88047879e-7, 1.32045065e-7, -8.79096592e-9);
  const Mask<float> usual = w < 5.f;
  if (__builtin_expect(!all(usual), 0)) {
    const Vec<float> far = horner(sqrt(w) - 3.2f, 3.03363655, 1.00469261, 0.00597475406, -0.00429716783, 0.00293471584,
                                  -0.00197832505, 0.00113664264, -0.000385521175, -0.000101309225, 0.000115727058);
    p = select(usual, p, far);
  }
  return erfinv_edges(a * p, y);
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
