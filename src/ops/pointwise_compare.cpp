// Comparisons, logic, bits, and selection by a condition.

#include "ops/pointwise_core.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad {

using namespace pointwise;

namespace {

Tensor compare(const char* name, BinaryOp op, const Operand& a, const Operand& b) {
  return apply(name, op, a, b, result_type(a, b), DType::boolean);
}
Tensor& compare_(const char* name, BinaryOp op, Tensor& self, const Operand& b) {
  check_inplace(name, self);
  NodePtr node;
  if (should_record(self))
    node = make_node(name, inputs(self), [](const Tensor& g, const Context&) { return zeros_of(g); });
  apply_into(name, op, self, self, b, result_type(Operand(self), b));
  finish_inplace(self, std::move(node));
  return self;
}
DType bits_type(const char* name, const Operand& a, const Operand& b, bool shift) {
  const DType type = result_type(a, b);
  if (is_floating_point(type) || (shift && type == DType::boolean))
    raise_dtype(name, "expected integer operands", type);
  return type;
}
Tensor bits(const char* name, BinaryOp op, const Operand& a, const Operand& b, bool shift = false) {
  const DType type = bits_type(name, a, b, shift);
  return apply(name, op, a, b, type, type);
}
Tensor& bits_(const char* name, BinaryOp op, Tensor& self, const Operand& b, bool shift = false) {
  check_inplace(name, self);
  const DType type = bits_type(name, self, b, shift);
  check_cast(name, type, self.dtype());
  apply_into(name, op, self, self, b, type);
  finish_inplace(self, NodePtr());
  return self;
}

}  // namespace

#define TENSORGRAD_COMPARISON(name, op, forward)                                                          \
  Tensor name(const Tensor& a, const Tensor& b) { return forward(#name, BinaryOp::op, a, b); }            \
  Tensor name(const Tensor& a, Scalar b) { return forward(#name, BinaryOp::op, a, b); }                   \
  Tensor& name##_(Tensor& self, const Tensor& b) { return forward##_(#name "_", BinaryOp::op, self, b); } \
  Tensor& name##_(Tensor& self, Scalar b) { return forward##_(#name "_", BinaryOp::op, self, b); }
#define TENSORGRAD_COMPARISON_METHODS(name)                                                 \
  Tensor Tensor::name(const Tensor& other) const { return tensorgrad::name(*this, other); } \
  Tensor Tensor::name(Scalar other) const { return tensorgrad::name(*this, other); }

TENSORGRAD_COMPARISON(eq, eq, compare)
TENSORGRAD_COMPARISON(ne, ne, compare)
TENSORGRAD_COMPARISON(lt, lt, compare)
TENSORGRAD_COMPARISON(le, le, compare)
TENSORGRAD_COMPARISON(gt, gt, compare)
TENSORGRAD_COMPARISON(ge, ge, compare)
TENSORGRAD_COMPARISON(logical_and, logical_and, compare)
TENSORGRAD_COMPARISON(logical_or, logical_or, compare)
TENSORGRAD_COMPARISON(logical_xor, logical_xor, compare)
TENSORGRAD_COMPARISON(bitwise_and, bitwise_and, bits)
TENSORGRAD_COMPARISON(bitwise_or, bitwise_or, bits)
TENSORGRAD_COMPARISON(bitwise_xor, bitwise_xor, bits)
TENSORGRAD_COMPARISON_METHODS(eq)
TENSORGRAD_COMPARISON_METHODS(ne)
TENSORGRAD_COMPARISON_METHODS(lt)
TENSORGRAD_COMPARISON_METHODS(le)
TENSORGRAD_COMPARISON_METHODS(gt)
TENSORGRAD_COMPARISON_METHODS(ge)
Tensor Tensor::logical_and(const Tensor& other) const { return tensorgrad::logical_and(*this, other); }
Tensor Tensor::logical_or(const Tensor& other) const { return tensorgrad::logical_or(*this, other); }
Tensor Tensor::logical_xor(const Tensor& other) const { return tensorgrad::logical_xor(*this, other); }
Tensor Tensor::bitwise_and(const Tensor& other) const { return tensorgrad::bitwise_and(*this, other); }
Tensor Tensor::bitwise_or(const Tensor& other) const { return tensorgrad::bitwise_or(*this, other); }
Tensor Tensor::bitwise_xor(const Tensor& other) const { return tensorgrad::bitwise_xor(*this, other); }

Tensor bitwise_left_shift(const Tensor& a, const Tensor& b) {
  return bits("bitwise_left_shift", BinaryOp::shift_left, a, b, true);
}
Tensor bitwise_left_shift(const Tensor& a, Scalar b) {
  return bits("bitwise_left_shift", BinaryOp::shift_left, a, b, true);
}
Tensor bitwise_right_shift(const Tensor& a, const Tensor& b) {
  return bits("bitwise_right_shift", BinaryOp::shift_right, a, b, true);
}
Tensor bitwise_right_shift(const Tensor& a, Scalar b) {
  return bits("bitwise_right_shift", BinaryOp::shift_right, a, b, true);
}
Tensor& bitwise_left_shift_(Tensor& self, const Tensor& b) {
  return bits_("bitwise_left_shift_", BinaryOp::shift_left, self, b, true);
}
Tensor& bitwise_left_shift_(Tensor& self, Scalar b) {
  return bits_("bitwise_left_shift_", BinaryOp::shift_left, self, b, true);
}
Tensor& bitwise_right_shift_(Tensor& self, const Tensor& b) {
  return bits_("bitwise_right_shift_", BinaryOp::shift_right, self, b, true);
}
Tensor& bitwise_right_shift_(Tensor& self, Scalar b) {
  return bits_("bitwise_right_shift_", BinaryOp::shift_right, self, b, true);
}

// ---- where, masked_fill

namespace {

void check_condition(const char* name, const Tensor& condition) {
  TENSORGRAD_CHECK(condition.dtype() == DType::boolean || condition.dtype() == DType::uint8, DTypeError, name,
                   ": expected condition to be a boolean tensor, but got a tensor with dtype ", condition.dtype());
}
Tensor select(const Tensor& condition, const Operand& a, const Operand& b) {
  check_condition("where", condition);
  const DType type = result_type(a, b);
  return apply("where", TernaryOp::where, condition, a, b, type, type);
}
void check_mask(const char* name, const Tensor& mask) {
  TENSORGRAD_CHECK(mask.dtype() == DType::boolean, DTypeError, name,
                   ": masked_fill only supports boolean masks, but got mask with dtype ", mask.dtype());
}
}  // namespace

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  Tensor out = select(condition, a, b);
  if (should_record(a, b)) {
    record("Where", out, inputs(a, b), [condition = Saved(condition)](const Tensor& g, const Context& c) {
      const Tensor m = condition(c);
      return Grads<2>{c.needs(0) ? where(m, g, 0) : Tensor(), c.needs(1) ? where(m, 0, g) : Tensor()};
    });
  }
  return out;
}
Tensor where(const Tensor& condition, const Tensor& a, Scalar b) {
  Tensor out = select(condition, a, b);
  if (should_record(a)) {
    record("Where", out, inputs(a),
           [condition = Saved(condition)](const Tensor& g, const Context& c) { return where(condition(c), g, 0); });
  }
  return out;
}
Tensor where(const Tensor& condition, Scalar a, const Tensor& b) {
  Tensor out = select(condition, a, b);
  if (should_record(b)) {
    record("Where", out, inputs(b),
           [condition = Saved(condition)](const Tensor& g, const Context& c) { return where(condition(c), 0, g); });
  }
  return out;
}
Tensor where(const Tensor& condition, Scalar a, Scalar b) {
  check_condition("where", condition);
  const Tensor x = detail::wrapped_scalar(a, condition.device()), y = detail::wrapped_scalar(b, condition.device());
  const DType type = detail::result_type({&x, &y});
  return apply("where", TernaryOp::where, condition, a, b, type, type);
}

namespace {
void fill_masked(const char* name, const Tensor& out, const Tensor& t, const Tensor& mask, const Operand& value) {
  apply_into(name, TernaryOp::where, out, mask, value, t, out.dtype());
}
void check_value(const char* name, const Tensor& t, const Tensor& value) {
  TENSORGRAD_CHECK(value.dim() == 0, ShapeError, name,
                   ": masked_fill only supports a 0-dimensional value tensor, but got tensor with ", value.dim(),
                   " dimension(s).");
  if (value.device().is_cpu() && value.dtype() != t.dtype()) detail::check_fits(name, value.item(), t.dtype());
}
NodePtr masked_fill_node(const Tensor& t, const Tensor& mask) {
  return make_node("MaskedFill", inputs(t),
                   [mask = Saved(mask)](const Tensor& g, const Context& c) { return where(mask(c), 0, g); });
}
NodePtr masked_fill_node(const Tensor& t, const Tensor& mask, const Tensor& value) {
  return make_node("MaskedFill", inputs(t, value), [mask = Saved(mask)](const Tensor& g, const Context& c) {
    return Grads<2>{c.needs(0) ? where(mask(c), 0, g) : Tensor(), c.needs(1) ? where(mask(c), g, 0) : Tensor()};
  });
}
}  // namespace

Tensor masked_fill(const Tensor& t, const Tensor& mask, Scalar value) {
  check_mask("masked_fill", mask);
  detail::check_fits("masked_fill", value, t.dtype());
  Tensor out = apply("masked_fill", TernaryOp::where, mask, value, t, t.dtype(), t.dtype());
  if (should_record(t)) attach(out, masked_fill_node(t, mask));
  return out;
}
Tensor masked_fill(const Tensor& t, const Tensor& mask, const Tensor& value) {
  check_mask("masked_fill", mask);
  check_value("masked_fill", t, value);
  Tensor out = apply("masked_fill", TernaryOp::where, mask, value, t, t.dtype(), t.dtype());
  if (should_record(t, value)) attach(out, masked_fill_node(t, mask, value));
  return out;
}
Tensor& masked_fill_(Tensor& self, const Tensor& mask, Scalar value) {
  check_inplace("masked_fill_", self);
  check_mask("masked_fill_", mask);
  detail::check_fits("masked_fill_", value, self.dtype());
  NodePtr node = should_record(self) ? masked_fill_node(self, mask) : NodePtr();
  fill_masked("masked_fill_", self, self, mask, value);
  finish_inplace(self, std::move(node));
  return self;
}
Tensor& masked_fill_(Tensor& self, const Tensor& mask, const Tensor& value) {
  check_inplace("masked_fill_", self);
  check_mask("masked_fill_", mask);
  check_value("masked_fill_", self, value);
  NodePtr node = should_record(self, value) ? masked_fill_node(self, mask, value) : NodePtr();
  fill_masked("masked_fill_", self, self, mask, value);
  finish_inplace(self, std::move(node));
  return self;
}

Tensor Tensor::where(const Tensor& condition, const Tensor& other) const {
  return tensorgrad::where(condition, *this, other);
}
Tensor Tensor::masked_fill(const Tensor& mask, Scalar value) const {
  return tensorgrad::masked_fill(*this, mask, value);
}
Tensor Tensor::masked_fill(const Tensor& mask, const Tensor& value) const {
  return tensorgrad::masked_fill(*this, mask, value);
}
Tensor& Tensor::masked_fill_(const Tensor& mask, Scalar value) { return tensorgrad::masked_fill_(*this, mask, value); }
Tensor& Tensor::masked_fill_(const Tensor& mask, const Tensor& value) {
  return tensorgrad::masked_fill_(*this, mask, value);
}

}  // namespace tensorgrad
