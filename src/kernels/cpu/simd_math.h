#pragma once

// Transcendental functions on Vec<float> and Vec<double>: exp, expm1, exp2, log, log1p, log2, log10, tanh, sigmoid,
// erf, erfc, pow, lgamma, digamma here; the trigonometric and hyperbolic ones in simd_trig.h, which this header
// includes.
//
// Errors are at most 1 to 2 units in the last place (tests/cpp/test_simd_math.cpp measures them); NaN, infinities,
// signed zeros, subnormal values and the edges of overflow come out as from libm. The polynomials are minimax fits
// (Remez) made for this file; what each approximates stands beside it. Where float has no tuned form it goes through
// double, which also makes it exact to the last bit but for ties (powers almost so).

#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

namespace math_detail {

template <class T>
struct Format;
template <>
struct Format<float> {
  static constexpr int mantissa = 23;
  static constexpr int32_t bias = 127;
  static constexpr int32_t one = 0x3f800000;        // bits of 1
  static constexpr int32_t sqrt_half = 0x3f3504f3;  // bits of sqrt(1/2)
  static constexpr float min_normal = 0x1p-126f;
  static constexpr float magic = 0x1.8p23f;  // adding it rounds |x| < 2^22 to a whole number, held in the low bits
  static constexpr int32_t magic_bits = 0x4b400000;
  static constexpr float ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;  // ln2_hi has few bits: n * ln2_hi is exact
  static constexpr float exp_max = 89.f, exp_min = -104.f;
  static constexpr float exp2_max = 129.f, exp2_min = -151.f;
};
template <>
struct Format<double> {
  static constexpr int mantissa = 52;
  static constexpr int64_t bias = 1023;
  static constexpr int64_t one = 0x3ff0000000000000;
  static constexpr int64_t sqrt_half = 0x3fe6a09e667f3bcd;
  static constexpr double min_normal = 0x1p-1022;
  static constexpr double magic = 0x1.8p52;
  static constexpr int64_t magic_bits = 0x4338000000000000;
  static constexpr double ln2_hi = 6.93147180369123816490e-01, ln2_lo = 1.90821492927058770002e-10;
  static constexpr double exp_max = 710., exp_min = -746.;
  static constexpr double exp2_max = 1025., exp2_min = -1080.;
};

template <class T>
using Bits = simd_detail::IntOf<sizeof(T)>;

template <class T>
inline constexpr T kInf = static_cast<T>(__builtin_inf());
template <class T>
inline constexpr T kNaN = static_cast<T>(__builtin_nan(""));

// c0 + c1 x + c2 x^2 + ...
template <class T>
TENSORGRAD_INLINE Vec<T> horner(Vec<T>, double c0) {
  return Vec<T>(static_cast<T>(c0));
}
template <class T, class... Rest>
TENSORGRAD_INLINE Vec<T> horner(Vec<T> x, double c0, double c1, Rest... rest) {
  return fma(horner(x, c1, rest...), x, static_cast<T>(c0));
}

// x (|x| < 2^22 or 2^51) to nearest, as a number and as an integer.
template <class T>
struct Whole {
  Vec<T> value;
  Vec<Bits<T>> integer;
};
template <class T>
TENSORGRAD_INLINE Whole<T> nearest(Vec<T> x) {
  const Vec<T> shifted = x + Format<T>::magic;
  return {shifted - Format<T>::magic, bits(shifted) - Format<T>::magic_bits};
}

// p * 2^n for p near 1 and any n that exp can meet: overflows to infinity, underflows gradually.
template <class T>
TENSORGRAD_INLINE Vec<T> scale(Vec<T> p, Whole<T> n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((Raw<T>)_mm512_scalef_ps((__m512)p.v, (__m512)n.value.v));
  else
    return Vec<T>((Raw<T>)_mm512_scalef_pd((__m512d)p.v, (__m512d)n.value.v));
#else
  // Two factors, as 2^n itself may not be a normal number. The shift is logical: AVX2 has no other for 64 bits.
  constexpr Bits<T> big = 4096;
  const Vec<Bits<T>> half = shift_right_logical(n.integer + 2 * big, 1) - big;
  const Vec<Bits<T>> rest = n.integer - half;
  const Vec<T> a = as_float((half + Format<T>::bias) << Format<T>::mantissa);
  const Vec<T> b = as_float((rest + Format<T>::bias) << Format<T>::mantissa);
  return p * a * b;
#endif
}

// (e^r - 1 - r) / r^2 on |r| <= ln(2)/2.
template <class T>
TENSORGRAD_INLINE Vec<T> exp_tail(Vec<T> r) {
  if constexpr (sizeof(T) == 4) {
    return horner(r, 0.500000003, 0.166665766, 0.0416663741, 0.00836323789, 0.00139412156);
  } else {
    return horner(r, 0.5000000000000001, 0.16666666666666675, 0.041666666666623811, 0.0083333333333221269,
                  0.0013888888917370848, 0.00019841269886836392, 2.4801521052860205e-5, 2.7557242059340426e-6,
                  2.7620203671600249e-7, 2.5110154340462049e-8);
  }
}

// x = 2^exponent (1 + fraction) with 1 + fraction in [sqrt(1/2), sqrt(2)), for normal positive x.
template <class T>
struct Parts {
  Vec<T> exponent, fraction;
};
template <class T>
TENSORGRAD_INLINE Parts<T> split(Vec<T> x) {
  using F = Format<T>;
  using I = Bits<T>;
  const Vec<I> moved = bits(x) + (F::one - F::sqrt_half);
  const Vec<I> e = shift_right_logical(moved, F::mantissa);
  const Vec<I> m = (moved & ((I{1} << F::mantissa) - 1)) + F::sqrt_half;
  return {as_float(e + F::magic_bits) - (F::magic + static_cast<T>(F::bias)), as_float(m) - T(1)};
}
// As split, for subnormal x too.
template <class T>
TENSORGRAD_INLINE Parts<T> split_any(Vec<T> x) {
  constexpr T up = sizeof(T) == 4 ? T(0x1p24) : T(0x1p54);
  const Mask<T> small = x < Format<T>::min_normal;
  Parts<T> p = split(select(small, x * up, x));
  p.exponent = p.exponent - select(small, Vec<T>(sizeof(T) == 4 ? T(24) : T(54)), Vec<T>(T(0)));
  return p;
}

// log(1 + f) - f for 1 + f in [sqrt(1/2), sqrt(2)).
template <class T>
TENSORGRAD_INLINE Vec<T> log_tail(Vec<T> f) {
  const Vec<T> half_square = f * f * T(0.5);
  if constexpr (sizeof(T) == 4) {
    // (log(1 + f) - f + f^2 / 2) / f^3
    const Vec<T> q = horner(f, 0.333333313, -0.249999812, 0.200006881, -0.166691498, 0.142511548, -0.12396721,
                            0.11634694, -0.116598278, 0.0733233331);
    return f * f * f * q - half_square;
  } else {
    // With s = f / (2 + f): log(1 + f) = 2 atanh(s); the polynomial is (2 atanh(s) / s - 2) / s^2 in s^2.
    const Vec<T> s = f / (f + T(2));
    const Vec<T> z = s * s;
    const Vec<T> r = z * horner(z, 0.66666666666666666, 0.40000000000000892, 0.28571428570794768, 0.22222222393603783,
                                0.18181795448270979, 0.15386249681084869, 0.13268516288443394, 0.13089219145858637);
    return s * (half_square + r) - half_square;
  }
}

// What every logarithm gives at and below zero, at infinity and NaN.
template <class T>
TENSORGRAD_INLINE Vec<T> log_edges(Vec<T> result, Vec<T> x) {
  result = select(x < kInf<T>, result, x);
  result = select(x == T(0), Vec<T>(-kInf<T>), result);
  return select(x < T(0), Vec<T>(kNaN<T>), result);
}

// Float by way of double: f on both halves.
template <class F>
TENSORGRAD_INLINE Vec<float> by_double(Vec<float> x, F f) {
  constexpr int H = kLanes<double>;
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    const Raw<float, H> low = __builtin_shufflevector(x.v, x.v, I...);
    const Raw<float, H> high = __builtin_shufflevector(x.v, x.v, (I + H)...);
    const Raw<float, H> a =
        __builtin_convertvector(f(Vec<double>(__builtin_convertvector(low, Raw<double>))).v, Raw<float, H>);
    const Raw<float, H> b =
        __builtin_convertvector(f(Vec<double>(__builtin_convertvector(high, Raw<double>))).v, Raw<float, H>);
    return Vec<float>(__builtin_shufflevector(a, b, I..., (I + H)...));
  }
  (std::make_integer_sequence<int, H>{});
}
template <class F>
TENSORGRAD_INLINE Vec<float> by_double(Vec<float> x, Vec<float> y, F f) {
  constexpr int H = kLanes<double>;
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    const Raw<float, H> xl = __builtin_shufflevector(x.v, x.v, I...),
                        xh = __builtin_shufflevector(x.v, x.v, (I + H)...);
    const Raw<float, H> yl = __builtin_shufflevector(y.v, y.v, I...),
                        yh = __builtin_shufflevector(y.v, y.v, (I + H)...);
    const Vec<double> a =
        f(Vec<double>(__builtin_convertvector(xl, Raw<double>)), Vec<double>(__builtin_convertvector(yl, Raw<double>)));
    const Vec<double> b =
        f(Vec<double>(__builtin_convertvector(xh, Raw<double>)), Vec<double>(__builtin_convertvector(yh, Raw<double>)));
    const Raw<float, H> al = __builtin_convertvector(a.v, Raw<float, H>),
                        bl = __builtin_convertvector(b.v, Raw<float, H>);
    return Vec<float>(__builtin_shufflevector(al, bl, I..., (I + H)...));
  }
  (std::make_integer_sequence<int, H>{});
}

// f lane by lane, in the lanes of the mask only: the rare arguments that a vector form leaves to libm.
template <class T, class F>
TENSORGRAD_INLINE Vec<T> patch(Vec<T> result, Mask<T> where, F f) {
  uint32_t lanes = mask_bits(where);
  if (__builtin_expect(lanes == 0, 1)) return result;
  T values[kLanes<T>];
  store(values, result);
  for (; lanes != 0; lanes &= lanes - 1) {
    const int lane = __builtin_ctz(lanes);
    values[lane] = f(lane);
  }
  return load(static_cast<const T*>(values));
}
template <class T, class F>
TENSORGRAD_INLINE Vec<T> each_lane(Vec<T> x, F f) {
  T values[kLanes<T>];
  store(values, x);
  for (int i = 0; i < kLanes<T>; ++i) values[i] = f(values[i]);
  return load(static_cast<const T*>(values));
}

}  // namespace math_detail

// ---- exponentials -------------------------------------------------------------------------------------------------

namespace math_detail {
// exp(x) for x below exp_max or NaN, as where a maximum has been taken away.
template <class T>
TENSORGRAD_INLINE Vec<T> exp_bounded(Vec<T> x) {
  using F = Format<T>;
  x = max(Vec<T>(F::exp_min), x);
  const auto n = nearest(x * T(1.44269504088896340736));
  const Vec<T> r = (x - n.value * F::ln2_hi) - n.value * F::ln2_lo;
  return scale(fma(fma(exp_tail(r), r, T(1)), r, T(1)), n);
}
// exp(x) / 2, for whose argument e^x alone may overflow.
template <class T>
TENSORGRAD_INLINE Vec<T> exp_halved(Vec<T> x) {
  using F = Format<T>;
  x = min(Vec<T>(F::exp_max + T(2)), x);
  const auto n = nearest(x * T(1.44269504088896340736));
  const Vec<T> r = (x - n.value * F::ln2_hi) - n.value * F::ln2_lo;
  return scale(fma(fma(exp_tail(r), r, T(1)), r, T(1)), Whole<T>{n.value - T(1), n.integer - Bits<T>{1}});
}

// A number as the sum of two, the second at most half a unit in the last place of the first.
struct Pair {
  Vec<double> high, low;
};
TENSORGRAD_INLINE Pair pair_of(Vec<double> high, Vec<double> low) {  // |high| >= |low|
  const Vec<double> sum = high + low;
  return {sum, (high - sum) + low};
}
// e^(high + low), low being far smaller.
TENSORGRAD_INLINE Vec<double> exp_of_sum(Vec<double> high, Vec<double> low) {
  using F = Format<double>;
  const auto n = nearest(high * 1.44269504088896340736);
  const Pair r = pair_of(high - n.value * F::ln2_hi, low - n.value * F::ln2_lo);
  return scale(fma(r.high * r.high, exp_tail(r.high), r.low) + r.high + 1., n);
}
}  // namespace math_detail

template <class T>
TENSORGRAD_INLINE Vec<T> exp(Vec<T> x) {
  return math_detail::exp_bounded(min(Vec<T>(math_detail::Format<T>::exp_max), x));  // NaN stays: min gives the second
}

template <class T>
TENSORGRAD_INLINE Vec<T> exp2(Vec<T> x) {
  using F = math_detail::Format<T>;
  x = max(Vec<T>(F::exp2_min), min(Vec<T>(F::exp2_max), x));
  const auto n = math_detail::nearest(x);
  const Vec<T> r = (x - n.value) * T(0.69314718055994530942);
  return math_detail::scale(fma(r * r, math_detail::exp_tail(r), r) + T(1), n);
}

// e^x - 1 without cancellation near 0.
template <class T>
TENSORGRAD_INLINE Vec<T> expm1(Vec<T> x) {
  using F = math_detail::Format<T>;
  const Vec<T> bounded = max(Vec<T>(sizeof(T) == 4 ? T(-20) : T(-40)), min(Vec<T>(F::exp_max), x));
  const auto n = math_detail::nearest(bounded * T(1.44269504088896340736));
  const Vec<T> high = bounded - n.value * F::ln2_hi, r = high - n.value * F::ln2_lo;
  const Vec<T> lost = (high - r) - n.value * F::ln2_lo;  // by the rounding of r
  const Vec<T> tail = fma(r * r, math_detail::exp_tail(r), lost), p = r + tail;
  // 2^n (r + tail) + (2^n - 1), halved throughout so that n = 128 (1024) does not overflow early.
  const Vec<T> half = as_float((n.integer + (F::bias - 1)) << F::mantissa);
  const Vec<T> scaled = fma(half, tail, fma(half, r, half - T(0.5))) * T(2);
  const Vec<T> result = select(n.value == T(0), p, scaled);
  return select(abs(x) < (sizeof(T) == 4 ? T(1e-8) : T(1e-17)), x, result);  // keeps -0 and subnormal values
}

template <class T>
TENSORGRAD_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> e = exp(-abs(x));
  return select(x >= T(0), Vec<T>(T(1)), e) / (e + T(1));
}

template <class T>
TENSORGRAD_INLINE Vec<T> tanh(Vec<T> x) {
  const Vec<T> a = abs(x), z = x * x;
  Vec<T> tail;  // (tanh(x) - x) / x^3 in x^2, |x| < 0.625
  if constexpr (sizeof(T) == 4) {
    tail = math_detail::horner(z, -0.333333293, 0.133327948, -0.0538540854, 0.0210101034, -0.00611318186);
  } else {
    tail =
        math_detail::horner(z, -0.33333333333333333, 0.13333333333333322, -0.053968253968236817, 0.021869488535176777,
                            -0.0088632355008731372, 0.0035921275231478886, -0.0014558285429547466,
                            0.00058998268331354978, -0.00023889295452594006, 9.6050464141472749e-5,
                            -3.7096951499078803e-5, 1.2225384840036626e-5, -2.4454191192098346e-6);
  }
  const Vec<T> small = fma(a * z, tail, a);
  const Vec<T> large = T(1) - T(2) / (exp(a + a) + T(1));
  return copysign(select(a < T(0.625), small, large), x);
}

// ---- logarithms ---------------------------------------------------------------------------------------------------

template <class T>
TENSORGRAD_INLINE Vec<T> log(Vec<T> x) {
  using F = math_detail::Format<T>;
  const auto [e, f] = math_detail::split_any(x);
  const Vec<T> y = math_detail::log_tail(f);
  return math_detail::log_edges(fma(e, F::ln2_hi, f + fma(e, F::ln2_lo, y)), x);
}

template <class T>
TENSORGRAD_INLINE Vec<T> log2(Vec<T> x) {
  const auto [e, f] = math_detail::split_any(x);
  const Vec<T> y = math_detail::log_tail(f);
  constexpr T over_one = T(0.44269504088896340735992);  // log2(e) - 1
  return math_detail::log_edges((fma(y, over_one, f * over_one) + y) + f + e, x);
}

template <class T>
TENSORGRAD_INLINE Vec<T> log10(Vec<T> x) {
  const auto [e, f] = math_detail::split_any(x);
  const Vec<T> y = math_detail::log_tail(f);
  constexpr T log10_e_hi = T(0.43359375), log10_e_lo = T(7.00731903251827651129e-4);
  constexpr T log10_2_hi = T(0.30078125), log10_2_lo = T(2.48745663981195213739e-4);
  const Vec<T> low = fma(e, log10_2_lo, fma(f, log10_e_lo, y * log10_e_lo));
  return math_detail::log_edges(fma(e, log10_2_hi, fma(f, log10_e_hi, fma(y, log10_e_hi, low))), x);
}

// log(1 + x) without cancellation near 0.
template <class T>
TENSORGRAD_INLINE Vec<T> log1p(Vec<T> x) {
  using F = math_detail::Format<T>;
  using I = math_detail::Bits<T>;
  const Vec<T> u = x + T(1);
  const auto [e, from_u] = math_detail::split(u);
  // (1 + x) / 2^e - 1 straight from x, where 1 + x would have lost bits of x.
  const Vec<I> e_bits = bits(e + F::magic) - F::magic_bits;
  const Vec<T> s = as_float((F::bias - e_bits) << F::mantissa);
  const Vec<T> f = select(x > (sizeof(T) == 4 ? T(0x1p26) : T(0x1p55)), from_u, fma(x, s, s - T(1)));
  const Vec<T> y = math_detail::log_tail(f);
  const Vec<T> result = math_detail::log_edges(fma(e, F::ln2_hi, f + fma(e, F::ln2_lo, y)), u);
  return select(abs(x) < (sizeof(T) == 4 ? T(1e-8) : T(1e-17)), x, result);
}

// ---- error function -----------------------------------------------------------------------------------------------

namespace math_detail {
// erf(x) / x - 1 in z = x^2, |x| <= 1.
TENSORGRAD_INLINE Vec<double> erf_tail(Vec<double> z) {
  return horner(z, 0.12837916709551257, -0.37612638903183748, 0.11283791670954884, -0.026866170645077875,
                0.0052239776248284307, -0.00085483269814255421, 0.0001205533113295582, -1.4925595772180905e-5,
                1.6461008477802701e-6, -1.6350396222864616e-7, 1.466032872274226e-8, -1.137495573607015e-9,
                5.960685338520971e-11);
}
}  // namespace math_detail

template <class T>
TENSORGRAD_INLINE Vec<T> erf(Vec<T> x) {
  const Vec<T> z = x * x;
  Vec<T> a = abs(x), small, log_complement;
  // small: erf(x) = x + x * polynomial in x^2; large: 1 - exp(polynomial), which approximates log(erfc(x)).
  if constexpr (sizeof(T) == 4) {
    small = fma(a,
                math_detail::horner(z, 0.128379166, -0.376126323, 0.112836726, -0.0268581049, 0.00519779788,
                                    -0.000810596834, 8.21542402e-5),
                a);
    a = min(Vec<T>(T(4)), a);
    log_complement = math_detail::horner(a, -0.000177529427, -1.1277494, -0.637060054, -0.104037068, 0.0222769331,
                                         -0.0030555655, 0.000197177078);
  } else {
    small = fma(a, math_detail::erf_tail(z), a);
    a = min(Vec<T>(T(6)), a);
    log_complement = math_detail::horner(
        a, -1.8438785014972396e-7, -1.1283772823667788, -0.63662870389515421, -0.10274664205143527,
        0.019076954114421942, 0.00028223053645690757, -0.0017709274851046575, 0.00064283535636733623,
        -4.5956942756095611e-5, -6.9749990124514703e-5, 4.4769756972938616e-5, -1.6421434144371467e-5,
        4.3017668930825757e-6, -8.4518961564879143e-7, 1.2483016573788986e-7, -1.3522120803479398e-8,
        1.0170356334479061e-9, -4.751630946471684e-11, 1.0390269467187596e-12);
  }
  const Vec<T> large = T(1) - exp(log_complement);
  return copysign(select(a < (sizeof(T) == 4 ? T(0.93) : T(1)), small, large), x);
}

// The distribution function of the standard normal distribution, (1 + erf(x / sqrt(2))) / 2, to about half a unit of
// its value at 1 (its far negative tail has no more digits than that difference, as in PyTorch's GELU).
template <class T>
TENSORGRAD_INLINE Vec<T> normal_cdf(Vec<T> x) {
  return (erf(x * T(0.70710678118654752440)) + T(1)) * T(0.5);
}
#if defined(__AVX512F__)
namespace math_detail {
// P(|x|) - 1/2 in sixteen pieces of 3/8, each a polynomial in 8/3 |x| less the middle of its piece: [power][piece].
alignas(64) inline constexpr float kNormal[6][16] = {
    {0.0743656862f, 0.213112294f, 0.325749285f, 0.405324257f, 0.454246377f, 0.480419923f, 0.492605394f, 0.497542099f,
     0.499282457f, 0.49981633f, 0.499958832f, 0.499991929f, 0.499998617f, 0.499999793f, 0.499999973f, 0.5f},
    {0.146996584f, 0.127712847f, 0.0964027174f, 0.0632224464f, 0.0360230637f, 0.0178327087f, 0.00766975183f,
     0.00286597672f, 0.000930446475f, 0.000262444581f, 6.4314875e-5f, 1.36934552e-5f, 2.53304391e-6f, 4.07099735e-7f,
     5.68444163e-8f, 0.0f},
    {-0.00516770391f, -0.0134694059f, -0.0169455622f, -0.0155586263f, -0.0113980393f, -0.00689636825f, -0.00350537843f,
     -0.00151135974f, -0.000556069524f, -0.000175288125f, -4.74731854e-5f, -1.10686427e-5f, -2.22508519e-6f,
     -3.86107334e-7f, -5.78857609e-8f, 0.0f},
    {-0.00332403081f, -0.00204616887f, -0.000273657331f, 0.00107075651f, 0.00155993711f, 0.00135999651f,
     0.000888287398f, 0.00046417628f, 0.000199760882f, 7.1912389e-5f, 2.18607571e-5f, 5.64661826e-6f, 1.24464756e-6f,
     2.34854395e-7f, 3.80247261e-8f, 0.0f},
    {0.000178002888f, 0.000420304109f, 0.000418783918f, 0.000232656692f, 2.16003696e-5f, -9.99975268e-5f,
     -0.000120168125f, -8.69155188e-5f, -4.68493102e-5f, -2.00867738e-5f, -7.05588788e-6f, -2.06393675e-6f,
     -5.07828849e-7f, -1.05813111e-7f, -1.87600277e-8f, 0.0f},
    {6.70509597e-5f, 2.52121582e-5f, -2.34846401e-5f, -4.51150946e-5f, -3.53354304e-5f, -1.30996527e-5f, 3.20973834e-6f,
     8.47258423e-6f, 6.92610216e-6f, 3.81585061e-6f, 1.6077291e-6f, 5.4327981e-7f, 1.50800731e-7f, 3.48693938e-8f,
     6.7777383e-9f, 0.0f}};
}  // namespace math_detail
template <>
TENSORGRAD_INLINE Vec<float> normal_cdf(Vec<float> x) {
  using namespace math_detail;
  const Vec<float> u = min(Vec<float>(15.99f), abs(x) * (8.f / 3.f));
  const auto piece = nearest(u - 0.5f);
  const Vec<float> r = (u - 0.5f) - piece.value;
  const auto of_piece = [&](int power) __attribute__((always_inline)) {
    return Vec<float>((Raw<float>)_mm512_permutexvar_ps((__m512i)piece.integer.v, _mm512_load_ps(kNormal[power])));
  };
  Vec<float> p = of_piece(5);
  for (int power = 4; power >= 0; --power) p = fma(p, r, of_piece(power));
  return copysign(p, x) + 0.5f;
}
#endif

namespace math_detail {
// e^(a^2) erfc(a) (1 + 2a) - c0 as a polynomial in t = (a - 4) / (a + 4), and c0 with what its rounding lost.
TENSORGRAD_INLINE Vec<double> erfc_scaled(Vec<double> t) {
  return t * horner(t, -0.13962111684056287, 0.015379652102619923, 0.068097054254735228, -0.10103906603630879,
                    0.093732834996864665, -0.066330365812416824, 0.037167515561313044, -0.016197734049916588,
                    0.005031969767346863, -0.00075777339584891017, -0.00019925557638953048, 0.0001506224373745032,
                    -2.4402906586718559e-5, -1.1225200643869367e-5, 5.717252573108148e-6, 3.018338582251501e-7,
                    -8.3422349219638916e-7, 6.2492196304340742e-8, 1.1457601816502302e-7, -7.8174444816959247e-9,
                    -1.3399113425605488e-8, -1.7163156592813124e-9);
}
inline constexpr double kErfc0 = 1.2329951186255525, kErfc0Low = -4.6e-17;
}  // namespace math_detail

// 1 - erf(x), to full relative precision in the far tail.
inline Vec<double> erfc(Vec<double> x) {
  using namespace math_detail;
  const Vec<double> a = min(Vec<double>(28.), abs(x));
  const Vec<double> above = erfc_scaled((a - 4.) / (a + 4.)), p = above + kErfc0;
  // e^(-a^2): a = hi + lo with hi^2 exact.
  const Vec<double> hi = as_float(bits(a) & int64_t{-1} << 27);
  const Vec<double> lo = a - hi;
  const Vec<double> e = exp_of_sum(-(hi * hi), -(lo * (a + hi)));
  // p / (1 + 2a), and with fused operations what the roundings of p, divisor and quotient lost.
  const Vec<double> twice = a + a, divisor = twice + 1., q = p / divisor;
#if defined(__FMA__)
  const Vec<double> p_low = ((kErfc0 - p) + above) + kErfc0Low;
  const Vec<double> lost = fma(-q, twice - (divisor - 1.), fma(-q, divisor, p) + p_low) / divisor;
  const Vec<double> r = fma(e, q, e * lost);
#else
  const Vec<double> r = e * q;
#endif
  // Near 0 the product above would lose digits: 1 - erf(x).
  const Vec<double> z = x * x;
  const Vec<double> near_zero = 1. - fma(x, erf_tail(z), x);
  return select(a < 0.5, near_zero, select(x < 0., 2. - r, r));
}
// The square of a float is exact in double.
inline Vec<float> erfc(Vec<float> x) {
  return math_detail::by_double(
      x, [](Vec<double> v) __attribute__((always_inline)) {
        const Vec<double> a = min(Vec<double>(28.), abs(v));
        const Vec<double> p = math_detail::erfc_scaled((a - 4.) / (a + 4.)) + math_detail::kErfc0;
        const Vec<double> r = math_detail::exp_bounded(-(a * a)) * p / fma(a, 2., Vec<double>(1.));
        return select(v < 0., 2. - r, r);
      });
}

// ---- powers -------------------------------------------------------------------------------------------------------

#if defined(__FMA__)
namespace math_detail {
// a * b + c, certainly in one rounding: of fma(a, b, -(a * b)) the compiler would make a difference of equal products.
TENSORGRAD_INLINE Vec<double> fused(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(__AVX512F__)
  return Vec<double>((Raw<double>)_mm512_fmadd_pd((__m512d)a.v, (__m512d)b.v, (__m512d)c.v));
#else
  return Vec<double>((Raw<double>)_mm256_fmadd_pd((__m256d)a.v, (__m256d)b.v, (__m256d)c.v));
#endif
}

// log(x) for normal or subnormal x > 0 to about 2^-66 of itself. With s = f / (2 + f) it is
// e ln(2) + 2 s (1 + s^2 / 3 + s^4 / 5 + ...), of which the first two terms need more than 53 bits.
TENSORGRAD_INLINE Pair log_pair(Vec<double> x) {
  using F = Format<double>;
  const auto [e, f] = split_any(x);
  const Vec<double> t = f + 2., t_low = f - (t - 2.), s = f / t;
  const Vec<double> s_low = fma(-s, t_low, fused(-s, t, f)) / t;
  const Vec<double> z = s * s, z_low = fma(s + s, s_low, fused(s, s, -z));
  // (atanh(s) / s - 1 - z / 3) / z^2
  const Vec<double> rest =
      horner(z, 0.2, 0.14285714285714684, 0.11111111110827271, 0.090909091678374797, 0.076922974671715683,
             0.066674030683619939, 0.058530998654920621, 0.058617716167012126);
  constexpr double third = 0.33333333333333333, third_low = 1.850371707708594e-17;
  const Vec<double> u = z * third;
  const Vec<double> u_low = fma(z * z, rest, fma(z_low, third, fma(z, third_low, fused(z, third, -u))));
  const Vec<double> d = s + s, p = d * u;
  const Vec<double> p_low = fma(d, u_low, fma(s_low + s_low, u, fused(d, u, -p))) + (s_low + s_low);
  const Pair m = pair_of(d, p);
  const Pair sum = pair_of(e * F::ln2_hi, m.high);
  return pair_of(sum.high, sum.low + fma(e, F::ln2_lo, m.low + p_low));
}

// a^y for normal or subnormal a > 0 and finite y.
TENSORGRAD_INLINE Vec<double> pow_positive(Vec<double> a, Vec<double> y) {
  using F = Format<double>;
  const Pair l = log_pair(a);
  const Vec<double> product = y * l.high;
  const Vec<double> high = max(Vec<double>(F::exp_min), min(Vec<double>(F::exp_max), product));
  const Vec<double> low = select(high == product, fma(y, l.low, fused(y, l.high, -product)), Vec<double>(0.));
  return exp_of_sum(high, low);
}
}  // namespace math_detail
#endif

// x^y with C's rules: pow(x, 0) = pow(1, y) = 1 even for NaN, a negative x needs a whole y.
inline Vec<double> pow(Vec<double> x, Vec<double> y) {
  const auto by_libm = [&](int lane) { return __builtin_pow(x[lane], y[lane]); };
#if defined(__FMA__)
  const Vec<double> a = abs(x);
  const Mask<double> whole = round_even(y) == y;
  const Vec<double> half = y * 0.5;
  const Mask<double> negative = x < 0.;
  Vec<double> r = math_detail::pow_positive(a, y);
  r = select(negative & whole & (round_even(half) != half), -r, r);
  r = select(negative & ~whole, Vec<double>(math_detail::kNaN<double>), r);
  const Mask<double> usual = (a > 0.) & (a < math_detail::kInf<double>)&(abs(y) < math_detail::kInf<double>);
  return math_detail::patch(r, ~usual, by_libm);
#else
  double r[kLanes<double>];
  for (int i = 0; i < kLanes<double>; ++i) r[i] = by_libm(i);
  return load(static_cast<const double*>(r));
#endif
}
namespace math_detail {
// a^y for normal a > 0 and finite y, to the 27 bits that a result in float needs: 2^(y log2(a)).
TENSORGRAD_INLINE Vec<double> short_pow(Vec<double> a, Vec<double> y) {
  const auto [e, f] = split(a);
  const Vec<double> s = f / (f + 2.), z = s * s;
  // log2((1 + s) / (1 - s)) / s
  const Vec<double> q =
      horner(z, 2.8853900817901067, 0.96179667331389462, 0.57708359064888123, 0.4116723587705641, 0.34073709601979768);
  const Vec<double> l = max(Vec<double>(-160.), min(Vec<double>(160.), y * fma(s, q, e)));
  const auto n = nearest(l);
  const Vec<double> r = l - n.value;
  const Vec<double> p = fma(r,
                            horner(r, 0.69314720278170274, 0.24022647914186152, 0.055503325735313448,
                                   0.0096184375214101625, 0.0013398843843161469, 0.00015353278517298525),
                            1.);
  return as_float(bits(p) + (n.integer << Format<double>::mantissa));
}
}  // namespace math_detail
inline Vec<float> pow(Vec<float> x, Vec<float> y) {
  using math_detail::kInf;
  const Vec<float> a = abs(x);
  Vec<float> r = math_detail::by_double(
      a, y, [](Vec<double> u, Vec<double> v) __attribute__((always_inline)) { return math_detail::short_pow(u, v); });
  const Mask<float> whole = round_even(y) == y;
  const Vec<float> half = y * 0.5f;
  const Mask<float> odd = whole & (round_even(half) != half);
  const Mask<float> negative = x < 0.f;
  r = select(negative & odd, -r, r);
  r = select(negative & ~whole, Vec<float>(math_detail::kNaN<float>), r);
  const Mask<float> usual = (a > 0.f) & (a < kInf<float>)&(abs(y) < kInf<float>);
  return math_detail::patch(r, ~usual, [&](int lane) { return __builtin_powf(x[lane], y[lane]); });
}

// ---- gamma function -------------------------------------------------------------------------------------------------

namespace math_detail {
// Digamma: recurrence up to x >= 10, then the asymptotic series; reflection below 0.
inline double digamma(double x) {
  if (x == 0) return __builtin_copysign(__builtin_inf(), -x);
  double result = 0;
  if (x < 0) {
    if (x == __builtin_trunc(x)) return __builtin_nan("");
    const double fraction = x - __builtin_trunc(x);  // tan(pi x) from the fraction: pi x would lose its digits
    result = -3.14159265358979323846 / __builtin_tan(3.14159265358979323846 * fraction);
    x = 1 - x;
  }
  for (; x < 10; x += 1) result -= 1 / x;
  const double z = 1 / (x * x);
  const double series =
      z * (1. / 12 - z * (1. / 120 - z * (1. / 252 - z * (1. / 240 - z * (1. / 132 - z * (691. / 32760 - z / 12))))));
  return result + (__builtin_log(x) - 0.5 / x - (x < 1e17 ? series : 0));
}
// The same for x > 0.
TENSORGRAD_INLINE Vec<double> digamma_positive(Vec<double> x) {
  Vec<double> sum = 0.;
  for (int step = 0; step < 10; ++step) {
    const Mask<double> low = x < 10.;
    sum = select(low, sum - 1. / x, sum);
    x = select(low, x + 1., x);
  }
  const Vec<double> r = 1. / x, z = r * r;
  const Vec<double> series = z * horner(z, 1. / 12, -1. / 120, 1. / 252, -1. / 240, 1. / 132, -691. / 32760, 1. / 12);
  return sum + (log(x) - r * 0.5 - series);
}

// log(gamma(x)) for finite x > 0: from 8 on the asymptotic series; below, with x = n + r for the nearest whole n, the
// polynomial of log(gamma(2 + r)) / r and the logarithm of the factors between 2 + r and x.
TENSORGRAD_INLINE Vec<double> lgamma_positive(Vec<double> x) {
  const Mask<double> large = x >= 8.;
  const Vec<double> low = min(x, Vec<double>(8.)), n = round_even(low), r = low - n;
  Vec<double> down = 1.;
  for (int k = 1; k <= 6; ++k)
    down = select(n >= static_cast<double>(k + 2), down * (low - static_cast<double>(k)), down);
  const Vec<double> up = select(n == 0., low * (low + 1.), select(n == 1., low, Vec<double>(1.)));
  const Vec<double> near =
      r * horner(r, 0.42278433509846714, 0.32246703342411322, -0.067352301053198095, 0.02058080842778463,
                 -0.0073855510286740248, 0.0028905103307344046, -0.0011927539116998527, 0.00050966952502419548,
                 -0.00022315475858818616, 9.9457506687881399e-5, -4.4926233820610825e-5, 2.0507291996563825e-5,
                 -9.4395262020588179e-6, 4.3742234810820478e-6, -2.0389077825677105e-6, 9.5842070485949861e-7,
                 -4.5081682254468383e-7, 2.0193835401136914e-7, -9.558178101635195e-8, 6.4725698400647237e-8,
                 -3.0859854783905771e-8);
  const Vec<double> l = log(select(large, x, down / up));
  const Vec<double> inverse = 1. / x, z = inverse * inverse;
  const Vec<double> series = inverse * horner(z, 1. / 12, -1. / 360, 1. / 1260, -1. / 1680, 1. / 1188, -691. / 360360,
                                              1. / 156, -3617. / 122400);
  return select(large, fma(x - 0.5, l, -x) + (series + 0.91893853320467274178), near + l);
}
}  // namespace math_detail

inline Vec<double> digamma(Vec<double> x) {
  return math_detail::patch(math_detail::digamma_positive(x), ~(x > 0.),
                            [&](int lane) { return math_detail::digamma(x[lane]); });
}
inline Vec<float> digamma(Vec<float> x) {
  return math_detail::by_double(
      x, [](Vec<double> v) __attribute__((always_inline)) { return digamma(v); });
}
// Negative numbers, whose values cross zero between the poles, are libm's, and so are the edges.
inline Vec<double> lgamma(Vec<double> x) {
  return math_detail::patch(math_detail::lgamma_positive(x), ~((x > 0.) & (x < 1e305)), [&](int lane) {
    int sign;  // the _r forms: plain lgamma writes a global
    return __builtin_lgamma_r(x[lane], &sign);
  });
}
inline Vec<float> lgamma(Vec<float> x) {
  const Vec<float> r = math_detail::by_double(
      x, [](Vec<double> v) __attribute__((always_inline)) { return math_detail::lgamma_positive(v); });
  return math_detail::patch(r, ~((x > 0.f) & (x < math_detail::kInf<float>)), [&](int lane) {
    int sign;
    return __builtin_lgammaf_r(x[lane], &sign);
  });
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA

#include "kernels/cpu/simd_trig.h"
