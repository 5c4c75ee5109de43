#pragma once

// The pointwise formulas on integers; see formulas.h for the namespace. Overflow wraps. Division by zero is the
// caller's to refuse (checked_divisor of the enclosing namespace), the smallest integer over -1 wraps too.

#include <type_traits>

#include "kernels/pointwise.h"

namespace TENSORGRAD_FORMULA_NAMESPACE {

template <UnaryOp>
struct IntUnary;
template <BinaryOp>
struct IntBinary;
template <TernaryOp>
struct IntTernary;

// An unsigned type in which arithmetic wraps: small integers would be promoted to int.
template <class T>
using Wrapping = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;

template <class T>
TENSORGRAD_INLINE T wrap_mul(T a, T b) {
  using U = Wrapping<T>;
  return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
}
template <class T>
TENSORGRAD_INLINE T wrap_add(T a, T b) {
  using U = Wrapping<T>;
  return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
}
template <class T>
TENSORGRAD_INLINE T wrap_neg(T a) {
  using U = Wrapping<T>;
  return static_cast<T>(U(0) - static_cast<U>(a));
}
template <class T>
TENSORGRAD_INLINE T int_remainder(T a, T b) {  // the sign of b
  if (std::is_signed_v<T> && b == T(-1)) return 0;
  const T r = static_cast<T>(a % b);
  return r != 0 && ((r < 0) != (b < 0)) ? static_cast<T>(r + b) : r;
}
template <class T>
TENSORGRAD_INLINE T int_floor_divide(T a, T b) {
  if (std::is_signed_v<T> && b == T(-1)) return wrap_neg(a);
  const T q = static_cast<T>(a / b);
  return a % b != 0 && ((a < 0) != (b < 0)) ? static_cast<T>(q - 1) : q;
}
// A negative exponent: 1 / a^|b| cut to an integer.
template <class T>
TENSORGRAD_INLINE T int_pow(T a, T b) {
  if (b < 0) return a == 1 ? T(1) : a == T(-1) ? (b % 2 == 0 ? T(1) : T(-1)) : T(0);
  T result = 1;
  for (; b > 0; b = static_cast<T>(b >> 1)) {
    if (b & 1) result = wrap_mul(result, a);
    a = wrap_mul(a, a);
  }
  return result;
}

#define TENSORGRAD_UNARY(op, ...)                                           \
  template <>                                                               \
  struct IntUnary<UnaryOp::op> {                                            \
    template <class T>                                                      \
    static TENSORGRAD_INLINE auto apply(T x, [[maybe_unused]] const T* p) { \
      return __VA_ARGS__;                                                   \
    }                                                                       \
  };
#define TENSORGRAD_BINARY(op, ...)                                               \
  template <>                                                                    \
  struct IntBinary<BinaryOp::op> {                                               \
    template <class T>                                                           \
    static TENSORGRAD_INLINE auto apply(T a, T b, [[maybe_unused]] const T* p) { \
      return __VA_ARGS__;                                                        \
    }                                                                            \
  };
#define TENSORGRAD_TERNARY(op, ...)                                                   \
  template <>                                                                         \
  struct IntTernary<TernaryOp::op> {                                                  \
    template <class T>                                                                \
    static TENSORGRAD_INLINE auto apply(T a, T b, T c, [[maybe_unused]] const T* p) { \
      return __VA_ARGS__;                                                             \
    }                                                                                 \
  };

TENSORGRAD_UNARY(neg, wrap_neg(x))
TENSORGRAD_UNARY(abs, x < 0 ? wrap_neg(x) : x)
TENSORGRAD_UNARY(sign, static_cast<T>((x > 0) - (x < 0)))
TENSORGRAD_UNARY(square, wrap_mul(x, x))
TENSORGRAD_UNARY(relu, x > 0 ? x : T(0))
TENSORGRAD_UNARY(logical_not, x == 0)
TENSORGRAD_UNARY(bitwise_not, static_cast<T>(~x))
TENSORGRAD_UNARY(signbit, x < 0)
TENSORGRAD_UNARY(clamp, (x < p[0] ? p[0] : x) < p[1] ? (x < p[0] ? p[0] : x) : p[1])
TENSORGRAD_UNARY(hardtanh, (x < p[0] ? p[0] : x) < p[1] ? (x < p[0] ? p[0] : x) : p[1])
TENSORGRAD_UNARY(threshold, x <= p[0] ? p[1] : x)
TENSORGRAD_UNARY(pow_scalar, int_pow(x, p[0]))

TENSORGRAD_BINARY(add, wrap_add(a, b))
TENSORGRAD_BINARY(sub, wrap_add(a, wrap_neg(b)))
TENSORGRAD_BINARY(mul, wrap_mul(a, b))
TENSORGRAD_BINARY(add_scaled, wrap_add(a, wrap_mul(p[0], b)))
TENSORGRAD_BINARY(floor_divide, int_floor_divide(a, checked_divisor(b, "floor_divide")))
TENSORGRAD_BINARY(trunc_divide,
                  checked_divisor(b, "div") == T(-1) && std::is_signed_v<T> ? wrap_neg(a) : static_cast<T>(a / b))
TENSORGRAD_BINARY(remainder, int_remainder(a, checked_divisor(b, "remainder")))
TENSORGRAD_BINARY(fmod, checked_divisor(b, "fmod") == T(-1) && std::is_signed_v<T> ? T(0) : static_cast<T>(a % b))
TENSORGRAD_BINARY(pow, int_pow(a, b))
TENSORGRAD_BINARY(maximum, a > b ? a : b)
TENSORGRAD_BINARY(minimum, a < b ? a : b)
TENSORGRAD_BINARY(fmax, a > b ? a : b)
TENSORGRAD_BINARY(fmin, a < b ? a : b)
TENSORGRAD_BINARY(heaviside, a == 0 ? b : static_cast<T>(a > 0))
TENSORGRAD_BINARY(eq, a == b)
TENSORGRAD_BINARY(ne, a != b)
TENSORGRAD_BINARY(lt, a < b)
TENSORGRAD_BINARY(le, a <= b)
TENSORGRAD_BINARY(gt, a > b)
TENSORGRAD_BINARY(ge, a >= b)
TENSORGRAD_BINARY(logical_and, (a != 0) & (b != 0))
TENSORGRAD_BINARY(logical_or, (a != 0) | (b != 0))
TENSORGRAD_BINARY(logical_xor, (a != 0) ^ (b != 0))
TENSORGRAD_BINARY(bitwise_and, static_cast<T>(a& b))
TENSORGRAD_BINARY(bitwise_or, static_cast<T>(a | b))
TENSORGRAD_BINARY(bitwise_xor, static_cast<T>(a ^ b))
// A count outside the width shifts everything out.
TENSORGRAD_BINARY(shift_left, b < 0 || b >= T(sizeof(T) * 8) ? T(0) : static_cast<T>(static_cast<Wrapping<T>>(a) << b))
TENSORGRAD_BINARY(shift_right, static_cast<T>(a >> (b < 0 || b >= T(sizeof(T) * 8) ? T(sizeof(T) * 8 - 1) : b)))

TENSORGRAD_TERNARY(addcmul, wrap_add(a, wrap_mul(p[0], wrap_mul(b, c))))
TENSORGRAD_TERNARY(clamp, (a < b ? b : a) < c ? (a < b ? b : a) : c)

#undef TENSORGRAD_UNARY
#undef TENSORGRAD_BINARY
#undef TENSORGRAD_TERNARY

}  // namespace TENSORGRAD_FORMULA_NAMESPACE
