// Element by element: two arguments or more, comparisons, selection.

#include "families.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad::python {

namespace {

// torch.NAME(input, other) for tensors and numbers on the right (a number on the left where both are "Tensor|Number").
#define BINARY(NAME)                                                                                       \
  ops.def(#NAME "(Tensor input, Tensor|Number other)",                                                     \
          [](Args& a) -> Result { return a.is_tensor(1) ? NAME(a.t(0), a.t(1)) : NAME(a.t(0), a.s(1)); }); \
  ops.def(#NAME "_(Tensor input, Tensor|Number other)", [](Args& a) {                                      \
    if (a.is_tensor(1))                                                                                    \
      NAME##_(a.t(0), a.t(1));                                                                             \
    else                                                                                                   \
      NAME##_(a.t(0), a.s(1));                                                                             \
    return Result::self();                                                                                 \
  })
// Two tensors, no in-place form.
#define BINARY_TENSORS(NAME) \
  ops.def(#NAME "(Tensor input, Tensor other)", [](Args& a) -> Result { return NAME(a.t(0), a.t(1)); })
// Two tensors and an in-place form: torch's logical operations take no number.
#define LOGICAL(NAME)                                            \
  BINARY_TENSORS(NAME);                                          \
  ops.method(#NAME "_(Tensor self, Tensor other)", [](Args& a) { \
    NAME##_(a.t(0), a.t(1));                                     \
    return Result::self();                                       \
  })
// The in-place form by way of a copy.
#define INPLACE_COPY(NAME)                                               \
  ops.method(#NAME "_(Tensor input, Tensor|Number other)", [](Args& a) { \
    a.t(0).copy_(NAME(a.t(0), a.t(1)));                                  \
    return Result::self();                                               \
  })
// A number may stand on the left.
#define NUMBER_LEFT(NAME) \
  ops.function(#NAME "(Number input, Tensor other)", [](Args& a) -> Result { return NAME(a.s(0), a.t(1)); })

void add_sums(Ops& ops) {
#define WITH_ALPHA(NAME)                                                                          \
  ops.def(#NAME "(Tensor input, Tensor|Number other, *, Number alpha=1)", [](Args& a) -> Result { \
    return a.is_tensor(1) ? NAME(a.t(0), a.t(1), a.s(2)) : NAME(a.t(0), a.s(1), a.s(2));          \
  });                                                                                             \
  ops.function(#NAME "(Number input, Tensor|Number other, *, Number alpha=1)",                    \
               [](Args& a) -> Result { return NAME(a.t(0), a.t(1), a.s(2)); });                   \
  ops.method(#NAME "_(Tensor input, Tensor|Number other, *, Number alpha=1)", [](Args& a) {       \
    if (a.is_tensor(1))                                                                           \
      NAME##_(a.t(0), a.t(1), a.s(2));                                                            \
    else                                                                                          \
      NAME##_(a.t(0), a.s(1), a.s(2));                                                            \
    return Result::self();                                                                        \
  })
  WITH_ALPHA(add);
  WITH_ALPHA(sub);
  ops.alias("subtract", "sub");
  ops.alias("subtract_", "sub_");
  ops.def("rsub(Tensor input, Tensor|Number other, *, Number alpha=1)", [](Args& a) -> Result {
    return a.is_tensor(1) ? rsub(a.t(0), a.t(1), a.s(2)) : rsub(a.t(0), a.s(1), a.s(2));
  });
}

Tensor divide(Args& a) {
  if (!a.has(2)) return a.is_tensor(1) ? div(a.t(0), a.t(1)) : div(a.t(0), a.s(1));
  return a.is_tensor(1) ? div(a.t(0), a.t(1), a.text(2)) : div(a.t(0), a.s(1), a.text(2));
}

void add_products(Ops& ops) {
  BINARY(mul);
  ops.function("mul(Number input, Tensor|Number other)", [](Args& a) -> Result { return mul(a.t(0), a.t(1)); });
  ops.alias("multiply", "mul");
  ops.alias("multiply_", "mul_");
  ops.def("div(Tensor input, Tensor|Number other, *, str? rounding_mode=None)",
          [](Args& a) -> Result { return divide(a); });
  ops.function("div(Number input, Tensor other, *, str? rounding_mode=None)", [](Args& a) -> Result {
    a.t(0);
    return divide(a);
  });
  ops.method("div_(Tensor input, Tensor|Number other, *, str? rounding_mode=None)", [](Args& a) {
    if (a.has(2))
      a.t(0).copy_(divide(a));
    else if (a.is_tensor(1))
      div_(a.t(0), a.t(1));
    else
      div_(a.t(0), a.s(1));
    return Result::self();
  });
  ops.alias("divide", "div");
  ops.alias("divide_", "div_");
  ops.alias("true_divide", "div");
  ops.alias("true_divide_", "div_");
  BINARY(floor_divide);
  BINARY(remainder);
  NUMBER_LEFT(remainder);
  BINARY(fmod);
  ops.def("pow(Tensor input, Tensor|Number exponent)",
          [](Args& a) -> Result { return a.is_tensor(1) ? pow(a.t(0), a.t(1)) : pow(a.t(0), a.s(1)); });
  ops.function("pow(Number input, Tensor exponent)", [](Args& a) -> Result { return pow(a.s(0), a.t(1)); });
  ops.method("pow_(Tensor input, Tensor|Number exponent)", [](Args& a) {
    if (a.is_tensor(1))
      pow_(a.t(0), a.t(1));
    else
      pow_(a.t(0), a.s(1));
    return Result::self();
  });
  ops.def("float_power(Tensor input, Tensor|Number exponent)",
          [](Args& a) -> Result { return a.is_tensor(1) ? float_power(a.t(0), a.t(1)) : float_power(a.t(0), a.s(1)); });
  ops.function("float_power(Number input, Tensor exponent)",
               [](Args& a) -> Result { return float_power(a.s(0), a.t(1)); });
}

void add_more(Ops& ops) {
  BINARY_TENSORS(maximum);
  BINARY_TENSORS(minimum);
  BINARY_TENSORS(fmax);
  BINARY_TENSORS(fmin);
  BINARY_TENSORS(atan2);
  INPLACE_COPY(atan2);
  ops.alias("arctan2", "atan2");
  BINARY_TENSORS(hypot);
  INPLACE_COPY(hypot);
  BINARY_TENSORS(logaddexp);
  ops.def("copysign(Tensor input, Tensor|Number other)",
          [](Args& a) -> Result { return a.is_tensor(1) ? copysign(a.t(0), a.t(1)) : copysign(a.t(0), a.s(1)); });
  INPLACE_COPY(copysign);
  ops.def("xlogy(Tensor input, Tensor|Number other)",
          [](Args& a) -> Result { return a.is_tensor(1) ? xlogy(a.t(0), a.t(1)) : xlogy(a.t(0), a.s(1)); });
  NUMBER_LEFT(xlogy);
  INPLACE_COPY(xlogy);
  ops.def("heaviside(Tensor input, Tensor values)", [](Args& a) -> Result { return heaviside(a.t(0), a.t(1)); });
  ops.def("lerp(Tensor input, Tensor end, Tensor|Number weight)", [](Args& a) -> Result {
    return a.is_tensor(2) ? lerp(a.t(0), a.t(1), a.t(2)) : lerp(a.t(0), a.t(1), a.s(2));
  });
  ops.method("lerp_(Tensor input, Tensor end, Tensor|Number weight)", [](Args& a) {
    if (a.is_tensor(2))
      lerp_(a.t(0), a.t(1), a.t(2));
    else
      lerp_(a.t(0), a.t(1), a.s(2));
    return Result::self();
  });
#define FUSED(NAME)                                                                                    \
  ops.def(#NAME "(Tensor input, Tensor tensor1, Tensor tensor2, *, Number value=1)",                   \
          [](Args& a) -> Result { return NAME(a.t(0), a.t(1), a.t(2), a.s(3)); });                     \
  ops.method(#NAME "_(Tensor input, Tensor tensor1, Tensor tensor2, *, Number value=1)", [](Args& a) { \
    NAME##_(a.t(0), a.t(1), a.t(2), a.s(3));                                                           \
    return Result::self();                                                                             \
  })
  FUSED(addcmul);
  FUSED(addcdiv);
}

void add_comparisons(Ops& ops) {
  BINARY(eq);
  BINARY(ne);
  BINARY(lt);
  BINARY(le);
  BINARY(gt);
  BINARY(ge);
  ops.alias("not_equal", "ne");
  ops.alias("less", "lt");
  ops.alias("less_equal", "le");
  ops.alias("greater", "gt");
  ops.alias("greater_equal", "ge");
  LOGICAL(logical_and);
  LOGICAL(logical_or);
  LOGICAL(logical_xor);
  BINARY(bitwise_and);
  BINARY(bitwise_or);
  BINARY(bitwise_xor);
  BINARY(bitwise_left_shift);
  BINARY(bitwise_right_shift);
#define BITS_NUMBER_LEFT(NAME) \
  ops.function(#NAME "(Number input, Tensor other)", [](Args& a) -> Result { return NAME(a.t(0), a.t(1)); })
  BITS_NUMBER_LEFT(bitwise_and);
  BITS_NUMBER_LEFT(bitwise_or);
  BITS_NUMBER_LEFT(bitwise_xor);
  BITS_NUMBER_LEFT(bitwise_left_shift);
  BITS_NUMBER_LEFT(bitwise_right_shift);
  ops.alias("__lshift__", "bitwise_left_shift");
  ops.alias("__rshift__", "bitwise_right_shift");
  ops.def("isclose(Tensor input, Tensor other, float rtol=1e-05, float atol=1e-08, bool equal_nan=False)",
          [](Args& a) -> Result { return isclose(a.t(0), a.t(1), a.f(2), a.f(3), a.b(4)); });
  ops.def("allclose(Tensor input, Tensor other, float rtol=1e-05, float atol=1e-08, bool equal_nan=False)",
          [](Args& a) { return Result::boolean(allclose(a.t(0), a.t(1), a.f(2), a.f(3), a.b(4))); });
  ops.def("equal(Tensor input, Tensor other)", [](Args& a) { return Result::boolean(equal(a.t(0), a.t(1))); });
}

void add_selection(Ops& ops) {
  ops.function("where(Tensor condition, Tensor|Number input, Tensor|Number other)", [](Args& a) -> Result {
    if (a.is_tensor(1)) return a.is_tensor(2) ? where(a.t(0), a.t(1), a.t(2)) : where(a.t(0), a.t(1), a.s(2));
    return a.is_tensor(2) ? where(a.t(0), a.s(1), a.t(2)) : where(a.t(0), a.s(1), a.s(2));
  });
  ops.method("where(Tensor self, Tensor condition, Tensor|Number other)", [](Args& a) -> Result {
    return a.is_tensor(2) ? where(a.t(1), a.t(0), a.t(2)) : where(a.t(1), a.t(0), a.s(2));
  });
  ops.def("masked_fill(Tensor input, Tensor mask, Tensor|Number value)", [](Args& a) -> Result {
    return a.is_tensor(2) ? masked_fill(a.t(0), a.t(1), a.t(2)) : masked_fill(a.t(0), a.t(1), a.s(2));
  });
  ops.method("masked_fill_(Tensor self, Tensor mask, Tensor|Number value)", [](Args& a) {
    if (a.is_tensor(2))
      masked_fill_(a.t(0), a.t(1), a.t(2));
    else
      masked_fill_(a.t(0), a.t(1), a.s(2));
    return Result::self();
  });
}

}  // namespace

void add_binary_ops(Ops& ops) {
  add_sums(ops);
  add_products(ops);
  add_more(ops);
  add_comparisons(ops);
  add_selection(ops);
}

}  // namespace tensorgrad::python
