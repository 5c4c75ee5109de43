#pragma once

// The pointwise formulas, written once. A formula works on a value type V whose elements are T:
//   on the CPU V is Vec<float> or Vec<double> (kernels/cpu/simd.h, simd_math.h) and a comparison gives a Mask,
//   on CUDA V is float or double itself and a comparison gives bool.
// The file that includes this one defines TENSORGRAD_FORMULA_NAMESPACE, the namespace in which V's functions live
// (select, min, max, abs, fma, exp, ...), and TENSORGRAD_INLINE. min(a, b) and max(a, b) give b where either is NaN;
// the formulas use that. p points to the operation's parameters (PointwiseArgs::params).

#include "kernels/pointwise.h"

namespace TENSORGRAD_FORMULA_NAMESPACE {

template <UnaryOp>
struct Unary;
template <BinaryOp>
struct Binary;
template <TernaryOp>
struct Ternary;

#define TENSORGRAD_UNARY(op, ...)                                           \
  template <>                                                               \
  struct Unary<UnaryOp::op> {                                               \
    template <class V, class T>                                             \
    static TENSORGRAD_INLINE auto apply(V x, [[maybe_unused]] const T* p) { \
      __VA_ARGS__                                                           \
    }                                                                       \
  };
#define TENSORGRAD_BINARY(op, ...)                                               \
  template <>                                                                    \
  struct Binary<BinaryOp::op> {                                                  \
    template <class V, class T>                                                  \
    static TENSORGRAD_INLINE auto apply(V a, V b, [[maybe_unused]] const T* p) { \
      __VA_ARGS__                                                                \
    }                                                                            \
  };
#define TENSORGRAD_TERNARY(op, ...)                                                   \
  template <>                                                                         \
  struct Ternary<TernaryOp::op> {                                                     \
    template <class V, class T>                                                       \
    static TENSORGRAD_INLINE auto apply(V a, V b, V c, [[maybe_unused]] const T* p) { \
      __VA_ARGS__                                                                     \
    }                                                                                 \
  };

// ---- one argument: arithmetic, rounding, tests

TENSORGRAD_UNARY(neg, return -x;)
TENSORGRAD_UNARY(abs, return abs(x);)
TENSORGRAD_UNARY(sign, return select(x > T(0), V(T(1)), select(x < T(0), V(T(-1)), V(T(0))));)
TENSORGRAD_UNARY(square, return x * x;)
TENSORGRAD_UNARY(cube, return x * x * x;)
TENSORGRAD_UNARY(reciprocal, return V(T(1)) / x;)
TENSORGRAD_UNARY(sqrt, return sqrt(x);)
TENSORGRAD_UNARY(rsqrt, return V(T(1)) / sqrt(x);)
TENSORGRAD_UNARY(floor, return floor(x);)
TENSORGRAD_UNARY(ceil, return ceil(x);)
TENSORGRAD_UNARY(round, return round_even(x);)
TENSORGRAD_UNARY(trunc, return trunc(x);)
TENSORGRAD_UNARY(frac, return x - trunc(x);)
TENSORGRAD_UNARY(relu, return max(V(T(0)), x);)
TENSORGRAD_UNARY(logical_not, return x == T(0);)
TENSORGRAD_UNARY(isnan, return x != x;)
TENSORGRAD_UNARY(isinf, return abs(x) == T(__builtin_inf());)
TENSORGRAD_UNARY(isfinite, return abs(x) < T(__builtin_inf());)
TENSORGRAD_UNARY(signbit, return copysign(V(T(1)), x) < T(0);)
TENSORGRAD_UNARY(clamp, return min(V(p[1]), max(V(p[0]), x));)
TENSORGRAD_UNARY(nan_to_num, const V y = select(x == T(__builtin_inf()), V(p[1]), x);
                 const V z = select(y == T(-__builtin_inf()), V(p[2]), y); return select(x != x, V(p[0]), z);)

// ---- two arguments

TENSORGRAD_BINARY(add, return a + b;)
TENSORGRAD_BINARY(sub, return a - b;)
TENSORGRAD_BINARY(mul, return a * b;)
TENSORGRAD_BINARY(div, return a / b;)
TENSORGRAD_BINARY(add_scaled, return fma(b, V(p[0]), a);)
TENSORGRAD_BINARY(trunc_divide, return trunc(a / b);)
TENSORGRAD_BINARY(fmod, return fmod(a, b);)
// The sign of b.
TENSORGRAD_BINARY(remainder, const V r = fmod(a, b); return select((r != T(0)) & ((b < T(0)) ^ (r < T(0))), r + b, r);)
// Python's //: exact where the rounded quotient would not be.
TENSORGRAD_BINARY(floor_divide, const V r = fmod(a, b);
                  const V q = (a - r) / b - select((r != T(0)) & ((b < T(0)) ^ (r < T(0))), V(T(1)), V(T(0)));
                  const V down = floor(q); const V whole = select(q - down > T(0.5), down + T(1), down);
                  const V signed_zero = copysign(V(T(0)), a / b);
                  return select(b == T(0), a / b, select(q == T(0), signed_zero, whole));)
TENSORGRAD_BINARY(pow, return pow(a, b);)
TENSORGRAD_BINARY(maximum, return select(a != a, a, max(a, b));)
TENSORGRAD_BINARY(minimum, return select(a != a, a, min(a, b));)
TENSORGRAD_BINARY(fmax, return select(b != b, a, max(a, b));)
TENSORGRAD_BINARY(fmin, return select(b != b, a, min(a, b));)
TENSORGRAD_BINARY(atan2, return atan2(a, b);)
TENSORGRAD_BINARY(hypot, return hypot(a, b);)
TENSORGRAD_BINARY(copysign, return copysign(a, b);)
TENSORGRAD_BINARY(xlogy, return select(b != b, b, select(a == T(0), V(T(0)), a* log(b)));)
TENSORGRAD_BINARY(logaddexp, const V m = select(a != a, a, max(a, b)); const V d = abs(a - b);
                  return select((a == b) & (abs(a) == T(__builtin_inf())), a, m + log1p(exp(-d)));)
TENSORGRAD_BINARY(heaviside, return select(a == T(0), b, select(a > T(0), V(T(1)), V(T(0))));)
// From the nearer end, so that weight 1 gives b exactly.
TENSORGRAD_BINARY(lerp_scalar, const V w = V(p[0]); const V d = b - a;
                  return select(abs(w) < T(0.5), fma(w, d, a), b - d * (T(1) - w));)
TENSORGRAD_BINARY(eq, return a == b;)
TENSORGRAD_BINARY(ne, return a != b;)
TENSORGRAD_BINARY(lt, return a < b;)
TENSORGRAD_BINARY(le, return a <= b;)
TENSORGRAD_BINARY(gt, return a > b;)
TENSORGRAD_BINARY(ge, return a >= b;)
TENSORGRAD_BINARY(logical_and, return (a != T(0)) & (b != T(0));)
TENSORGRAD_BINARY(logical_or, return (a != T(0)) | (b != T(0));)
TENSORGRAD_BINARY(logical_xor, return (a != T(0)) ^ (b != T(0));)

// ---- three arguments

TENSORGRAD_TERNARY(addcmul, return fma(b * c, V(p[0]), a);)
TENSORGRAD_TERNARY(addcdiv, return fma(b / c, V(p[0]), a);)
TENSORGRAD_TERNARY(lerp, const V d = b - a; return select(abs(c) < T(0.5), fma(c, d, a), b - d * (T(1) - c));)
// A NaN anywhere gives NaN.
TENSORGRAD_TERNARY(clamp, const V low = select(b != b, b, max(b, a)); return select(c != c, c, min(c, low));)

}  // namespace TENSORGRAD_FORMULA_NAMESPACE
