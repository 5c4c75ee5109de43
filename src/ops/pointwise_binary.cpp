// Functions of two arguments: division that rounds, extremes, angles, logarithms, interpolation.

#include "core/autocast.h"
#include "ops/pointwise_core.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/reduce.h"

namespace tensorgrad {

using namespace pointwise;

namespace {

// Integers by 0 as a number: known before any element is.
void check_divisor(const char* name, DType type, Scalar b) {
  TENSORGRAD_CHECK(is_floating_point(type) || b.to_int() != 0, Error, "ZeroDivisionError: ", name,
                   ": integer division by zero");
}
DType no_bool(const char* name, DType type) {
  if (type == DType::boolean) raise_dtype(name, "not defined for bool tensors", type);
  return type;
}
Tensor same_type(const char* name, BinaryOp op, const Operand& a, const Operand& b) {
  const DType type = result_type(a, b);
  return apply(name, op, a, b, type, type);
}
Tensor real_valued(const char* name, BinaryOp op, const Operand& a, const Operand& b) {
  const DType type = real_type(result_type(a, b));
  return apply(name, op, a, b, type, type);
}

// The gradient of a rounded quotient a/b is zero for both.
void record_zero(const char* name, const Tensor& out, const Tensor& a, const Tensor& b) {
  if (!should_record(a, b)) return;
  record(name, out, inputs(a, b), [](const Tensor& g, const Context& c) {
    return Grads<2>{c.needs(0) ? zeros_of(g) : Tensor(), c.needs(1) ? zeros_of(g) : Tensor()};
  });
}

}  // namespace

// ---- rounding division

namespace {
BinaryOp rounding(std::string_view mode) {
  TENSORGRAD_CHECK(mode == "floor" || mode == "trunc", ValueError,
                   "div: expected rounding_mode to be one of None, 'trunc', or 'floor' but found '", mode, "'");
  return mode == "floor" ? BinaryOp::floor_divide : BinaryOp::trunc_divide;
}
}  // namespace

Tensor div(const Tensor& a, const Tensor& b, std::string_view mode) {
  const DType type = no_bool("div", result_type(a, b));
  Tensor out = apply("div", rounding(mode), a, b, type, type);
  record_zero("Div", out, a, b);
  return out;
}
Tensor div(const Tensor& a, Scalar b, std::string_view mode) {
  const DType type = no_bool("div", result_type(a, b));
  check_divisor("div", type, b);
  Tensor out = apply("div", rounding(mode), a, b, type, type);
  if (should_record(a)) record("Div", out, inputs(a), [](const Tensor& g, const Context&) { return zeros_of(g); });
  return out;
}
Tensor floor_divide(const Tensor& a, const Tensor& b) {
  no_bool("floor_divide", result_type(a, b));
  return same_type("floor_divide", BinaryOp::floor_divide, a, b);
}
Tensor floor_divide(const Tensor& a, Scalar b) {
  check_divisor("floor_divide", no_bool("floor_divide", result_type(a, b)), b);
  return same_type("floor_divide", BinaryOp::floor_divide, a, b);
}
Tensor floor_divide(Scalar a, const Tensor& b) {
  no_bool("floor_divide", result_type(b, a));
  return same_type("floor_divide", BinaryOp::floor_divide, a, b);
}

// ---- remainders: a - q b, so the gradient is g for a and -g q for b

namespace {
Tensor modulo(const char* name, const char* node, BinaryOp op, const Tensor& a, const Tensor& b, const char* mode) {
  no_bool(name, result_type(a, b));
  Tensor out = same_type(name, op, a, b);
  if (should_record(a, b)) {
    record(node, out, inputs(a, b), [a = Saved(a), b = Saved(b), mode](const Tensor& g, const Context& c) {
      return Grads<2>{c.needs(0) ? g : Tensor(), c.needs(1) ? -g * div(a(c), b(c), mode) : Tensor()};
    });
  }
  return out;
}
Tensor modulo(const char* name, const char* node, BinaryOp op, const Tensor& a, Scalar b) {
  check_divisor(name, no_bool(name, result_type(a, b)), b);
  Tensor out = same_type(name, op, a, b);
  if (should_record(a)) record(node, out, inputs(a), [](const Tensor& g, const Context&) { return g; });
  return out;
}
}  // namespace

Tensor remainder(const Tensor& a, const Tensor& b) {
  return modulo("remainder", "Remainder", BinaryOp::remainder, a, b, "floor");
}
Tensor remainder(const Tensor& a, Scalar b) { return modulo("remainder", "Remainder", BinaryOp::remainder, a, b); }
Tensor remainder(Scalar a, const Tensor& b) { return remainder(detail::wrapped_scalar(a, b.device()), b); }
Tensor fmod(const Tensor& a, const Tensor& b) { return modulo("fmod", "Fmod", BinaryOp::fmod, a, b, "trunc"); }
Tensor fmod(const Tensor& a, Scalar b) { return modulo("fmod", "Fmod", BinaryOp::fmod, a, b); }

// In place: the result is computed aside when a gradient wants the old values, as the chain is short and rare.
namespace {
template <class B>
Tensor& rounded_(const char* name, BinaryOp op, Tensor& self, const B& b) {
  check_inplace(name, self);
  const DType type = no_bool(name, result_type(Operand(self), Operand(b)));
  if constexpr (std::is_same_v<B, Scalar>) check_divisor(name, type, b);
  check_cast(name, type, self.dtype());
  NodePtr node;
  const bool passes = op != BinaryOp::floor_divide;
  if constexpr (std::is_same_v<B, Scalar>) {
    if (should_record(self)) {
      node =
          make_node(name, inputs(self), [passes](const Tensor& g, const Context&) { return passes ? g : zeros_of(g); });
    }
  } else if (should_record(self, b)) {
    const char* mode = op == BinaryOp::fmod ? "trunc" : "floor";
    node = make_node(name, inputs(self, b),
                     [a = Saved(self.clone()), b = Saved(b), mode, passes](const Tensor& g, const Context& c) {
                       if (!passes) return Grads<2>{zeros_of(g), zeros_of(g)};
                       return Grads<2>{c.needs(0) ? g : Tensor(), c.needs(1) ? -g * div(a(c), b(c), mode) : Tensor()};
                     });
  }
  apply_into(name, op, self, self, b, type);
  finish_inplace(self, std::move(node));
  return self;
}
}  // namespace

Tensor& floor_divide_(Tensor& self, const Tensor& b) {
  return rounded_("floor_divide_", BinaryOp::floor_divide, self, b);
}
Tensor& floor_divide_(Tensor& self, Scalar b) { return rounded_("floor_divide_", BinaryOp::floor_divide, self, b); }
Tensor& remainder_(Tensor& self, const Tensor& b) { return rounded_("remainder_", BinaryOp::remainder, self, b); }
Tensor& remainder_(Tensor& self, Scalar b) { return rounded_("remainder_", BinaryOp::remainder, self, b); }
Tensor& fmod_(Tensor& self, const Tensor& b) { return rounded_("fmod_", BinaryOp::fmod, self, b); }
Tensor& fmod_(Tensor& self, Scalar b) { return rounded_("fmod_", BinaryOp::fmod, self, b); }

// ---- extremes

namespace {
// Half the gradient to each side where they are equal; `to_a` says where a is behind and gets none.
Tensor extreme(const char* name, const char* node, BinaryOp op, const Tensor& a, const Tensor& b, bool larger) {
  Tensor out = same_type(name, op, a, b);
  if (should_record(a, b)) {
    record(node, out, inputs(a, b), [a = Saved(a), b = Saved(b), larger](const Tensor& g, const Context& c) {
      const Tensor x = a(c), y = b(c), shared = where(x == y, g / 2, g);
      return Grads<2>{c.needs(0) ? masked_fill(shared, larger ? x < y : x > y, 0) : Tensor(),
                      c.needs(1) ? masked_fill(shared, larger ? x > y : x < y, 0) : Tensor()};
    });
  }
  return out;
}
// fmax, fmin: a wins ties and against NaN.
Tensor extreme_number(const char* name, const char* node, BinaryOp op, const Tensor& a, const Tensor& b, bool larger) {
  Tensor out = same_type(name, op, a, b);
  if (should_record(a, b)) {
    record(node, out, inputs(a, b), [a = Saved(a), b = Saved(b), larger](const Tensor& g, const Context& c) {
      const Tensor x = a(c), y = b(c), from_a = logical_or(larger ? x >= y : x <= y, isnan(y));
      return Grads<2>{c.needs(0) ? where(from_a, g, 0) : Tensor(), c.needs(1) ? where(from_a, 0, g) : Tensor()};
    });
  }
  return out;
}
}  // namespace

Tensor maximum(const Tensor& a, const Tensor& b) {
  return extreme("maximum", "Maximum", BinaryOp::maximum, a, b, true);
}
Tensor minimum(const Tensor& a, const Tensor& b) {
  return extreme("minimum", "Minimum", BinaryOp::minimum, a, b, false);
}
Tensor fmax(const Tensor& a, const Tensor& b) { return extreme_number("fmax", "Fmax", BinaryOp::fmax, a, b, true); }
Tensor fmin(const Tensor& a, const Tensor& b) { return extreme_number("fmin", "Fmin", BinaryOp::fmin, a, b, false); }

// ---- angles, lengths, signs

Tensor atan2(const Tensor& a, const Tensor& b) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::widest, {&a, &b}}) return atan2(cast[0], cast[1]);
  }
  Tensor out = real_valued("atan2", BinaryOp::atan2, a, b);
  if (should_record(a, b)) {
    record("Atan2", out, inputs(a, b), [a = Saved(a), b = Saved(b)](const Tensor& g, const Context& c) {
      const Tensor x = a(c), y = b(c), square = x * x + y * y;
      const Tensor scaled = masked_fill(g / square, square == 0, 0);
      return Grads<2>{c.needs(0) ? scaled * y : Tensor(), c.needs(1) ? -scaled * x : Tensor()};
    });
  }
  return out;
}

Tensor hypot(const Tensor& a, const Tensor& b) {
  const DType type = result_type(a, b);
  if (!is_floating_point(type)) raise_dtype("hypot", "expected floating-point tensors", type);
  Tensor out = same_type("hypot", BinaryOp::hypot, a, b);
  if (should_record(a, b)) {
    record("Hypot", out, inputs(a, b),
           [a = Saved(a), b = Saved(b), y = Saved::output(out)](const Tensor& g, const Context& c) {
             const Tensor length = y(c);
             return Grads<2>{c.needs(0) ? g * (a(c) / length) : Tensor(), c.needs(1) ? g * (b(c) / length) : Tensor()};
           });
  }
  return out;
}

namespace {
// d copysign(a, b) / da is the sign that was changed; 0 at 0.
Tensor copysign_slope(const Tensor& g, const Tensor& a, const Tensor& out) { return where(a == 0, 0, g * (out / a)); }
}  // namespace
Tensor copysign(const Tensor& a, const Tensor& b) {
  Tensor out = real_valued("copysign", BinaryOp::copysign, a, b);
  if (should_record(a, b)) {
    record("Copysign", out, inputs(a, b), [a = Saved(a), y = Saved::output(out)](const Tensor& g, const Context& c) {
      return Grads<2>{c.needs(0) ? copysign_slope(g, a(c), y(c)) : Tensor(), c.needs(1) ? zeros_of(g) : Tensor()};
    });
  }
  return out;
}
Tensor copysign(const Tensor& a, Scalar b) {
  Tensor out = real_valued("copysign", BinaryOp::copysign, a, b);
  if (should_record(a)) {
    record("Copysign", out, inputs(a), [a = Saved(a), y = Saved::output(out)](const Tensor& g, const Context& c) {
      return copysign_slope(g, a(c), y(c));
    });
  }
  return out;
}

// ---- logarithms

namespace {
Tensor xlogy_slope_a(const Tensor& g, const Tensor& a, const Tensor& b) {
  return g * masked_fill(log(b), (a == 0) & (b <= 0), 0);
}
}  // namespace
Tensor xlogy(const Tensor& a, const Tensor& b) {
  Tensor out = real_valued("xlogy", BinaryOp::xlogy, a, b);
  if (should_record(a, b)) {
    record("Xlogy", out, inputs(a, b), [a = Saved(a), b = Saved(b)](const Tensor& g, const Context& c) {
      return Grads<2>{c.needs(0) ? xlogy_slope_a(g, a(c), b(c)) : Tensor(), c.needs(1) ? g * a(c) / b(c) : Tensor()};
    });
  }
  return out;
}
Tensor xlogy(const Tensor& a, Scalar b) { return xlogy(a, detail::wrapped_scalar(b, a.device())); }
Tensor xlogy(Scalar a, const Tensor& b) { return xlogy(detail::wrapped_scalar(a, b.device()), b); }

Tensor logaddexp(const Tensor& a, const Tensor& b) {
  const DType type = result_type(a, b);
  if (!is_floating_point(type)) raise_dtype("logaddexp", "expected floating-point tensors", type);
  Tensor out = same_type("logaddexp", BinaryOp::logaddexp, a, b);
  if (should_record(a, b)) {
    record("Logaddexp", out, inputs(a, b), [a = Saved(a), b = Saved(b)](const Tensor& g, const Context& c) {
      const Tensor x = a(c), y = b(c);
      return Grads<2>{c.needs(0) ? g / (1 + exp(y - x)) : Tensor(), c.needs(1) ? g / (1 + exp(x - y)) : Tensor()};
    });
  }
  return out;
}

Tensor heaviside(const Tensor& a, const Tensor& values) {
  TENSORGRAD_CHECK(a.dtype() == values.dtype(), DTypeError,
                   "heaviside: heaviside is not yet implemented for tensors with different dtypes (", a.dtype(),
                   " and ", values.dtype(), ")");
  return same_type("heaviside", BinaryOp::heaviside, a, values);
}

// ---- interpolation

namespace {
void check_lerp(const char* name, const Tensor& a, const Tensor& end) {
  TENSORGRAD_CHECK(a.dtype() == end.dtype(), DTypeError, name, ": expected dtype ", a.dtype(),
                   " for `end` but got dtype ", end.dtype());
  if (!is_floating_point(a.dtype())) raise_dtype(name, "not implemented for integers", a.dtype());
}
void check_lerp(const char* name, const Tensor& a, const Tensor& end, const Tensor& weight) {
  check_lerp(name, a, end);
  TENSORGRAD_CHECK(a.dtype() == weight.dtype(), DTypeError, name, ": expected dtype ", a.dtype(),
                   " for `weight` but got dtype ", weight.dtype());
}
NodePtr lerp_node(const Tensor& a, const Tensor& end, Scalar weight) {
  return make_node("Lerp", inputs(a, end), [weight](const Tensor& g, const Context& c) {
    return Grads<2>{c.needs(0) ? g * (1 - weight.to_double()) : Tensor(), c.needs(1) ? g * weight : Tensor()};
  });
}
NodePtr lerp_node(const Tensor& a, const Tensor& end, const Tensor& weight, const Tensor& a_value) {
  return make_node("Lerp", inputs(a, end, weight),
                   [a = Saved(a_value), end = Saved(end), weight = Saved(weight)](const Tensor& g, const Context& c) {
                     return Grads<3>{c.needs(0) ? g * (1 - weight(c)) : Tensor(), c.needs(1) ? g * weight(c) : Tensor(),
                                     c.needs(2) ? g * (end(c) - a(c)) : Tensor()};
                   });
}
}  // namespace

Tensor lerp(const Tensor& a, const Tensor& end, Scalar weight) {
  check_lerp("lerp", a, end);
  Tensor out = apply("lerp", BinaryOp::lerp_scalar, a, end, a.dtype(), a.dtype(), Params(weight));
  if (should_record(a, end)) attach(out, lerp_node(a, end, weight));
  return out;
}
Tensor lerp(const Tensor& a, const Tensor& end, const Tensor& weight) {
  check_lerp("lerp", a, end, weight);
  Tensor out = apply("lerp", TernaryOp::lerp, a, end, weight, a.dtype(), a.dtype());
  if (should_record(a, end, weight)) attach(out, lerp_node(a, end, weight, a));
  return out;
}
Tensor& lerp_(Tensor& self, const Tensor& end, Scalar weight) {
  check_inplace("lerp_", self);
  check_lerp("lerp_", self, end);
  NodePtr node = should_record(self, end) ? lerp_node(self, end, weight) : NodePtr();
  apply_into("lerp_", BinaryOp::lerp_scalar, self, self, end, self.dtype(), Params(weight));
  finish_inplace(self, std::move(node));
  return self;
}
Tensor& lerp_(Tensor& self, const Tensor& end, const Tensor& weight) {
  check_inplace("lerp_", self);
  check_lerp("lerp_", self, end, weight);
  NodePtr node;
  if (should_record(self, end, weight)) node = lerp_node(self, end, weight, needs_grad(weight) ? self.clone() : self);
  apply_into("lerp_", TernaryOp::lerp, self, self, end, weight, self.dtype());
  finish_inplace(self, std::move(node));
  return self;
}

// ---- closeness

Tensor isclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  TENSORGRAD_CHECK(a.dtype() == b.dtype(), DTypeError, "isclose: ", a.dtype(), " did not match ", b.dtype());
  TENSORGRAD_CHECK(rtol >= 0 && atol >= 0, ValueError, "isclose: rtol and atol must not be negative, got ", rtol,
                   " and ", atol);
  const NoGradGuard guard;
  Tensor close = a == b;
  const bool real = is_floating_point(a.dtype());
  if (real && equal_nan) close = logical_or(close, logical_and(isnan(a), isnan(b)));
  if (rtol == 0 && atol == 0) return close;
  if (a.dtype() == DType::boolean) return close;
  const Tensor x = real ? a : a.to(float64), y = real ? b : b.to(float64);
  const Tensor error = abs(x - y), allowed = abs(y * rtol) + atol;
  return logical_or(close, logical_and(isfinite(error), error <= allowed));
}
bool allclose(const Tensor& a, const Tensor& b, double rtol, double atol, bool equal_nan) {
  const detail::Waiting waiting("allclose");
  return isclose(a, b, rtol, atol, equal_nan).all().item<bool>();
}
bool equal(const Tensor& a, const Tensor& b) {
  TENSORGRAD_CHECK(a.dtype() == b.dtype(), DTypeError, "equal: Expected object of data type ", a.dtype(),
                   " but got data type ", b.dtype(), " for argument 'other'");
  if (!(a.sizes() == b.sizes())) return false;
  const detail::Waiting waiting("equal");
  return eq(a, b).all().item<bool>();
}

// ---- methods

Tensor Tensor::floor_divide(const Tensor& other) const { return tensorgrad::floor_divide(*this, other); }
Tensor Tensor::floor_divide(Scalar other) const { return tensorgrad::floor_divide(*this, other); }
Tensor Tensor::remainder(const Tensor& other) const { return tensorgrad::remainder(*this, other); }
Tensor Tensor::remainder(Scalar other) const { return tensorgrad::remainder(*this, other); }
Tensor Tensor::fmod(const Tensor& other) const { return tensorgrad::fmod(*this, other); }
Tensor Tensor::fmod(Scalar other) const { return tensorgrad::fmod(*this, other); }
Tensor Tensor::maximum(const Tensor& other) const { return tensorgrad::maximum(*this, other); }
Tensor Tensor::minimum(const Tensor& other) const { return tensorgrad::minimum(*this, other); }
Tensor Tensor::atan2(const Tensor& other) const { return tensorgrad::atan2(*this, other); }
Tensor Tensor::lerp(const Tensor& end, Scalar weight) const { return tensorgrad::lerp(*this, end, weight); }
Tensor Tensor::lerp(const Tensor& end, const Tensor& weight) const { return tensorgrad::lerp(*this, end, weight); }
Tensor& Tensor::lerp_(const Tensor& end, Scalar weight) { return tensorgrad::lerp_(*this, end, weight); }
Tensor& Tensor::lerp_(const Tensor& end, const Tensor& weight) { return tensorgrad::lerp_(*this, end, weight); }

}  // namespace tensorgrad
