#pragma once

#include <cstdint>

// The functions that test_simd_math.cpp compares with libm, and how it reaches their three compilations.
// The formatter never comes to rest on this list.
// clang-format off
#define TENSORGRAD_MATH_UNARY(X) \
  X(exp) X(expm1) X(exp2) X(log) X(log1p) X(log2) X(log10) X(tanh) X(sigmoid) X(erf) X(erfc) X(sin) \
  X(cos) X(tan) X(asin) X(acos) X(atan) X(sinh) X(cosh) X(asinh) X(acosh) X(atanh) X(lgamma) \
  X(digamma) X(trigamma) X(erfinv)
// clang-format on

namespace tensorgrad::cpu {

enum class MathFunction {
#define TENSORGRAD_NAME(name) name,
  TENSORGRAD_MATH_UNARY(TENSORGRAD_NAME)
#undef TENSORGRAD_NAME
      pow,
  atan2,
  hypot
};

#define TENSORGRAD_DECLARE(isa)                                                                 \
  namespace isa {                                                                               \
  void call_math(MathFunction which, const float* x, const float* y, float* out, int64_t n);    \
  void call_math(MathFunction which, const double* x, const double* y, double* out, int64_t n); \
  }
TENSORGRAD_DECLARE(baseline)
TENSORGRAD_DECLARE(avx2)
TENSORGRAD_DECLARE(avx512)
#undef TENSORGRAD_DECLARE

}  // namespace tensorgrad::cpu
