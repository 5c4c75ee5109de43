// +, -, *, /, and what is built of them.

#include "core/autocast.h"
#include "ops/pointwise_core.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad {

using namespace pointwise;

namespace {

bool is_one(Scalar s) { return s.is_floating() ? s.to_double() == 1.0 : s.to_int() == 1; }

void check_sub(DType a, DType b) {
  TENSORGRAD_CHECK(a != DType::boolean || b != DType::boolean, DTypeError,
                   "sub: Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
                   "`logical_xor()` operator "
                   "instead.");
  TENSORGRAD_CHECK(a != DType::boolean && b != DType::boolean, DTypeError,
                   "sub: Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to "
                   "invert a mask, use "
                   "the `~` or `logical_not()` operator instead.");
}

// The negative of alpha: sub is add with it.
Scalar minus(Scalar alpha) { return alpha.is_floating() ? Scalar(-alpha.to_double()) : Scalar(-alpha.to_int()); }

// Records a + alpha * b for tensors; g flows as it is where alpha is 1.
NodePtr add_node(const char* name, const Tensor& a, const Tensor& b, Scalar alpha) {
  if (is_one(alpha)) {
    return make_node(name, inputs(a, b), [](const Tensor& g, const Context& c) {
      return Grads<2>{c.needs(0) ? g : Tensor(), c.needs(1) ? g : Tensor()};
    });
  }
  return make_node(name, inputs(a, b), [alpha](const Tensor& g, const Context& c) {
    return Grads<2>{c.needs(0) ? g : Tensor(), c.needs(1) ? g * alpha : Tensor()};
  });
}
NodePtr pass_node(const char* name, const Tensor& a) {
  return make_node(name, inputs(a), [](const Tensor& g, const Context&) { return g; });
}

Tensor add_or_sub(const char* name, const char* node_name, const Tensor& a, const Tensor& b, Scalar alpha,
                  bool minus_b) {
  const bool one = is_one(alpha);
  Tensor out;
  if (one && alike(a, b) && a.dtype() != DType::boolean) [[likely]] {
    out = detail::make_empty(a.sizes(), a.dtype(), a.device());
    apply_alike(minus_b ? BinaryOp::sub : BinaryOp::add, out, a, b);
  } else {
    if (minus_b) check_sub(a.dtype(), b.dtype());
    const DType type = result_type(a, b);
    check_alpha(name, alpha, type);
    if (type == DType::boolean && !one) return add(a, mul(b, alpha));  // alpha false: a, broadcast
    out = one ? apply(name, minus_b ? BinaryOp::sub : BinaryOp::add, a, b, type, type)
              : apply(name, BinaryOp::add_scaled, a, b, type, type, Params(minus_b ? minus(alpha) : alpha));
  }
  if (should_record(a, b)) attach(out, add_node(node_name, a, b, minus_b ? minus(alpha) : alpha));
  return out;
}

// a number beside a tensor: alpha * b folds into one number.
Scalar scaled(Scalar b, Scalar alpha) {
  if (is_one(alpha)) return b;
  if (b.is_floating() || alpha.is_floating()) return b.to_double() * alpha.to_double();
  return b.to_int() * alpha.to_int();
}

Tensor& add_or_sub_(const char* name, const char* node_name, Tensor& self, const Tensor& b, Scalar alpha,
                    bool minus_b) {
  check_inplace(name, self);
  if (minus_b) check_sub(self.dtype(), b.dtype());
  const DType type = result_type(self, b);
  check_alpha(name, alpha, type);
  check_cast(name, type, self.dtype());
  NodePtr node = should_record(self, b) ? add_node(node_name, self, b, minus_b ? minus(alpha) : alpha) : NodePtr();
  if (is_one(alpha)) {
    const BinaryOp op = minus_b ? BinaryOp::sub : BinaryOp::add;
    if (alike(self, b) && self.impl()->storage != b.impl()->storage) {
      apply_alike(op, self, self, b);
    } else {
      apply_into(name, op, self, self, b, type);
    }
  } else {
    apply_into(name, BinaryOp::add_scaled, self, self, b, type, Params(minus_b ? minus(alpha) : alpha));
  }
  finish_inplace(self, std::move(node));
  return self;
}
Tensor& add_or_sub_(const char* name, const char* node_name, Tensor& self, Scalar b, Scalar alpha, bool minus_b) {
  check_inplace(name, self);
  if (minus_b) check_sub(self.dtype(), b.dtype());
  const DType type = result_type(self, b);
  check_alpha(name, alpha, type);
  check_cast(name, type, self.dtype());
  NodePtr node = should_record(self) ? pass_node(node_name, self) : NodePtr();
  apply_into(name, minus_b ? BinaryOp::sub : BinaryOp::add, self, self, scaled(b, alpha), type);
  finish_inplace(self, std::move(node));
  return self;
}

// `a_value`: a as the gradient of b needs it; in place a copy from before the change.
NodePtr mul_node(const Tensor& a, const Tensor& b, const Tensor& a_value) {
  return make_node("Mul", inputs(a, b),
                   [a = needs_grad(b) ? Saved(a_value) : Saved(), b = needs_grad(a) ? Saved(b) : Saved()](
                       const Tensor& g, const Context& c) {
                     return Grads<2>{c.needs(0) ? g * b(c) : Tensor(), c.needs(1) ? g * a(c) : Tensor()};
                   });
}
NodePtr div_node(const Tensor& a, const Tensor& b, const Tensor& a_value) {
  return make_node("Div", inputs(a, b),
                   [a = needs_grad(b) ? Saved(a_value) : Saved(), b = Saved(b)](const Tensor& g, const Context& c) {
                     const Tensor y = b(c);
                     return Grads<2>{c.needs(0) ? g / y : Tensor(), c.needs(1) ? -g * ((a(c) / y) / y) : Tensor()};
                   });
}
// The values that an in-place product or quotient must keep: a copy only if somebody asks for them.
Tensor kept(const Tensor& self, const Tensor& other) { return needs_grad(other) ? self.clone() : self; }

}  // namespace

// ---- add, sub

Tensor add(const Tensor& a, const Tensor& b, Scalar alpha) { return add_or_sub("add", "Add", a, b, alpha, false); }
Tensor sub(const Tensor& a, const Tensor& b, Scalar alpha) { return add_or_sub("sub", "Sub", a, b, alpha, true); }
Tensor add(const Tensor& a, Scalar b, Scalar alpha) {
  const DType type = result_type(a, b);
  check_alpha("add", alpha, type);
  Tensor out = apply("add", BinaryOp::add, a, scaled(b, alpha), type, type);
  if (should_record(a)) attach(out, pass_node("Add", a));
  return out;
}
Tensor sub(const Tensor& a, Scalar b, Scalar alpha) {
  check_sub(a.dtype(), b.dtype());
  const DType type = result_type(a, b);
  check_alpha("sub", alpha, type);
  Tensor out = apply("sub", BinaryOp::sub, a, scaled(b, alpha), type, type);
  if (should_record(a)) attach(out, pass_node("Sub", a));
  return out;
}
Tensor rsub(const Tensor& a, const Tensor& b, Scalar alpha) { return sub(b, a, alpha); }
Tensor rsub(const Tensor& a, Scalar b, Scalar alpha) {
  check_sub(a.dtype(), b.dtype());
  const DType type = result_type(a, b);
  check_alpha("rsub", alpha, type);
  Tensor out = is_one(alpha) ? apply("rsub", BinaryOp::sub, b, a, type, type)
                             : apply("rsub", BinaryOp::add_scaled, b, a, type, type, Params(minus(alpha)));
  if (should_record(a)) {
    record("Rsub", out, inputs(a),
           [alpha](const Tensor& g, const Context&) { return is_one(alpha) ? -g : g * minus(alpha); });
  }
  return out;
}
Tensor& add_(Tensor& self, const Tensor& b, Scalar alpha) { return add_or_sub_("add_", "Add", self, b, alpha, false); }
Tensor& sub_(Tensor& self, const Tensor& b, Scalar alpha) { return add_or_sub_("sub_", "Sub", self, b, alpha, true); }
Tensor& add_(Tensor& self, Scalar b, Scalar alpha) { return add_or_sub_("add_", "Add", self, b, alpha, false); }
Tensor& sub_(Tensor& self, Scalar b, Scalar alpha) { return add_or_sub_("sub_", "Sub", self, b, alpha, true); }

// ---- mul

Tensor mul(const Tensor& a, const Tensor& b) {
  Tensor out;
  if (alike(a, b)) [[likely]] {
    out = detail::make_empty(a.sizes(), a.dtype(), a.device());
    apply_alike(BinaryOp::mul, out, a, b);
  } else {
    const DType type = result_type(a, b);
    out = apply("mul", BinaryOp::mul, a, b, type, type);
  }
  if (should_record(a, b)) attach(out, mul_node(a, b, a));
  return out;
}
Tensor mul(const Tensor& a, Scalar b) {
  const DType type = result_type(a, b);
  Tensor out = apply("mul", BinaryOp::mul, a, b, type, type);
  if (should_record(a)) record("Mul", out, inputs(a), [b](const Tensor& g, const Context&) { return g * b; });
  return out;
}
Tensor& mul_(Tensor& self, const Tensor& b) {
  check_inplace("mul_", self);
  const DType type = result_type(self, b);
  check_cast("mul_", type, self.dtype());
  NodePtr node = should_record(self, b) ? mul_node(self, b, kept(self, b)) : NodePtr();
  apply_into("mul_", BinaryOp::mul, self, self, b, type);
  finish_inplace(self, std::move(node));
  return self;
}
Tensor& mul_(Tensor& self, Scalar b) {
  check_inplace("mul_", self);
  const DType type = result_type(self, b);
  check_cast("mul_", type, self.dtype());
  NodePtr node;
  if (should_record(self))
    node = make_node("Mul", inputs(self), [b](const Tensor& g, const Context&) { return g * b; });
  apply_into("mul_", BinaryOp::mul, self, self, b, type);
  finish_inplace(self, std::move(node));
  return self;
}

// ---- div

Tensor div(const Tensor& a, const Tensor& b) {
  const DType type = real_type(result_type(a, b));
  Tensor out;
  if (alike(a, b) && type == a.dtype()) [[likely]] {
    out = detail::make_empty(a.sizes(), type, a.device());
    apply_alike(BinaryOp::div, out, a, b);
  } else {
    out = apply("div", BinaryOp::div, a, b, type, type);
  }
  if (should_record(a, b)) attach(out, div_node(a, b, a));
  return out;
}
Tensor div(const Tensor& a, Scalar b) {
  const DType type = real_type(result_type(a, b));
  Tensor out = apply("div", BinaryOp::div, a, b, type, type);
  if (should_record(a)) record("Div", out, inputs(a), [b](const Tensor& g, const Context&) { return g / b; });
  return out;
}
Tensor div(Scalar a, const Tensor& b) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&b}}) return div(a, cast[0]);
  }
  const DType type = real_type(result_type(b, a));
  Tensor out = apply("div", BinaryOp::div, a, b, type, type);
  if (should_record(b)) {
    record("Div", out, inputs(b),
           [b = Saved(b), y = Saved::output(out)](const Tensor& g, const Context& c) { return -g * (y(c) / b(c)); });
  }
  return out;
}
Tensor& div_(Tensor& self, const Tensor& b) {
  check_inplace("div_", self);
  const DType type = real_type(result_type(self, b));
  check_cast("div_", type, self.dtype());
  NodePtr node = should_record(self, b) ? div_node(self, b, kept(self, b)) : NodePtr();
  apply_into("div_", BinaryOp::div, self, self, b, type);
  finish_inplace(self, std::move(node));
  return self;
}
Tensor& div_(Tensor& self, Scalar b) {
  check_inplace("div_", self);
  const DType type = real_type(result_type(self, b));
  check_cast("div_", type, self.dtype());
  NodePtr node;
  if (should_record(self))
    node = make_node("Div", inputs(self), [b](const Tensor& g, const Context&) { return g / b; });
  apply_into("div_", BinaryOp::div, self, self, b, type);
  finish_inplace(self, std::move(node));
  return self;
}

// ---- a + value * b * c, a + value * b / c

namespace {
NodePtr addcmul_node(const Tensor& self, const Tensor& a, const Tensor& b, Scalar value) {
  return make_node("Addcmul", inputs(self, a, b),
                   [a = Saved(a), b = Saved(b), value](const Tensor& g, const Context& c) {
                     return Grads<3>{c.needs(0) ? g : Tensor(), c.needs(1) ? g * (b(c) * value) : Tensor(),
                                     c.needs(2) ? g * (a(c) * value) : Tensor()};
                   });
}
NodePtr addcdiv_node(const Tensor& self, const Tensor& a, const Tensor& b, Scalar value) {
  return make_node("Addcdiv", inputs(self, a, b),
                   [a = Saved(a), b = Saved(b), value](const Tensor& g, const Context& c) {
                     const Tensor d = b(c);
                     return Grads<3>{c.needs(0) ? g : Tensor(), c.needs(1) ? g * (div(value, d)) : Tensor(),
                                     c.needs(2) ? -g * (a(c) * value / (d * d)) : Tensor()};
                   });
}
DType addcdiv_type(const char* name, const Tensor& self, const Tensor& a, const Tensor& b) {
  const DType type = result_type(self, a, b);
  TENSORGRAD_CHECK(is_floating_point(a.dtype()) || is_floating_point(b.dtype()), DTypeError, name,
                   ": Integer division with addcdiv is no longer supported (got ", a.dtype(), " and ", b.dtype(),
                   "); use self + value * trunc(a / b) or cast to a float first.");
  return type;
}
}  // namespace

Tensor addcmul(const Tensor& self, const Tensor& a, const Tensor& b, Scalar value) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::widest, {&self, &a, &b}})
      return addcmul(cast[0], cast[1], cast[2], value);
  }
  const DType type = result_type(self, a, b);
  Tensor out = apply("addcmul", TernaryOp::addcmul, self, a, b, type, type, Params(value));
  if (should_record(self, a, b)) attach(out, addcmul_node(self, a, b, value));
  return out;
}
Tensor& addcmul_(Tensor& self, const Tensor& a, const Tensor& b, Scalar value) {
  check_inplace("addcmul_", self);
  const DType type = result_type(self, a, b);
  check_cast("addcmul_", type, self.dtype());
  NodePtr node = should_record(self, a, b) ? addcmul_node(self, a, b, value) : NodePtr();
  apply_into("addcmul_", TernaryOp::addcmul, self, self, a, b, type, Params(value));
  finish_inplace(self, std::move(node));
  return self;
}
Tensor addcdiv(const Tensor& self, const Tensor& a, const Tensor& b, Scalar value) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::widest, {&self, &a, &b}})
      return addcdiv(cast[0], cast[1], cast[2], value);
  }
  const DType type = addcdiv_type("addcdiv", self, a, b);
  Tensor out = apply("addcdiv", TernaryOp::addcdiv, self, a, b, type, type, Params(value));
  if (should_record(self, a, b)) attach(out, addcdiv_node(self, a, b, value));
  return out;
}
Tensor& addcdiv_(Tensor& self, const Tensor& a, const Tensor& b, Scalar value) {
  check_inplace("addcdiv_", self);
  const DType type = addcdiv_type("addcdiv_", self, a, b);
  check_cast("addcdiv_", type, self.dtype());
  NodePtr node = should_record(self, a, b) ? addcdiv_node(self, a, b, value) : NodePtr();
  apply_into("addcdiv_", TernaryOp::addcdiv, self, self, a, b, type, Params(value));
  finish_inplace(self, std::move(node));
  return self;
}

// ---- methods

Tensor Tensor::add(const Tensor& other, Scalar alpha) const { return tensorgrad::add(*this, other, alpha); }
Tensor Tensor::add(Scalar other, Scalar alpha) const { return tensorgrad::add(*this, other, alpha); }
Tensor Tensor::sub(const Tensor& other, Scalar alpha) const { return tensorgrad::sub(*this, other, alpha); }
Tensor Tensor::sub(Scalar other, Scalar alpha) const { return tensorgrad::sub(*this, other, alpha); }
Tensor Tensor::mul(const Tensor& other) const { return tensorgrad::mul(*this, other); }
Tensor Tensor::mul(Scalar other) const { return tensorgrad::mul(*this, other); }
Tensor Tensor::div(const Tensor& other) const { return tensorgrad::div(*this, other); }
Tensor Tensor::div(Scalar other) const { return tensorgrad::div(*this, other); }
Tensor Tensor::addcmul(const Tensor& a, const Tensor& b, Scalar value) const {
  return tensorgrad::addcmul(*this, a, b, value);
}
Tensor Tensor::addcdiv(const Tensor& a, const Tensor& b, Scalar value) const {
  return tensorgrad::addcdiv(*this, a, b, value);
}
Tensor& Tensor::add_(const Tensor& other, Scalar alpha) { return tensorgrad::add_(*this, other, alpha); }
Tensor& Tensor::add_(Scalar other, Scalar alpha) { return tensorgrad::add_(*this, other, alpha); }
Tensor& Tensor::sub_(const Tensor& other, Scalar alpha) { return tensorgrad::sub_(*this, other, alpha); }
Tensor& Tensor::sub_(Scalar other, Scalar alpha) { return tensorgrad::sub_(*this, other, alpha); }
Tensor& Tensor::mul_(const Tensor& other) { return tensorgrad::mul_(*this, other); }
Tensor& Tensor::mul_(Scalar other) { return tensorgrad::mul_(*this, other); }
Tensor& Tensor::div_(const Tensor& other) { return tensorgrad::div_(*this, other); }
Tensor& Tensor::div_(Scalar other) { return tensorgrad::div_(*this, other); }
Tensor& Tensor::addcmul_(const Tensor& a, const Tensor& b, Scalar value) {
  return tensorgrad::addcmul_(*this, a, b, value);
}
Tensor& Tensor::addcdiv_(const Tensor& a, const Tensor& b, Scalar value) {
  return tensorgrad::addcdiv_(*this, a, b, value);
}

}  // namespace tensorgrad
