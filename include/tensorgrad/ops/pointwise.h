#pragma once

// Operations on each element. Shapes broadcast as in NumPy, dtypes promote as in PyTorch (a Python-like number only
// raises the category: int tensor + 1.5 is the default float dtype, float16 tensor + 1.5 stays float16). Functions of
// real numbers (exp, sin, div, ...) turn integers into the default floating dtype. Every function with a slope is
// differentiable, any number of times. Names ending in _ write into their first argument, which must have the broadcast
// shape and a dtype that can hold the result's category, and count its version: AutogradError where PyTorch refuses it
// (a leaf that requires grad).
//
// Errors: ShapeError for shapes that do not broadcast, DTypeError for a dtype the operation is not defined for,
// DeviceError for tensors on two devices (a 0-d CPU tensor may join any).
//
//   Tensor x = tensor({1.0, 4.0, 9.0});
//   sqrt(x) + 1        // [2, 3, 4]
//   x.add_(1).mul_(2)  // [4, 10, 20]

#include <optional>
#include <string_view>

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// --- arithmetic

// a + alpha * b.
TENSORGRAD_API Tensor add(const Tensor& a, const Tensor& b, Scalar alpha = 1);
TENSORGRAD_API Tensor add(const Tensor& a, Scalar b, Scalar alpha = 1);
// a - alpha * b; not for bools.
TENSORGRAD_API Tensor sub(const Tensor& a, const Tensor& b, Scalar alpha = 1);
TENSORGRAD_API Tensor sub(const Tensor& a, Scalar b, Scalar alpha = 1);
// b - alpha * a.
TENSORGRAD_API Tensor rsub(const Tensor& a, const Tensor& b, Scalar alpha = 1);
TENSORGRAD_API Tensor rsub(const Tensor& a, Scalar b, Scalar alpha = 1);
TENSORGRAD_API Tensor mul(const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor mul(const Tensor& a, Scalar b);
// True division: integers become floats. 7 / 2 is 3.5.
TENSORGRAD_API Tensor div(const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor div(const Tensor& a, Scalar b);
TENSORGRAD_API Tensor div(Scalar a, const Tensor& b);
inline Tensor true_divide(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor true_divide(const Tensor& a, Scalar b) { return div(a, b); }
// rounding_mode "floor" (towards -inf) or "trunc" (towards zero); integers stay integers.
TENSORGRAD_API Tensor div(const Tensor& a, const Tensor& b, std::string_view rounding_mode);
TENSORGRAD_API Tensor div(const Tensor& a, Scalar b, std::string_view rounding_mode);
// Rounded towards -inf, as Python's //: -7 // 2 is -4. No gradient. Error for an integer zero divisor.
TENSORGRAD_API Tensor floor_divide(const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor floor_divide(const Tensor& a, Scalar b);
TENSORGRAD_API Tensor floor_divide(Scalar a, const Tensor& b);
// a modulo b with the sign of b, as Python's %: -7 % 3 is 2.
TENSORGRAD_API Tensor remainder(const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor remainder(const Tensor& a, Scalar b);
TENSORGRAD_API Tensor remainder(Scalar a, const Tensor& b);
// a modulo b with the sign of a, as C's fmod: fmod(-7, 3) is -1.
TENSORGRAD_API Tensor fmod(const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor fmod(const Tensor& a, Scalar b);
// a to the power of b. Integers to a negative number: ValueError; to negative tensor entries: cut to an integer.
TENSORGRAD_API Tensor pow(const Tensor& a, const Tensor& exponent);
TENSORGRAD_API Tensor pow(const Tensor& a, Scalar exponent);
TENSORGRAD_API Tensor pow(Scalar base, const Tensor& exponent);
// pow in float64.
TENSORGRAD_API Tensor float_power(const Tensor& a, const Tensor& exponent);
TENSORGRAD_API Tensor float_power(const Tensor& a, Scalar exponent);
TENSORGRAD_API Tensor float_power(Scalar base, const Tensor& exponent);
// The larger, the smaller; NaN where either is. Where equal, each side gets half the gradient.
TENSORGRAD_API Tensor maximum(const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor minimum(const Tensor& a, const Tensor& b);
// The same ignoring a NaN on one side.
TENSORGRAD_API Tensor fmax(const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor fmin(const Tensor& a, const Tensor& b);
// The angle of the point (x = b, y = a).
TENSORGRAD_API Tensor atan2(const Tensor& a, const Tensor& b);
// sqrt(a^2 + b^2) without overflow.
TENSORGRAD_API Tensor hypot(const Tensor& a, const Tensor& b);
// The magnitude of a with the sign of b.
TENSORGRAD_API Tensor copysign(const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor copysign(const Tensor& a, Scalar b);
// a * log(b), 0 where a is 0.
TENSORGRAD_API Tensor xlogy(const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor xlogy(const Tensor& a, Scalar b);
TENSORGRAD_API Tensor xlogy(Scalar a, const Tensor& b);
// log(exp(a) + exp(b)).
TENSORGRAD_API Tensor logaddexp(const Tensor& a, const Tensor& b);
// 0, values or 1 for a negative, zero or positive; one dtype. No gradient.
TENSORGRAD_API Tensor heaviside(const Tensor& a, const Tensor& values);
// a + weight * (end - a).
TENSORGRAD_API Tensor lerp(const Tensor& a, const Tensor& end, Scalar weight);
TENSORGRAD_API Tensor lerp(const Tensor& a, const Tensor& end, const Tensor& weight);
// self + value * a * b;  self + value * a / b (floats).
TENSORGRAD_API Tensor addcmul(const Tensor& self, const Tensor& a, const Tensor& b, Scalar value = 1);
TENSORGRAD_API Tensor addcdiv(const Tensor& self, const Tensor& a, const Tensor& b, Scalar value = 1);

// --- one argument: any shape; functions that give reals turn integers and bools into the default floating dtype

TENSORGRAD_API Tensor neg(const Tensor& t);         // -t; not for bools
TENSORGRAD_API Tensor positive(const Tensor& t);    // t itself; not for bools
TENSORGRAD_API Tensor abs(const Tensor& t);         // |t|; not for bools
TENSORGRAD_API Tensor sign(const Tensor& t);        // -1, 0 or 1
TENSORGRAD_API Tensor square(const Tensor& t);      // t * t
TENSORGRAD_API Tensor reciprocal(const Tensor& t);  // 1 / t
TENSORGRAD_API Tensor sqrt(const Tensor& t);        // NaN below 0
TENSORGRAD_API Tensor rsqrt(const Tensor& t);       // 1 / sqrt(t)
TENSORGRAD_API Tensor exp(const Tensor& t);         // e^t
TENSORGRAD_API Tensor exp2(const Tensor& t);        // 2^t
TENSORGRAD_API Tensor expm1(const Tensor& t);       // exp(t) - 1, exact for small t
TENSORGRAD_API Tensor log(const Tensor& t);         // to base e; NaN below 0, -inf at 0
TENSORGRAD_API Tensor log2(const Tensor& t);        // to base 2
TENSORGRAD_API Tensor log10(const Tensor& t);       // to base 10
TENSORGRAD_API Tensor log1p(const Tensor& t);       // log(1 + t), exact for small t
TENSORGRAD_API Tensor sin(const Tensor& t);         // of radians
TENSORGRAD_API Tensor cos(const Tensor& t);         // of radians
TENSORGRAD_API Tensor tan(const Tensor& t);         // of radians
TENSORGRAD_API Tensor asin(const Tensor& t);        // NaN outside [-1, 1]
TENSORGRAD_API Tensor acos(const Tensor& t);        // NaN outside [-1, 1]
TENSORGRAD_API Tensor atan(const Tensor& t);        // in (-pi/2, pi/2)
TENSORGRAD_API Tensor sinh(const Tensor& t);        // (e^t - e^-t) / 2
TENSORGRAD_API Tensor cosh(const Tensor& t);        // (e^t + e^-t) / 2
TENSORGRAD_API Tensor tanh(const Tensor& t);        // sinh(t) / cosh(t)
TENSORGRAD_API Tensor asinh(const Tensor& t);       // sinh's inverse
TENSORGRAD_API Tensor acosh(const Tensor& t);       // cosh's inverse; NaN below 1
TENSORGRAD_API Tensor atanh(const Tensor& t);       // tanh's inverse; NaN outside [-1, 1]
TENSORGRAD_API Tensor erf(const Tensor& t);         // the error function
TENSORGRAD_API Tensor erfc(const Tensor& t);        // 1 - erf(t)
TENSORGRAD_API Tensor erfinv(const Tensor& t);      // erf's inverse; NaN outside [-1, 1]
TENSORGRAD_API Tensor lgamma(const Tensor& t);      // log |gamma(t)|
TENSORGRAD_API Tensor digamma(const Tensor& t);     // the slope of lgamma
TENSORGRAD_API Tensor
trigamma(const Tensor& t);                    // the slope of digamma (torch.polygamma(1, t)); its own has no gradient
TENSORGRAD_API Tensor sinc(const Tensor& t);  // sin(pi t) / (pi t), 1 at 0
TENSORGRAD_API Tensor deg2rad(const Tensor& t);  // t * pi / 180
TENSORGRAD_API Tensor rad2deg(const Tensor& t);  // t * 180 / pi
// Whole numbers: down, up, to the nearest (ties to even), towards zero; integers as they are. Gradient zero.
TENSORGRAD_API Tensor floor(const Tensor& t);
TENSORGRAD_API Tensor ceil(const Tensor& t);
TENSORGRAD_API Tensor round(const Tensor& t);
// To `decimals` places; negative: before the point.
TENSORGRAD_API Tensor round(const Tensor& t, int64_t decimals);
TENSORGRAD_API Tensor trunc(const Tensor& t);
// t - trunc(t); floats.
TENSORGRAD_API Tensor frac(const Tensor& t);
// To [min, max]; either may be missing, not both. A NaN stays, a NaN bound gives NaN.
TENSORGRAD_API Tensor clamp(const Tensor& t, std::optional<Scalar> min, std::optional<Scalar> max = {});
// Undefined tensors mean no bound.
TENSORGRAD_API Tensor clamp(const Tensor& t, const Tensor& min, const Tensor& max);
// NaN -> nan, inf -> posinf (default the dtype's largest), -inf -> neginf (its lowest).
TENSORGRAD_API Tensor nan_to_num(const Tensor& t, double nan = 0.0, std::optional<double> posinf = {},
                                 std::optional<double> neginf = {});

// --- activations (torch.nn.functional has the formulas)

TENSORGRAD_API Tensor relu(const Tensor& t);                          // max(t, 0); not for bools
TENSORGRAD_API Tensor relu6(const Tensor& t);                         // t within [0, 6]
TENSORGRAD_API Tensor sigmoid(const Tensor& t);                       // 1 / (1 + exp(-t))
TENSORGRAD_API Tensor log_sigmoid(const Tensor& t);                   // log(sigmoid(t)), without overflow
inline Tensor logsigmoid(const Tensor& t) { return log_sigmoid(t); }  // the same
TENSORGRAD_API Tensor silu(const Tensor& t);                          // t * sigmoid(t)
TENSORGRAD_API Tensor mish(const Tensor& t);                          // t * tanh(softplus(t))
// t * Phi(t), Phi the normal distribution function; approximate "tanh" takes the cheaper form, anything else:
// ValueError.
TENSORGRAD_API Tensor gelu(const Tensor& t, std::string_view approximate = "none");
TENSORGRAD_API Tensor softplus(const Tensor& t, Scalar beta = 1, Scalar threshold = 20);
TENSORGRAD_API Tensor elu(const Tensor& t, Scalar alpha = 1, Scalar scale = 1, Scalar input_scale = 1);
TENSORGRAD_API Tensor selu(const Tensor& t);
TENSORGRAD_API Tensor celu(const Tensor& t, Scalar alpha = 1);
TENSORGRAD_API Tensor leaky_relu(const Tensor& t, Scalar negative_slope = 0.01);
TENSORGRAD_API Tensor hardtanh(const Tensor& t, Scalar min_val = -1, Scalar max_val = 1);
TENSORGRAD_API Tensor hardsigmoid(const Tensor& t);
TENSORGRAD_API Tensor hardswish(const Tensor& t);
TENSORGRAD_API Tensor softsign(const Tensor& t);
TENSORGRAD_API Tensor tanhshrink(const Tensor& t);
TENSORGRAD_API Tensor threshold(const Tensor& t, Scalar threshold, Scalar value);  // t > threshold ? t : value
TENSORGRAD_API Tensor hardshrink(const Tensor& t, Scalar lambda = 0.5);            // |t| <= lambda ? 0 : t
// t moved towards 0 by lambda, 0 where it would cross; a negative lambda: ValueError.
TENSORGRAD_API Tensor softshrink(const Tensor& t, Scalar lambda = 0.5);
// t where positive, weight * t elsewhere; weight has one element or one for each entry of dim 1 (else ShapeError).
//   prelu(tensor({-2.0f, 3.0f}), tensor({0.5f}))   // [-1, 3]
TENSORGRAD_API Tensor prelu(const Tensor& t, const Tensor& weight);
// a * sigmoid(b) for the halves a, b of t along dim, whose size must be even (else ShapeError).
TENSORGRAD_API Tensor glu(const Tensor& t, int64_t dim = -1);

// --- comparisons: bool tensors, no gradient

#define TENSORGRAD_DECLARE_COMPARISON(name)                      \
  TENSORGRAD_API Tensor name(const Tensor& a, const Tensor& b);  \
  TENSORGRAD_API Tensor name(const Tensor& a, Scalar b);         \
  TENSORGRAD_API Tensor& name##_(Tensor& self, const Tensor& b); \
  TENSORGRAD_API Tensor& name##_(Tensor& self, Scalar b);
TENSORGRAD_DECLARE_COMPARISON(eq)
TENSORGRAD_DECLARE_COMPARISON(ne)
TENSORGRAD_DECLARE_COMPARISON(lt)
TENSORGRAD_DECLARE_COMPARISON(le)
TENSORGRAD_DECLARE_COMPARISON(gt)
TENSORGRAD_DECLARE_COMPARISON(ge)
// On truth values: anything but 0 is true (NaN too).
TENSORGRAD_DECLARE_COMPARISON(logical_and)
TENSORGRAD_DECLARE_COMPARISON(logical_or)
TENSORGRAD_DECLARE_COMPARISON(logical_xor)
// On the bits of integers, or truth values of bools.
TENSORGRAD_DECLARE_COMPARISON(bitwise_and)
TENSORGRAD_DECLARE_COMPARISON(bitwise_or)
TENSORGRAD_DECLARE_COMPARISON(bitwise_xor)
TENSORGRAD_DECLARE_COMPARISON(bitwise_left_shift)
TENSORGRAD_DECLARE_COMPARISON(bitwise_right_shift)
#undef TENSORGRAD_DECLARE_COMPARISON
TENSORGRAD_API Tensor logical_not(const Tensor& t);
TENSORGRAD_API Tensor bitwise_not(const Tensor& t);
TENSORGRAD_API Tensor isnan(const Tensor& t);
TENSORGRAD_API Tensor isinf(const Tensor& t);
TENSORGRAD_API Tensor isfinite(const Tensor& t);
TENSORGRAD_API Tensor signbit(const Tensor& t);
// |a - b| <= atol + rtol * |b|, entry by entry; infinities must be equal; NaN equals NaN when asked. One dtype.
TENSORGRAD_API Tensor isclose(const Tensor& a, const Tensor& b, double rtol = 1e-5, double atol = 1e-8,
                              bool equal_nan = false);
// Whether all entries are close.
TENSORGRAD_API bool allclose(const Tensor& a, const Tensor& b, double rtol = 1e-5, double atol = 1e-8,
                             bool equal_nan = false);
// Whether the sizes and all entries are equal. One dtype.
TENSORGRAD_API bool equal(const Tensor& a, const Tensor& b);

// --- selection

// condition ? a : b; condition is bool (or uint8).
TENSORGRAD_API Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
TENSORGRAD_API Tensor where(const Tensor& condition, const Tensor& a, Scalar b);
TENSORGRAD_API Tensor where(const Tensor& condition, Scalar a, const Tensor& b);
TENSORGRAD_API Tensor where(const Tensor& condition, Scalar a, Scalar b);
// t with value (a number or a 0-d tensor) where the bool mask is true.
TENSORGRAD_API Tensor masked_fill(const Tensor& t, const Tensor& mask, Scalar value);
TENSORGRAD_API Tensor masked_fill(const Tensor& t, const Tensor& mask, const Tensor& value);

// --- in place: self becomes the result and is returned; its shape and dtype must hold it (ShapeError, DTypeError)

TENSORGRAD_API Tensor& add_(Tensor& self, const Tensor& b, Scalar alpha = 1);
TENSORGRAD_API Tensor& add_(Tensor& self, Scalar b, Scalar alpha = 1);
TENSORGRAD_API Tensor& sub_(Tensor& self, const Tensor& b, Scalar alpha = 1);
TENSORGRAD_API Tensor& sub_(Tensor& self, Scalar b, Scalar alpha = 1);
TENSORGRAD_API Tensor& mul_(Tensor& self, const Tensor& b);
TENSORGRAD_API Tensor& mul_(Tensor& self, Scalar b);
TENSORGRAD_API Tensor& div_(Tensor& self, const Tensor& b);
TENSORGRAD_API Tensor& div_(Tensor& self, Scalar b);
TENSORGRAD_API Tensor& floor_divide_(Tensor& self, const Tensor& b);
TENSORGRAD_API Tensor& floor_divide_(Tensor& self, Scalar b);
TENSORGRAD_API Tensor& remainder_(Tensor& self, const Tensor& b);
TENSORGRAD_API Tensor& remainder_(Tensor& self, Scalar b);
TENSORGRAD_API Tensor& fmod_(Tensor& self, const Tensor& b);
TENSORGRAD_API Tensor& fmod_(Tensor& self, Scalar b);
TENSORGRAD_API Tensor& pow_(Tensor& self, const Tensor& exponent);
TENSORGRAD_API Tensor& pow_(Tensor& self, Scalar exponent);
TENSORGRAD_API Tensor& clamp_(Tensor& self, std::optional<Scalar> min, std::optional<Scalar> max = {});
TENSORGRAD_API Tensor& clamp_(Tensor& self, const Tensor& min, const Tensor& max);
TENSORGRAD_API Tensor& lerp_(Tensor& self, const Tensor& end, Scalar weight);
TENSORGRAD_API Tensor& lerp_(Tensor& self, const Tensor& end, const Tensor& weight);
TENSORGRAD_API Tensor& addcmul_(Tensor& self, const Tensor& a, const Tensor& b, Scalar value = 1);
TENSORGRAD_API Tensor& addcdiv_(Tensor& self, const Tensor& a, const Tensor& b, Scalar value = 1);
TENSORGRAD_API Tensor& masked_fill_(Tensor& self, const Tensor& mask, Scalar value);
TENSORGRAD_API Tensor& masked_fill_(Tensor& self, const Tensor& mask, const Tensor& value);

// The in-place form of every function of one argument above.
#define TENSORGRAD_DECLARE_INPLACE(name) TENSORGRAD_API Tensor& name(Tensor& self);
#define TENSORGRAD_UNARY_INPLACE(X) \
  X(neg_)                           \
  X(abs_)                           \
  X(sign_)                          \
  X(square_)                        \
  X(reciprocal_)                    \
  X(sqrt_)                          \
  X(rsqrt_)                         \
  X(exp_)                           \
  X(exp2_)                          \
  X(expm1_)                         \
  X(log_)                           \
  X(log2_)                          \
  X(log10_)                         \
  X(log1p_)                         \
  X(sin_)                           \
  X(cos_)                           \
  X(tan_)                           \
  X(asin_)                          \
  X(acos_)                          \
  X(atan_)                          \
  X(sinh_)                          \
  X(cosh_)                          \
  X(tanh_)                          \
  X(asinh_)                         \
  X(acosh_)                         \
  X(atanh_)                         \
  X(erf_)                           \
  X(erfc_)                          \
  X(erfinv_)                        \
  X(lgamma_)                        \
  X(digamma_)                       \
  X(sinc_)                          \
  X(deg2rad_)                       \
  X(rad2deg_)                       \
  X(floor_)                         \
  X(ceil_)                          \
  X(round_)                         \
  X(trunc_)                         \
  X(frac_)                          \
  X(relu_)                          \
  X(relu6_)                         \
  X(sigmoid_)                       \
  X(silu_)                          \
  X(mish_)                          \
  X(hardsigmoid_) X(hardswish_) X(log_sigmoid_) X(softsign_) X(tanhshrink_) X(selu_) X(logical_not_) X(bitwise_not_)
TENSORGRAD_UNARY_INPLACE(TENSORGRAD_DECLARE_INPLACE)
#undef TENSORGRAD_DECLARE_INPLACE
TENSORGRAD_API Tensor& elu_(Tensor& self, Scalar alpha = 1, Scalar scale = 1, Scalar input_scale = 1);
TENSORGRAD_API Tensor& leaky_relu_(Tensor& self, Scalar negative_slope = 0.01);
TENSORGRAD_API Tensor& hardtanh_(Tensor& self, Scalar min_val = -1, Scalar max_val = 1);
TENSORGRAD_API Tensor& threshold_(Tensor& self, Scalar threshold, Scalar value);
TENSORGRAD_API Tensor& nan_to_num_(Tensor& self, double nan = 0.0, std::optional<double> posinf = {},
                                   std::optional<double> neginf = {});

// --- operators; % is remainder, ^ is bitwise_xor

inline Tensor operator-(const Tensor& t) { return neg(t); }
inline Tensor operator+(const Tensor& t) { return positive(t); }
inline Tensor operator~(const Tensor& t) { return bitwise_not(t); }

#define TENSORGRAD_OPERATOR(op, name)                                                \
  inline Tensor operator op(const Tensor& a, const Tensor& b) { return name(a, b); } \
  inline Tensor operator op(const Tensor& a, Scalar b) { return name(a, b); }
TENSORGRAD_OPERATOR(+, add)
TENSORGRAD_OPERATOR(-, sub)
TENSORGRAD_OPERATOR(*, mul)
TENSORGRAD_OPERATOR(/, div)
TENSORGRAD_OPERATOR(%, remainder)
TENSORGRAD_OPERATOR(&, bitwise_and)
TENSORGRAD_OPERATOR(|, bitwise_or)
TENSORGRAD_OPERATOR(^, bitwise_xor)
TENSORGRAD_OPERATOR(==, eq)
TENSORGRAD_OPERATOR(!=, ne)
TENSORGRAD_OPERATOR(<, lt)
TENSORGRAD_OPERATOR(<=, le)
TENSORGRAD_OPERATOR(>, gt)
TENSORGRAD_OPERATOR(>=, ge)
#undef TENSORGRAD_OPERATOR
inline Tensor operator+(Scalar a, const Tensor& b) { return add(b, a); }
inline Tensor operator-(Scalar a, const Tensor& b) { return rsub(b, a); }
inline Tensor operator*(Scalar a, const Tensor& b) { return mul(b, a); }
inline Tensor operator/(Scalar a, const Tensor& b) { return div(a, b); }
inline Tensor operator%(Scalar a, const Tensor& b) { return remainder(a, b); }
inline Tensor operator&(Scalar a, const Tensor& b) { return bitwise_and(b, a); }
inline Tensor operator|(Scalar a, const Tensor& b) { return bitwise_or(b, a); }
inline Tensor operator^(Scalar a, const Tensor& b) { return bitwise_xor(b, a); }
inline Tensor operator==(Scalar a, const Tensor& b) { return eq(b, a); }
inline Tensor operator!=(Scalar a, const Tensor& b) { return ne(b, a); }
inline Tensor operator<(Scalar a, const Tensor& b) { return gt(b, a); }
inline Tensor operator<=(Scalar a, const Tensor& b) { return ge(b, a); }
inline Tensor operator>(Scalar a, const Tensor& b) { return lt(b, a); }
inline Tensor operator>=(Scalar a, const Tensor& b) { return le(b, a); }

// In place, for named tensors (x += 1) and for views made on the spot (x[0] += 1).
#define TENSORGRAD_ASSIGNMENT(op, name)                                         \
  inline Tensor& operator op(Tensor& a, const Tensor& b) { return name(a, b); } \
  inline Tensor& operator op(Tensor& a, Scalar b) { return name(a, b); }        \
  inline Tensor operator op(Tensor&& a, const Tensor& b) { return name(a, b); } \
  inline Tensor operator op(Tensor&& a, Scalar b) { return name(a, b); }
TENSORGRAD_ASSIGNMENT(+=, add_)
TENSORGRAD_ASSIGNMENT(-=, sub_)
TENSORGRAD_ASSIGNMENT(*=, mul_)
TENSORGRAD_ASSIGNMENT(/=, div_)
TENSORGRAD_ASSIGNMENT(&=, bitwise_and_)
TENSORGRAD_ASSIGNMENT(|=, bitwise_or_)
TENSORGRAD_ASSIGNMENT(^=, bitwise_xor_)
#undef TENSORGRAD_ASSIGNMENT

}  // namespace tensorgrad
