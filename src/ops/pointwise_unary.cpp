// Functions of one argument, each with its gradient in g (upstream), x (the argument) and y (the result).

#include "ops/pointwise_unary.h"

#include <cmath>
#include <limits>

#include "ops/pointwise_core.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad {

using namespace pointwise;

namespace pointwise {
Tensor unary(const char* name, UnaryOp op, const Tensor& t, Kind kind, const Params& p) {
  const DType type = checked_type(name, t, kind);
  return apply(name, op, t, type, type, p);
}
void unary_into(const char* name, UnaryOp op, Tensor& self, Kind kind, const Params& p) {
  apply_into(name, op, self, self, checked_type(name, self, kind), p);
}
}  // namespace pointwise

// ---- arithmetic

TENSORGRAD_FROM_NOTHING(neg, "Neg", negatable, -g)
TENSORGRAD_FROM_INPUT(abs, "Abs", numeric, g* sign(x))
TENSORGRAD_FROM_INPUT(square, "Pow", same, g*(x * 2))
TENSORGRAD_FROM_OUTPUT(reciprocal, "Reciprocal", real, -g*(y* y))
TENSORGRAD_FROM_OUTPUT(sqrt, "Sqrt", real, g / (y * 2))
TENSORGRAD_FROM_OUTPUT(rsqrt, "Rsqrt", real, g*((y * y * y) * -0.5))

// ---- exponentials and logarithms

TENSORGRAD_FROM_OUTPUT(exp, "Exp", real, g* y)
TENSORGRAD_FROM_OUTPUT(exp2, "Exp2", real, g*(y* M_LN2))
TENSORGRAD_FROM_OUTPUT(expm1, "Expm1", real, g*(y + 1))
TENSORGRAD_FROM_INPUT(log, "Log", real, g / x)
TENSORGRAD_FROM_INPUT(log2, "Log2", real, g / (x * M_LN2))
TENSORGRAD_FROM_INPUT(log10, "Log10", real, g / (x * M_LN10))
TENSORGRAD_FROM_INPUT(log1p, "Log1P", real, g / (x + 1))

// ---- trigonometric and hyperbolic

TENSORGRAD_FROM_INPUT(sin, "Sin", real, g* cos(x))
TENSORGRAD_FROM_INPUT(cos, "Cos", real, -g* sin(x))
TENSORGRAD_FROM_OUTPUT(tan, "Tan", real, g*(y* y + 1))
TENSORGRAD_FROM_INPUT(asin, "Asin", real, g* rsqrt(1 - x * x))
TENSORGRAD_FROM_INPUT(acos, "Acos", real, -g* rsqrt(1 - x * x))
TENSORGRAD_FROM_INPUT(atan, "Atan", real, g / (x * x + 1))
TENSORGRAD_FROM_INPUT(sinh, "Sinh", real, g* cosh(x))
TENSORGRAD_FROM_INPUT(cosh, "Cosh", real, g* sinh(x))
TENSORGRAD_FROM_INPUT(asinh, "Asinh", real, g* rsqrt(x* x + 1))
TENSORGRAD_FROM_INPUT(acosh, "Acosh", real, g* rsqrt(x* x - 1))
TENSORGRAD_FROM_INPUT(atanh, "Atanh", real, g / (1 - x * x))
TENSORGRAD_FROM_OUTPUT(tanh, "Tanh", real, fused_or(BinaryOp::tanh_backward, g, y, [&] { return g * (1 - y * y); }))

// ---- error and gamma functions

TENSORGRAD_FROM_INPUT(erf, "Erf", real, g*(exp(-(x* x)) * M_2_SQRTPI))
TENSORGRAD_FROM_INPUT(erfc, "Erfc", real, g*(exp(-(x* x)) * -M_2_SQRTPI))
TENSORGRAD_FROM_OUTPUT(erfinv, "Erfinv", real, g*(exp(y* y) * (1 / M_2_SQRTPI)))
TENSORGRAD_FROM_INPUT(lgamma, "Lgamma", real, g* digamma(x))
TENSORGRAD_FROM_INPUT(digamma, "Digamma", real, g* trigamma(x))

namespace {
Tensor sinc_slope(const Tensor& x) {
  const Tensor t = x * M_PI;
  return where(x == 0, 0, (t * cos(t) - sin(t)) / (t * x));
}
}  // namespace
TENSORGRAD_FROM_INPUT(sinc, "Sinc", real, g* sinc_slope(x))

Tensor trigamma(const Tensor& t) { return unary("trigamma", UnaryOp::trigamma, t, real); }

// ---- whole numbers: gradient zero, integers as they are

TENSORGRAD_FROM_NOTHING(sign, "Sign", same, zeros_of(g))
TENSORGRAD_FROM_NOTHING(floor, "Floor", whole, zeros_of(g))
TENSORGRAD_FROM_NOTHING(ceil, "Ceil", whole, zeros_of(g))
TENSORGRAD_FROM_NOTHING(round, "Round", whole, zeros_of(g))
TENSORGRAD_FROM_NOTHING(trunc, "Trunc", whole, zeros_of(g))
TENSORGRAD_FROM_NOTHING(frac, "Frac", floating, g)

Tensor round(const Tensor& t, int64_t decimals) {
  if (decimals == 0) return round(t);
  TENSORGRAD_CHECK(is_floating_point(t.dtype()), NotImplementedError, "round: decimals are not defined for ",
                   t.dtype());
  const double ten = std::pow(10.0, static_cast<double>(std::abs(decimals)));
  return decimals > 0 ? round(t * ten) / ten : round(t / ten) * ten;
}

// ---- angles

Tensor deg2rad(const Tensor& t) { return t.to(real_type(t.dtype())) * (M_PI / 180); }
Tensor rad2deg(const Tensor& t) { return t.to(real_type(t.dtype())) * (180 / M_PI); }
Tensor& deg2rad_(Tensor& self) {
  check_cast("deg2rad_", real_type(self.dtype()), self.dtype());
  return mul_(self, M_PI / 180);
}
Tensor& rad2deg_(Tensor& self) {
  check_cast("rad2deg_", real_type(self.dtype()), self.dtype());
  return mul_(self, 180 / M_PI);
}
Tensor positive(const Tensor& t) {
  if (t.dtype() == DType::boolean)
    raise_dtype("positive", "The `+` operator, on a bool tensor is not supported.", t.dtype());
  return t;
}

// ---- tests and bits

namespace {
Tensor test(const char* name, UnaryOp op, const Tensor& t, bool for_integers) {
  if (is_floating_point(t.dtype())) return apply(name, op, t, t.dtype(), DType::boolean);
  Tensor out = detail::make_empty_like(t, DType::boolean);
  return out.fill_(for_integers);
}
}  // namespace

Tensor isnan(const Tensor& t) { return test("isnan", UnaryOp::isnan, t, false); }
Tensor isinf(const Tensor& t) { return test("isinf", UnaryOp::isinf, t, false); }
Tensor isfinite(const Tensor& t) { return test("isfinite", UnaryOp::isfinite, t, true); }
Tensor signbit(const Tensor& t) {
  if (!is_signed(t.dtype())) return test("signbit", UnaryOp::signbit, t, false);
  return apply("signbit", UnaryOp::signbit, t, t.dtype(), DType::boolean);
}
Tensor logical_not(const Tensor& t) { return apply("logical_not", UnaryOp::logical_not, t, t.dtype(), DType::boolean); }
Tensor& logical_not_(Tensor& self) {
  check_inplace("logical_not_", self);
  NodePtr node;
  if (should_record(self))
    node = make_node("LogicalNot", inputs(self), [](const Tensor& g, const Context&) { return zeros_of(g); });
  apply_into("logical_not_", UnaryOp::logical_not, self, self, self.dtype());
  finish_inplace(self, std::move(node));
  return self;
}
Tensor bitwise_not(const Tensor& t) {
  if (is_floating_point(t.dtype())) raise_dtype("bitwise_not", "expected an integer or bool tensor", t.dtype());
  return apply("bitwise_not", UnaryOp::bitwise_not, t, t.dtype(), t.dtype());
}
Tensor& bitwise_not_(Tensor& self) {
  check_inplace("bitwise_not_", self);
  if (is_floating_point(self.dtype())) raise_dtype("bitwise_not_", "expected an integer or bool tensor", self.dtype());
  apply_into("bitwise_not_", UnaryOp::bitwise_not, self, self, self.dtype());
  finish_inplace(self, NodePtr());
  return self;
}

// ---- nan_to_num

namespace {
Params nan_to_num_params(DType type, double nan, std::optional<double> posinf, std::optional<double> neginf) {
  const double largest = type == DType::float64    ? std::numeric_limits<double>::max()
                         : type == DType::float32  ? std::numeric_limits<float>::max()
                         : type == DType::bfloat16 ? 0x1.fep127
                                                   : 65504.0;
  return Params(nan, posinf.value_or(largest), neginf.value_or(-largest));
}
NodePtr nan_to_num_node(const Tensor& t) {
  return make_node(
      "NanToNum", inputs(t),
      [x = Saved(grad_mode() ? isfinite(t) : t)](const Tensor& g, const Context& c) { return where(x(c), g, 0); });
}
}  // namespace

Tensor nan_to_num(const Tensor& t, double nan, std::optional<double> posinf, std::optional<double> neginf) {
  if (!is_floating_point(t.dtype())) return t.clone();
  Tensor out = apply("nan_to_num", UnaryOp::nan_to_num, t, t.dtype(), t.dtype(),
                     nan_to_num_params(t.dtype(), nan, posinf, neginf));
  if (should_record(t)) attach(out, nan_to_num_node(t));
  return out;
}
Tensor& nan_to_num_(Tensor& self, double nan, std::optional<double> posinf, std::optional<double> neginf) {
  check_inplace("nan_to_num_", self);
  if (!is_floating_point(self.dtype())) return self;
  NodePtr node = should_record(self) ? nan_to_num_node(self) : NodePtr();
  apply_into("nan_to_num_", UnaryOp::nan_to_num, self, self, self.dtype(),
             nan_to_num_params(self.dtype(), nan, posinf, neginf));
  finish_inplace(self, std::move(node));
  return self;
}
}  // namespace tensorgrad
