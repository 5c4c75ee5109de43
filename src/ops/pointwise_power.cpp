// Powers and clamping.

#include <cmath>
#include <limits>

#include "core/autocast.h"
#include "ops/pointwise_core.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad {

using namespace pointwise;

// ---- pow

namespace {

void check_int_power(const char* name, DType type, Scalar exponent) {
  TENSORGRAD_CHECK(is_floating_point(type) || exponent.to_int() >= 0, ValueError, name,
                   ": Integers to negative integer powers are not allowed.");
}
DType power_type(const char* name, DType type) {
  if (type == DType::boolean) raise_dtype(name, "not implemented for bool tensors", type);
  return type;
}

// The cheap powers have kernels of their own.
UnaryOp power_kernel(DType type, Scalar exponent) {
  if (exponent.to_double() == 2) return UnaryOp::square;
  if (!is_floating_point(type)) return UnaryOp::pow_scalar;
  if (exponent.to_double() == 0.5) return UnaryOp::sqrt;
  if (exponent.to_double() == -0.5) return UnaryOp::rsqrt;
  if (exponent.to_double() == -1) return UnaryOp::reciprocal;
  return exponent.to_double() == 3 ? UnaryOp::cube : UnaryOp::pow_scalar;
}
NodePtr power_node(const Tensor& t, Scalar exponent, const Tensor& value) {
  return make_node("Pow", inputs(t), [x = Saved(value), exponent](const Tensor& g, const Context& c) {
    if (exponent.to_double() == 0) return zeros_of(g);
    if (exponent.to_double() == 1) return g;
    if (exponent.to_double() == 2) return g * (x(c) * 2);
    const Scalar less = exponent.is_floating() ? Scalar(exponent.to_double() - 1) : Scalar(exponent.to_int() - 1);
    return g * (pow(x(c), less) * exponent);
  });
}
NodePtr power_node(const Tensor& a, const Tensor& b, const Tensor& a_value, Saved y) {
  return make_node("Pow", inputs(a, b),
                   [a = Saved(a_value), b = Saved(b), y = std::move(y)](const Tensor& g, const Context& c) {
                     const Tensor x = a(c), e = b(c);
                     Grads<2> grads;
                     if (c.needs(0)) grads[0] = where(e == 0, 0, g * (e * pow(x, e - 1)));
                     // x^e log(x); where x is 0 that is 0 for e >= 0 (the limit).
                     if (c.needs(1)) grads[1] = where((x == 0) & (e >= 0), 0, g * (y(c) * log(x)));
                     return grads;
                   });
}

}  // namespace

Tensor pow(const Tensor& t, Scalar exponent) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&t}}) return pow(cast[0], exponent);
  }
  const DType type = result_type(t, exponent);
  check_int_power("pow", type, exponent);
  if (type == DType::boolean) return pow(t, detail::wrapped_scalar(exponent, t.device()));
  Tensor out = apply("pow", power_kernel(type, exponent), t, type, type, Params(exponent));
  if (should_record(t)) attach(out, power_node(t, exponent, t));
  return out;
}
Tensor pow(const Tensor& a, const Tensor& exponent) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&a, &exponent}}) return pow(cast[0], cast[1]);
  }
  const DType type = power_type("pow", result_type(a, exponent));
  Tensor out = apply("pow", BinaryOp::pow, a, exponent, type, type);
  if (should_record(a, exponent)) attach(out, power_node(a, exponent, a, Saved::output(out)));
  return out;
}
Tensor pow(Scalar base, const Tensor& exponent) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&exponent}}) return pow(base, cast[0]);
  }
  const DType type = power_type("pow", result_type(exponent, base));
  Tensor out = apply("pow", BinaryOp::pow, base, exponent, type, type);
  if (should_record(exponent)) {
    record("Pow", out, inputs(exponent),
           [base, e = Saved(exponent), y = Saved::output(out)](const Tensor& g, const Context& c) {
             if (base.to_double() == 0)
               return where(e(c) >= 0, 0, g * (y(c) * -std::numeric_limits<double>::infinity()));
             return g * (y(c) * std::log(base.to_double()));
           });
  }
  return out;
}
Tensor& pow_(Tensor& self, Scalar exponent) {
  check_inplace("pow_", self);
  const DType type = power_type("pow_", result_type(self, exponent));
  check_int_power("pow_", type, exponent);
  check_cast("pow_", type, self.dtype());
  NodePtr node = should_record(self) ? power_node(self, exponent, self.clone()) : NodePtr();
  apply_into("pow_", power_kernel(type, exponent), self, self, type, Params(exponent));
  finish_inplace(self, std::move(node));
  return self;
}
Tensor& pow_(Tensor& self, const Tensor& exponent) {
  check_inplace("pow_", self);
  const DType type = power_type("pow_", result_type(self, exponent));
  check_cast("pow_", type, self.dtype());
  NodePtr node;
  if (should_record(self, exponent)) node = power_node(self, exponent, self.clone(), Saved::inplace_output(self));
  apply_into("pow_", BinaryOp::pow, self, self, exponent, type);
  finish_inplace(self, std::move(node));
  return self;
}

Tensor float_power(const Tensor& a, const Tensor& exponent) { return pow(a.to(float64), exponent.to(float64)); }
Tensor float_power(const Tensor& a, Scalar exponent) { return pow(a.to(float64), exponent.to_double()); }
Tensor float_power(Scalar base, const Tensor& exponent) { return pow(base.to_double(), exponent.to(float64)); }

Tensor Tensor::pow(const Tensor& exponent) const { return tensorgrad::pow(*this, exponent); }
Tensor Tensor::pow(Scalar exponent) const { return tensorgrad::pow(*this, exponent); }
Tensor& Tensor::pow_(Scalar exponent) { return tensorgrad::pow_(*this, exponent); }
Tensor& Tensor::pow_(const Tensor& exponent) { return tensorgrad::pow_(*this, exponent); }

// ---- clamp

namespace {

using Bound = std::optional<Scalar>;

void check_bounds(const char* name, bool any) {
  TENSORGRAD_CHECK(any, ValueError, name, ": At least one of 'min' or 'max' must not be None");
}
DType clamp_type(const char* name, const Tensor& t, Bound low, Bound high) {
  check_bounds(name, low || high);
  DType type = t.dtype();
  for (const Bound& b : {low, high}) {
    if (b && b->is_floating() && !is_floating_point(type)) type = get_default_dtype();
    if (b && b->is_integer() && type == DType::boolean) type = DType::int64;
  }
  if (type == DType::boolean) raise_dtype(name, "not implemented for bool tensors", type);
  return type;
}
// Missing bounds are the limits of the dtype.
Params clamp_params(DType type, Bound low, Bound high) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  Params p(low.value_or(-inf), high.value_or(inf));
  if (is_floating_point(type)) return p;
  const int bits = static_cast<int>(itemsize(type)) * 8;
  const int64_t top =
      is_signed(type) ? static_cast<int64_t>((uint64_t{1} << (bits - 1)) - 1) : (int64_t{1} << bits) - 1;
  p.i[0] = low ? low->to_int() : is_signed(type) ? -top - 1 : 0;
  p.i[1] = high ? high->to_int() : top;
  return p;
}
void check_bounds(const char* op, DType type, Bound low, Bound high) {
  for (const Bound& bound : {low, high}) {
    if (bound && !std::isnan(bound->to_double())) detail::check_fits(op, *bound, type);
  }
}
bool has_nan(Bound low, Bound high) {
  return (low && std::isnan(low->to_double())) || (high && std::isnan(high->to_double()));
}
void clamp_kernel(const char* name, const Tensor& out, const Tensor& t, DType type, Bound low, Bound high) {
  if (has_nan(low, high)) {  // NaN everywhere
    Tensor all = out;
    const NoGradGuard guard;
    all.fill_(std::numeric_limits<double>::quiet_NaN());
  } else {
    apply_into(name, UnaryOp::clamp, out, t, type, clamp_params(type, low, high));
  }
}
// The gradient passes within the bounds, ends included.
NodePtr clamp_node(const Tensor& t, const Tensor& value, Bound low, Bound high) {
  return make_node("Clamp", inputs(t), [x = Saved(value), low, high](const Tensor& g, const Context& c) {
    const Tensor v = x(c);
    if (!high) return where(v >= *low, g, 0);
    if (!low) return where(v <= *high, g, 0);
    return where((v >= *low) & (v <= *high), g, 0);
  });
}

}  // namespace

Tensor clamp(const Tensor& t, Bound low, Bound high) {
  const DType type = clamp_type("clamp", t, low, high);
  check_bounds("clamp", type, low, high);
  Tensor out;
  if (has_nan(low, high)) {
    out = detail::make_empty_like(t, type);
    clamp_kernel("clamp", out, t, type, low, high);
  } else {
    out = apply("clamp", UnaryOp::clamp, t, type, type, clamp_params(type, low, high));
  }
  if (should_record(t)) attach(out, clamp_node(t, t, low, high));
  return out;
}
Tensor& clamp_(Tensor& self, Bound low, Bound high) {
  check_inplace("clamp_", self);
  const DType type = clamp_type("clamp_", self, low, high);
  check_bounds("clamp_", type, low, high);
  check_cast("clamp_", type, self.dtype());
  NodePtr node = should_record(self) ? clamp_node(self, self.clone(), low, high) : NodePtr();
  clamp_kernel("clamp_", self, self, type, low, high);
  finish_inplace(self, std::move(node));
  return self;
}

namespace {

// Bounds that are tensors; a missing one leaves two operands.
DType clamp_type(const char* name, const Tensor& t, const Tensor& low, const Tensor& high) {
  check_bounds(name, low.defined() || high.defined());
  if (low.defined() && high.defined()) return result_type(t, low, high);
  return result_type(t, low.defined() ? low : high);
}
NodePtr clamp_node(const Tensor& t, const Tensor& value, const Tensor& low, const Tensor& high) {
  return make_node("Clamp", inputs(t, low, high),
                   [x = Saved(value), low = Saved(low), high = Saved(high)](const Tensor& g, const Context& c) {
                     const Tensor v = x(c), l = low(c), h = high(c);
                     Grads<3> grads;
                     if (!h.defined()) {
                       const Tensor inner = v >= l;
                       if (c.needs(0)) grads[0] = where(inner, g, 0);
                       if (c.needs(1)) grads[1] = where(inner, 0, g);
                     } else if (!l.defined()) {
                       const Tensor inner = v <= h;
                       if (c.needs(0)) grads[0] = where(inner, g, 0);
                       if (c.needs(2)) grads[2] = where(inner, 0, g);
                     } else {
                       if (c.needs(0)) grads[0] = where((v >= l) & (v <= h), g, 0);
                       if (c.needs(1)) grads[1] = where((l < h) & (v < l), g, 0);
                       if (c.needs(2)) grads[2] = where((v > h) | (h < l), g, 0);
                     }
                     return grads;
                   });
}

}  // namespace

Tensor clamp(const Tensor& t, const Tensor& low, const Tensor& high) {
  const DType type = clamp_type("clamp", t, low, high);
  Tensor out = !high.defined()  ? apply("clamp", BinaryOp::maximum, t, low, type, type)
               : !low.defined() ? apply("clamp", BinaryOp::minimum, t, high, type, type)
                                : apply("clamp", TernaryOp::clamp, t, low, high, type, type);
  if (should_record(t, low, high)) attach(out, clamp_node(t, t, low, high));
  return out;
}
Tensor& clamp_(Tensor& self, const Tensor& low, const Tensor& high) {
  check_inplace("clamp_", self);
  const DType type = clamp_type("clamp_", self, low, high);
  check_cast("clamp_", type, self.dtype());
  NodePtr node = should_record(self, low, high) ? clamp_node(self, self.clone(), low, high) : NodePtr();
  if (!high.defined()) {
    apply_into("clamp_", BinaryOp::maximum, self, self, low, type);
  } else if (!low.defined()) {
    apply_into("clamp_", BinaryOp::minimum, self, self, high, type);
  } else {
    apply_into("clamp_", TernaryOp::clamp, self, self, low, high, type);
  }
  finish_inplace(self, std::move(node));
  return self;
}
Tensor Tensor::clamp(Bound min, Bound max) const { return tensorgrad::clamp(*this, min, max); }
Tensor Tensor::clamp(const Tensor& min, const Tensor& max) const { return tensorgrad::clamp(*this, min, max); }
Tensor& Tensor::clamp_(Bound min, Bound max) { return tensorgrad::clamp_(*this, min, max); }
Tensor& Tensor::clamp_(const Tensor& min, const Tensor& max) { return tensorgrad::clamp_(*this, min, max); }

}  // namespace tensorgrad
