#pragma once

// The second half of simd_math.h (include that one): trigonometric and hyperbolic functions and their inverses. sinh,
// cosh, atanh and atan2 have a float form, the others are computed in double. sin, cos and tan of |x| >= 1e6 are left
// to libm, lane by lane.

#include "kernels/cpu/simd_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

namespace math_detail {

inline constexpr double kTrigLimit = 1e6;  // n * (33 bits of pi/2) is exact for |n| < 2^20

// x - n pi/2 as high + low, |high| <= pi/4, from pi/2 in pieces of 33 bits.
struct Reduced {
  Vec<double> high, low;
  Vec<int64_t> quadrant;
};
TENSORGRAD_INLINE Reduced reduce_half_pi(Vec<double> x) {
  const auto n = nearest(x * 6.36619772367581382433e-01);
  const Vec<double> first = x - n.value * 1.57079632673412561417e+00;
  const Vec<double> w = n.value * 6.07710050630396597660e-11;
  const Vec<double> r = first - w;
  const Vec<double> rest = n.value * 2.02226624879595063154e-21 - ((first - r) - w);
  const Vec<double> high = r - rest;
  return {high, (r - high) - rest, n.integer};
}
TENSORGRAD_INLINE Vec<double> sin_near_zero(Vec<double> x, Vec<double> low) {
  const Vec<double> z = x * x, cube = z * x;
  const Vec<double> r = horner(z, 0.0083333333333309265, -0.00019841269836724877, 2.7557316084930361e-6,
                               -2.50511281499847e-8, 1.5917861853805865e-10);
  return x - ((z * (low * 0.5 - cube * r) - low) - cube * -0.16666666666666665);
}
TENSORGRAD_INLINE Vec<double> cos_near_zero(Vec<double> x, Vec<double> low) {
  const Vec<double> z = x * x, half = z * 0.5, w = 1. - half;
  const Vec<double> r = horner(z, 0.041666666666666665, -0.0013888888888887383, 2.4801587298744437e-5,
                               -2.755731726062817e-7, 2.0876143942503466e-9, -1.1382464188417552e-11);
  return w + (((1. - w) - half) + (z * z * r - x * low));
}
TENSORGRAD_INLINE Mask<double> bit_set(Vec<int64_t> n, int64_t bit) {
  return Mask<double>(((n & bit) != int64_t{0}).v);
}

// (atan(t) - t) / t^3 in z = t^2, 0 <= t <= 1.
TENSORGRAD_INLINE Vec<double> atan_tail(Vec<double> z) {
  return horner(z, -0.33333333333333129, 0.19999999999959899, -0.14285714283013261, 0.11111111018984545,
                -0.090909072028218829, 0.076922820695154436, -0.066664216301023189, 0.058806293018327442,
                -0.052539594582655018, 0.047237889324756402, -0.042229578987440659, 0.036717774507602725,
                -0.030022635605555224, 0.022129233906354436, -0.014035322562021579, 0.0072911853867411453,
                -0.0029333359268078128, 0.00084832318564739458, -0.00015582509176379172, 1.3590432369887697e-5);
}
TENSORGRAD_INLINE Vec<float> atan_tail(Vec<float> z) {
  return horner(z, -0.333332991, 0.199985484, -0.142642431, 0.109521924, -0.0840346744, 0.057957855, -0.0311780809,
                0.0109147208, -0.00179364536);
}
template <class T>
TENSORGRAD_INLINE Vec<T> atan_unit(Vec<T> t) {
  const Vec<T> z = t * t;
  return fma(t * z, atan_tail(z), t);
}
// (asin(t) - t) / t in z = t^2, 0 <= t <= 1/2.
TENSORGRAD_INLINE Vec<double> asin_tail(Vec<double> z) {
  return z * horner(z, 0.16666666666666668, 0.074999999999982459, 0.044642857146715025, 0.030381944111486255,
                    0.022372173991937086, 0.017352368698808222, 0.013971561192651324, 0.011475856595829429,
                    0.010343929955748742, 0.0053688622487906598, 0.017636788516383317, -0.015212438127253424,
                    0.028998874125483221);
}
inline constexpr double kHalfPiHi = 1.57079632679489655800e+00, kHalfPiLo = 6.12323399573676603587e-17;
inline constexpr double kPiHi = 3.14159265358979311600e+00, kPiLo = 1.22464679914735317720e-16;
inline constexpr double kLn2 = 6.93147180559945286227e-01;

}  // namespace math_detail

// ---- sin, cos, tan ------------------------------------------------------------------------------------------------

inline Vec<double> sin(Vec<double> x) {
  using namespace math_detail;
  const Reduced r = reduce_half_pi(x);
  Vec<double> y = select(bit_set(r.quadrant, 1), cos_near_zero(r.high, r.low), sin_near_zero(r.high, r.low));
  y = select(bit_set(r.quadrant, 2), -y, y);
  return patch(y, abs(x) >= kTrigLimit, [&](int lane) { return __builtin_sin(x[lane]); });
}
inline Vec<double> cos(Vec<double> x) {
  using namespace math_detail;
  const Reduced r = reduce_half_pi(x);
  Vec<double> y = select(bit_set(r.quadrant, 1), sin_near_zero(r.high, r.low), cos_near_zero(r.high, r.low));
  y = select(bit_set(r.quadrant + int64_t{1}, 2), -y, y);
  return patch(y, abs(x) >= kTrigLimit, [&](int lane) { return __builtin_cos(x[lane]); });
}
inline Vec<double> tan(Vec<double> x) {
  using namespace math_detail;
  const Reduced r = reduce_half_pi(x);
  const Vec<double> s = sin_near_zero(r.high, r.low), c = cos_near_zero(r.high, r.low);
  const Mask<double> odd = bit_set(r.quadrant, 1);
  const Vec<double> y = select(odd, -c, s) / select(odd, s, c);
  return patch(y, abs(x) >= kTrigLimit, [&](int lane) { return __builtin_tan(x[lane]); });
}

// ---- inverses -----------------------------------------------------------------------------------------------------

inline Vec<double> atan(Vec<double> x) {
  using namespace math_detail;
  const Vec<double> a = abs(x);
  const Mask<double> big = a > 1.;
  const Vec<double> r = atan_unit(select(big, 1. / a, a));
  return copysign(select(big, kHalfPiHi - (r - kHalfPiLo), r), x);
}
template <class T>
TENSORGRAD_INLINE Vec<T> atan2(Vec<T> y, Vec<T> x) {
  using namespace math_detail;
  constexpr T half_pi = static_cast<T>(kHalfPiHi), half_pi_low = static_cast<T>(kHalfPiHi - half_pi + kHalfPiLo);
  const Vec<T> ax = abs(x), ay = abs(y);
  const Mask<T> steep = ay > ax;
  const Vec<T> top = select(steep, ax, ay), bottom = select(steep, ay, ax);
  Vec<T> t = top / bottom;
  t = select(bottom == T(0), Vec<T>(T(0)), t);
  t = select(top == kInf<T>, Vec<T>(T(1)), t);
  Vec<T> r = atan_unit(t);
  r = select(steep, half_pi - (r - half_pi_low), r);
  r = select(copysign(Vec<T>(T(1)), x) < T(0), half_pi * 2 - (r - half_pi_low * 2), r);
  return select(is_nan(x) | is_nan(y), x + y, copysign(r, y));
}

namespace math_detail {
// For 1/2 <= a <= 1: sqrt((1 - a) / 2) = high + low with high of few bits, and s * asin_tail for s = high + low.
struct AsinParts {
  Vec<double> root, high, low, tail;
};
TENSORGRAD_INLINE AsinParts asin_parts(Vec<double> a) {
  const Vec<double> z = (1. - a) * 0.5, s = sqrt(z);
  const Vec<double> high = as_float(bits(s) & int64_t{-1} << 27);
  const Vec<double> low = select(s == 0., Vec<double>(0.), (z - high * high) / (s + high));
  return {s, high, low, asin_tail(z)};
}
}  // namespace math_detail

inline Vec<double> asin(Vec<double> x) {
  using namespace math_detail;
  const Vec<double> a = abs(x);
  const Vec<double> small = fma(a, asin_tail(a * a), a);
  const AsinParts p = asin_parts(a);  // asin(a) = pi/2 - 2 asin(root)
  const Vec<double> low = p.root * p.tail * 2. - (kHalfPiLo - p.low * 2.);
  const Vec<double> large = kHalfPiHi * 0.5 - (low - (kHalfPiHi * 0.5 - p.high * 2.));
  return copysign(select(a < 0.5, small, large), x);
}
inline Vec<double> acos(Vec<double> x) {
  using namespace math_detail;
  const Vec<double> a = abs(x);
  const Vec<double> small = kHalfPiHi - (x - (kHalfPiLo - x * asin_tail(x * x)));
  const AsinParts p = asin_parts(a);
  const Vec<double> near_one = (p.high + fma(p.root, p.tail, p.low)) * 2.;
  const Vec<double> near_minus_one = kPiHi - (p.root + fma(p.root, p.tail, Vec<double>(-kHalfPiLo))) * 2.;
  return select(a < 0.5, small, select(x > 0., near_one, near_minus_one));
}

// ---- hyperbolic functions -----------------------------------------------------------------------------------------

namespace math_detail {
// (sinh(x) - x) / x^3 in z = x^2, |x| < 1: the series.
template <class T>
TENSORGRAD_INLINE Vec<T> sinh_tail(Vec<T> z) {
  if constexpr (sizeof(T) == 4)
    return horner(z, 1. / 6, 1. / 120, 1. / 5040, 1. / 362880, 1. / 39916800);
  else
    return horner(z, 1. / 6, 1. / 120, 1. / 5040, 1. / 362880, 1. / 39916800, 1. / 6227020800., 1. / 1307674368000.,
                  1. / 355687428096000., 1. / 121645100408832000.);
}
}  // namespace math_detail

template <class T>
TENSORGRAD_INLINE Vec<T> sinh(Vec<T> x) {
  const Vec<T> a = abs(x), z = x * x;
  const Vec<T> half = math_detail::exp_halved(a);
  const Vec<T> large = half - T(0.25) / half;
  return copysign(select(a < T(1), fma(a * z, math_detail::sinh_tail(z), a), large), x);
}
template <class T>
TENSORGRAD_INLINE Vec<T> cosh(Vec<T> x) {
  const Vec<T> half = math_detail::exp_halved(abs(x));
  return half + T(0.25) / half;
}
inline Vec<double> asinh(Vec<double> x) {
  const Vec<double> a = abs(x), square = a * a;
  const Vec<double> usual = log1p(a + square / (sqrt(square + 1.) + 1.));
  return copysign(select(a > 0x1p28, log(a) + math_detail::kLn2, usual), x);
}
inline Vec<double> acosh(Vec<double> x) {
  const Vec<double> t = x - 1.;
  const Vec<double> usual = log1p(t + sqrt(fma(t, t, t * 2.)));
  return select(x < 1., Vec<double>(math_detail::kNaN<double>), select(x > 0x1p28, log(x) + math_detail::kLn2, usual));
}
inline Vec<double> atanh(Vec<double> x) {
  const Vec<double> a = abs(x);
  return copysign(log1p((a + a) / (1. - a)) * 0.5, x);
}
inline Vec<float> atanh(Vec<float> x) {
  const Vec<float> a = abs(x), z = a * a;
  // (atanh(a) / a - 1) / a^2 below 1/2; above it 1 - a is exact.
  const Vec<float> tail =
      math_detail::horner(z, 0.333332986, 0.200026002, 0.14221231, 0.118362279, 0.0508951679, 0.177329404);
  const Vec<float> small = fma(a * z, tail, a), large = log1p((a + a) / (1.f - a)) * 0.5f;
  return copysign(select(a < 0.5f, small, large), x);
}

// ---- float through double -----------------------------------------------------------------------------------------

#define TENSORGRAD_FLOAT_BY_DOUBLE(name)                                          \
  inline Vec<float> name(Vec<float> x) {                                          \
    return math_detail::by_double(                                                \
        x, [](Vec<double> v) __attribute__((always_inline)) { return name(v); }); \
  }
TENSORGRAD_FLOAT_BY_DOUBLE(sin)
TENSORGRAD_FLOAT_BY_DOUBLE(cos)
TENSORGRAD_FLOAT_BY_DOUBLE(tan)
TENSORGRAD_FLOAT_BY_DOUBLE(asin)
TENSORGRAD_FLOAT_BY_DOUBLE(acos)
TENSORGRAD_FLOAT_BY_DOUBLE(atan)
TENSORGRAD_FLOAT_BY_DOUBLE(asinh)
TENSORGRAD_FLOAT_BY_DOUBLE(acosh)
#undef TENSORGRAD_FLOAT_BY_DOUBLE

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
