// Element by element: one argument, activations, rounding.

#include "families.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad::python {

namespace {

// torch.exp(x), x.exp() and x.exp_().
#define UNARY(NAME)                                                                \
  ops.def(#NAME "(Tensor input)", [](Args& a) -> Result { return NAME(a.t(0)); }); \
  ops.def(#NAME "_(Tensor input)", [](Args& a) {                                   \
    NAME##_(a.t(0));                                                               \
    return Result::self();                                                         \
  })
// Without an in-place form.
#define UNARY_ONLY(NAME) ops.def(#NAME "(Tensor input)", [](Args& a) -> Result { return NAME(a.t(0)); })

void add_mathematics(Ops& ops) {
  UNARY(neg);
  UNARY(abs);
  UNARY(sign);
  UNARY(square);
  UNARY(reciprocal);
  UNARY(sqrt);
  UNARY(rsqrt);
  UNARY(exp);
  UNARY(exp2);
  UNARY(expm1);
  UNARY(log);
  UNARY(log2);
  UNARY(log10);
  UNARY(log1p);
  UNARY(sin);
  UNARY(cos);
  UNARY(tan);
  UNARY(asin);
  UNARY(acos);
  UNARY(atan);
  UNARY(sinh);
  UNARY(cosh);
  UNARY(tanh);
  UNARY(asinh);
  UNARY(acosh);
  UNARY(atanh);
  UNARY(erf);
  UNARY(erfc);
  UNARY(erfinv);
  UNARY(lgamma);
  UNARY(digamma);
  UNARY(sinc);
  UNARY(deg2rad);
  UNARY(rad2deg);
  UNARY(floor);
  UNARY(ceil);
  UNARY(trunc);
  UNARY(frac);
  UNARY(logical_not);
  UNARY(bitwise_not);
  UNARY_ONLY(positive);
  UNARY_ONLY(isnan);
  UNARY_ONLY(isinf);
  UNARY_ONLY(isfinite);
  UNARY_ONLY(signbit);
  ops.def("isreal(Tensor input)", [](Args& a) -> Result { return eq(a.t(0), a.t(0)).logical_or(isnan(a.t(0))); });
  ops.def("isposinf(Tensor input)", [](Args& a) -> Result { return isinf(a.t(0)).logical_and(gt(a.t(0), 0)); });
  ops.def("isneginf(Tensor input)", [](Args& a) -> Result { return isinf(a.t(0)).logical_and(lt(a.t(0), 0)); });
  ops.def("polygamma(int n, Tensor input)", [](Args& a) -> Result {
    if (a.i(0) == 0) return digamma(a.t(1));
    if (a.i(0) == 1) return trigamma(a.t(1));
    throw NotImplementedError("polygamma: only n = 0 and n = 1 are there, got " + std::to_string(a.i(0)));
  });
  ops.def("round(Tensor input, *, int decimals=0)",
          [](Args& a) -> Result { return a.i(1) == 0 ? round(a.t(0)) : round(a.t(0), a.i(1)); });
  ops.def("round_(Tensor input, *, int decimals=0)", [](Args& a) {
    if (a.i(1) == 0)
      round_(a.t(0));
    else
      a.t(0).copy_(round(a.t(0), a.i(1)));
    return Result::self();
  });
  ops.alias("negative", "neg");
  ops.alias("negative_", "neg_");
  ops.alias("absolute", "abs");
  ops.alias("absolute_", "abs_");
  ops.alias("sgn", "sign");
  ops.alias("fix", "trunc");
  ops.alias("arcsin", "asin");
  ops.alias("arccos", "acos");
  ops.alias("arctan", "atan");
  ops.alias("arcsinh", "asinh");
  ops.alias("arccosh", "acosh");
  ops.alias("arctanh", "atanh");
}

void add_activations(Ops& ops) {
  UNARY(relu);
  UNARY(sigmoid);
  // Names of torch.nn.functional, taken from there.
  UNARY(relu6);
  UNARY(silu);
  UNARY(mish);
  UNARY(hardsigmoid);
  UNARY(hardswish);
  UNARY(selu);
  UNARY_ONLY(softsign);
  UNARY_ONLY(tanhshrink);
  ops.function("logsigmoid(Tensor input)", [](Args& a) -> Result { return log_sigmoid(a.t(0)); });
  ops.function("gelu(Tensor input, *, str approximate='none')",
               [](Args& a) -> Result { return gelu(a.t(0), a.text(1)); });
  ops.function("softplus(Tensor input, Number beta=1, Number threshold=20)",
               [](Args& a) -> Result { return softplus(a.t(0), a.s(1), a.s(2)); });
  ops.function("elu(Tensor input, Number alpha=1)", [](Args& a) -> Result { return elu(a.t(0), a.s(1)); });
  ops.function("elu_(Tensor input, Number alpha=1)", [](Args& a) {
    elu_(a.t(0), a.s(1));
    return Result::self();
  });
  ops.function("celu(Tensor input, Number alpha=1)", [](Args& a) -> Result { return celu(a.t(0), a.s(1)); });
  ops.function("hardshrink(Tensor input, Number lambd=0.5)",
               [](Args& a) -> Result { return hardshrink(a.t(0), a.s(1)); });
  ops.function("softshrink(Tensor input, Number lambd=0.5)",
               [](Args& a) -> Result { return softshrink(a.t(0), a.s(1)); });
  ops.function("prelu(Tensor input, Tensor weight)", [](Args& a) -> Result { return prelu(a.t(0), a.t(1)); });
  ops.function("glu(Tensor input, int dim=-1)", [](Args& a) -> Result { return glu(a.t(0), a.i(1)); });
  ops.function("leaky_relu(Tensor input, Number negative_slope=0.01)",
               [](Args& a) -> Result { return leaky_relu(a.t(0), a.s(1)); });
  ops.function("leaky_relu_(Tensor input, Number negative_slope=0.01)", [](Args& a) {
    leaky_relu_(a.t(0), a.s(1));
    return Result::self();
  });
  ops.function("hardtanh(Tensor input, Number min_val=-1, Number max_val=1)",
               [](Args& a) -> Result { return hardtanh(a.t(0), a.s(1), a.s(2)); });
  ops.function("hardtanh_(Tensor input, Number min_val=-1, Number max_val=1)", [](Args& a) {
    hardtanh_(a.t(0), a.s(1), a.s(2));
    return Result::self();
  });
  ops.function("threshold(Tensor input, Number threshold, Number value)",
               [](Args& a) -> Result { return threshold(a.t(0), a.s(1), a.s(2)); });
  ops.function("threshold_(Tensor input, Number threshold, Number value)", [](Args& a) {
    threshold_(a.t(0), a.s(1), a.s(2));
    return Result::self();
  });
}

void add_bounds(Ops& ops) {
  ops.def("clamp(Tensor input, Number? min=None, Number? max=None)",
          [](Args& a) -> Result { return clamp(a.t(0), a.opt_s(1), a.opt_s(2)); });
  ops.def("clamp(Tensor input, Tensor? min=None, Tensor? max=None)",
          [](Args& a) -> Result { return clamp(a.t(0), a.opt(1), a.opt(2)); });
  ops.def("clamp_(Tensor input, Number? min=None, Number? max=None)", [](Args& a) {
    clamp_(a.t(0), a.opt_s(1), a.opt_s(2));
    return Result::self();
  });
  ops.def("clamp_(Tensor input, Tensor? min=None, Tensor? max=None)", [](Args& a) {
    clamp_(a.t(0), a.opt(1), a.opt(2));
    return Result::self();
  });
  ops.def("clamp_min(Tensor input, Tensor|Number min)",
          [](Args& a) -> Result { return a.is_tensor(1) ? clamp(a.t(0), a.t(1), Tensor()) : clamp(a.t(0), a.s(1)); });
  ops.def("clamp_max(Tensor input, Tensor|Number max)", [](Args& a) -> Result {
    return a.is_tensor(1) ? clamp(a.t(0), Tensor(), a.t(1)) : clamp(a.t(0), std::nullopt, a.s(1));
  });
  ops.method("clamp_min_(Tensor self, Tensor|Number min)", [](Args& a) {
    if (a.is_tensor(1))
      clamp_(a.t(0), a.t(1), Tensor());
    else
      clamp_(a.t(0), a.s(1));
    return Result::self();
  });
  ops.method("clamp_max_(Tensor self, Tensor|Number max)", [](Args& a) {
    if (a.is_tensor(1))
      clamp_(a.t(0), Tensor(), a.t(1));
    else
      clamp_(a.t(0), std::nullopt, a.s(1));
    return Result::self();
  });
  ops.alias("clip", "clamp");
  ops.alias("clip_", "clamp_");
  ops.def("nan_to_num(Tensor input, float? nan=None, float? posinf=None, float? neginf=None)",
          [](Args& a) -> Result { return nan_to_num(a.t(0), a.opt_f(1).value_or(0.0), a.opt_f(2), a.opt_f(3)); });
  ops.def("nan_to_num_(Tensor input, float? nan=None, float? posinf=None, float? neginf=None)", [](Args& a) {
    nan_to_num_(a.t(0), a.opt_f(1).value_or(0.0), a.opt_f(2), a.opt_f(3));
    return Result::self();
  });
}

}  // namespace

void add_pointwise_ops(Ops& ops) {
  add_mathematics(ops);
  add_activations(ops);
  add_bounds(ops);
}

}  // namespace tensorgrad::python
