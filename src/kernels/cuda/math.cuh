#pragma once

// The functions that the formulas (kernels/formulas.h) are written in, for one float or double at a time.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math_constants.h>

#include <cstdint>

namespace tensorgrad::gpu {

#define TENSORGRAD_DEVICE static __device__ __forceinline__
#define TENSORGRAD_MATH1(name)                                   \
  TENSORGRAD_DEVICE float name(float x) { return ::name##f(x); } \
  TENSORGRAD_DEVICE double name(double x) { return ::name(x); }
#define TENSORGRAD_MATH2(name)                                               \
  TENSORGRAD_DEVICE float name(float a, float b) { return ::name##f(a, b); } \
  TENSORGRAD_DEVICE double name(double a, double b) { return ::name(a, b); }

namespace formulas {
TENSORGRAD_MATH1(exp)
TENSORGRAD_MATH1(exp2)
TENSORGRAD_MATH1(expm1)
TENSORGRAD_MATH1(log)
TENSORGRAD_MATH1(log2)
TENSORGRAD_MATH1(log10)
TENSORGRAD_MATH1(log1p)
TENSORGRAD_MATH1(sin)
TENSORGRAD_MATH1(cos)
TENSORGRAD_MATH1(tan)
TENSORGRAD_MATH1(asin)
TENSORGRAD_MATH1(acos)
TENSORGRAD_MATH1(atan)
TENSORGRAD_MATH1(sinh)
TENSORGRAD_MATH1(cosh)
TENSORGRAD_MATH1(tanh)
TENSORGRAD_MATH1(asinh)
TENSORGRAD_MATH1(acosh)
TENSORGRAD_MATH1(atanh)
TENSORGRAD_MATH1(erf)
TENSORGRAD_MATH1(erfc)
TENSORGRAD_MATH1(erfinv)
TENSORGRAD_MATH1(lgamma)
TENSORGRAD_MATH1(sqrt)
TENSORGRAD_MATH1(floor)
TENSORGRAD_MATH1(ceil)
TENSORGRAD_MATH1(trunc)
TENSORGRAD_MATH2(pow)
TENSORGRAD_MATH2(fmod)
TENSORGRAD_MATH2(atan2)
TENSORGRAD_MATH2(hypot)
TENSORGRAD_MATH2(copysign)
TENSORGRAD_DEVICE float abs(float x) { return ::fabsf(x); }
TENSORGRAD_DEVICE double abs(double x) { return ::fabs(x); }
TENSORGRAD_DEVICE float round_even(float x) { return ::rintf(x); }
TENSORGRAD_DEVICE double round_even(double x) { return ::rint(x); }
TENSORGRAD_DEVICE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
TENSORGRAD_DEVICE double fma(double a, double b, double c) { return ::fma(a, b, c); }
// b where either is NaN.
template <class T>
TENSORGRAD_DEVICE T min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
TENSORGRAD_DEVICE T max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
TENSORGRAD_DEVICE T select(bool c, T a, T b) {
  return c ? a : b;
}
template <class T>
TENSORGRAD_DEVICE T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}
template <class T>
TENSORGRAD_DEVICE T normal_cdf(T x) {
  return (erf(x * T(0.70710678118654752440)) + T(1)) * T(0.5);
}
// Reflection for negative arguments, recurrence up to 6 (10 in double), then the asymptotic series.
template <class T>
TENSORGRAD_DEVICE T digamma(T x) {
  if (x == T(0)) return copysign(T(CUDART_INF), -x);
  T result = T(0);
  if (x < T(0)) {
    if (x == trunc(x)) return T(CUDART_NAN);
    const T fraction = x - trunc(x);
    result = -T(CUDART_PI) / tan(T(CUDART_PI) * fraction);
    x = T(1) - x;
  }
  while (x < T(10)) {
    result -= T(1) / x;
    x += T(1);
  }
  const T r = T(1) / (x * x);
  const T series =
      r * (T(1) / T(12) -
           r * (T(1) / T(120) -
                r * (T(1) / T(252) - r * (T(1) / T(240) - r * (T(1) / T(132) - r * (T(691) / T(32760) - r / T(12)))))));
  return result + log(x) - T(0.5) / x - series;
}
// The derivative of digamma: recurrence up to 10, then the asymptotic series; reflection for negative arguments.
template <class T>
TENSORGRAD_DEVICE T trigamma(T x) {
  T sign = T(1), result = T(0);
  if (x < T(0.5)) {
    sign = T(-1);
    const T s = sin(T(CUDART_PI) * x);
    result -= T(CUDART_PI) * T(CUDART_PI) / (s * s);
    x = T(1) - x;
  }
  while (x < T(10)) {
    result += T(1) / (x * x);
    x += T(1);
  }
  const T r = T(1) / (x * x);
  result += (T(1) + T(1) / (T(2) * x) +
             r * (T(1) / T(6) - r * (T(1) / T(30) - r * (T(1) / T(42) - r * (T(1) / T(30) - r * T(5) / T(66)))))) /
            x;
  return sign * result;
}
}  // namespace formulas

}  // namespace tensorgrad::gpu

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::gpu::formulas
#define TENSORGRAD_INLINE __device__ __forceinline__
#include "kernels/formulas_math.h"
