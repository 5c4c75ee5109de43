#pragma once

// Transcendental formulas, activations and their gradients; see formulas.h.

#include "kernels/formulas.h"

namespace TENSORGRAD_FORMULA_NAMESPACE {

TENSORGRAD_UNARY(exp, return exp(x);)
TENSORGRAD_UNARY(exp2, return exp2(x);)
TENSORGRAD_UNARY(expm1, return expm1(x);)
TENSORGRAD_UNARY(log, return log(x);)
TENSORGRAD_UNARY(log2, return log2(x);)
TENSORGRAD_UNARY(log10, return log10(x);)
TENSORGRAD_UNARY(log1p, return log1p(x);)
TENSORGRAD_UNARY(sin, return sin(x);)
TENSORGRAD_UNARY(cos, return cos(x);)
TENSORGRAD_UNARY(tan, return tan(x);)
TENSORGRAD_UNARY(asin, return asin(x);)
TENSORGRAD_UNARY(acos, return acos(x);)
TENSORGRAD_UNARY(atan, return atan(x);)
TENSORGRAD_UNARY(sinh, return sinh(x);)
TENSORGRAD_UNARY(cosh, return cosh(x);)
TENSORGRAD_UNARY(tanh, return tanh(x);)
TENSORGRAD_UNARY(asinh, return asinh(x);)
TENSORGRAD_UNARY(acosh, return acosh(x);)
TENSORGRAD_UNARY(atanh, return atanh(x);)
TENSORGRAD_UNARY(erf, return erf(x);)
TENSORGRAD_UNARY(erfc, return erfc(x);)
TENSORGRAD_UNARY(erfinv, return erfinv(x);)
TENSORGRAD_UNARY(lgamma, return lgamma(x);)
TENSORGRAD_UNARY(digamma, return digamma(x);)
TENSORGRAD_UNARY(trigamma, return trigamma(x);)
TENSORGRAD_UNARY(sinc, const V t = x * T(3.14159265358979323846); return select(x == T(0), V(T(1)), sin(t) / t);)

// ---- activations

TENSORGRAD_UNARY(sigmoid, return sigmoid(x);)
TENSORGRAD_UNARY(log_sigmoid, return min(V(T(0)), x) - log1p(exp(-abs(x)));)
TENSORGRAD_UNARY(silu, return x * sigmoid(x);)
// tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2).
TENSORGRAD_UNARY(mish, const V e = exp(min(V(T(30)), x)); const V n = e * (e + T(2));
                 return select(x > T(30), x, x*(n / (n + T(2))));)
TENSORGRAD_UNARY(gelu, return x * normal_cdf(x);)
TENSORGRAD_UNARY(gelu_tanh, const V u = (x + x * x * x * T(0.044715)) * T(0.79788456080286535588);
                 return x * T(0.5) * (tanh(u) + T(1));)
TENSORGRAD_UNARY(hardsigmoid, return min(V(T(6)), max(V(T(0)), x + T(3))) / T(6);)
TENSORGRAD_UNARY(hardswish, return x * min(V(T(6)), max(V(T(0)), x + T(3))) / T(6);)
TENSORGRAD_UNARY(relu6, return min(V(T(6)), max(V(T(0)), x));)
TENSORGRAD_UNARY(softsign, return x / (abs(x) + T(1));)
TENSORGRAD_UNARY(tanhshrink, return x - tanh(x);)
TENSORGRAD_UNARY(softplus, const V z = x * p[0]; return select(z > p[1], x, log1p(exp(min(V(p[1]), z))) / p[0]);)
TENSORGRAD_UNARY(leaky_relu, return select(x > T(0), x, x* p[0]);)
TENSORGRAD_UNARY(elu, return select(x > T(0), x* p[1], expm1(min(V(T(0)), x) * p[2]) * (p[0] * p[1]));)
TENSORGRAD_UNARY(hardtanh, return min(V(p[1]), max(V(p[0]), x));)
TENSORGRAD_UNARY(threshold, return select(x <= p[0], V(p[1]), x);)
TENSORGRAD_UNARY(hardshrink, return select(abs(x) <= p[0], V(T(0)), x);)
TENSORGRAD_UNARY(softshrink, return select(x > p[0], x - p[0], select(x < -p[0], x + p[0], x* T(0)));)
TENSORGRAD_UNARY(pow_scalar, return pow(x, V(p[0]));)

// ---- gradients: a the upstream gradient, b the saved input or output

TENSORGRAD_BINARY(relu_backward, return select(b <= T(0), V(T(0)), a);)
TENSORGRAD_BINARY(sigmoid_backward, return a * (b * (T(1) - b));)
TENSORGRAD_BINARY(tanh_backward, return a * (T(1) - b * b);)
TENSORGRAD_BINARY(gelu_backward, const V cdf = normal_cdf(b);
                  const V pdf = exp(b * b * T(-0.5)) * T(0.39894228040143267794); return a * fma(b, pdf, cdf);)
TENSORGRAD_BINARY(gelu_tanh_backward, const V cube = b * b * T(0.044715);
                  const V t = tanh((b + b * cube) * T(0.79788456080286535588));
                  const V slope = (cube * T(3) + T(1)) * T(0.79788456080286535588);
                  return a * T(0.5) * ((t + T(1)) + b * (T(1) - t * t) * slope);)
TENSORGRAD_BINARY(silu_backward, const V s = sigmoid(b); return a * s * fma(b, T(1) - s, V(T(1)));)
TENSORGRAD_BINARY(mish_backward, const V e = exp(min(V(T(30)), b)); const V n = e * (e + T(2));
                  const V t = n / (n + T(2)); const V s = e / (e + T(1)); const V d = fma(b * s, T(1) - t * t, t);
                  return a * select(b > T(30), V(T(1)), d);)
TENSORGRAD_BINARY(leaky_relu_backward, return select(b > T(0), a, a* p[0]);)
TENSORGRAD_BINARY(elu_backward, return select(b <= T(0), a* exp(b* p[2]) * (p[0] * p[1] * p[2]), a* p[1]);)
TENSORGRAD_BINARY(hardtanh_backward, return select((b <= p[0]) | (b >= p[1]), V(T(0)), a);)
TENSORGRAD_BINARY(hardsigmoid_backward, return select((b > T(-3)) & (b < T(3)), a / T(6), V(T(0)));)
TENSORGRAD_BINARY(hardswish_backward,
                  return select(b <= T(-3), V(T(0)), select(b < T(3), a* fma(b, V(T(1) / T(3)), V(T(0.5))), a));)
TENSORGRAD_BINARY(softplus_backward, const V z = b * p[0]; return select(z > p[1], a, a* sigmoid(z));)
TENSORGRAD_BINARY(log_sigmoid_backward, return a * sigmoid(-b);)
TENSORGRAD_BINARY(threshold_backward, return select(b <= p[0], V(T(0)), a);)
TENSORGRAD_BINARY(hardshrink_backward, return select(abs(b) <= p[0], V(T(0)), a);)

// ---- gates and losses of two arguments, and their gradients

TENSORGRAD_BINARY(glu, return a * sigmoid(b);)
TENSORGRAD_TERNARY(glu_backward, const V s = sigmoid(c); return a * b * (s * (T(1) - s));)
TENSORGRAD_BINARY(prelu, return select(a > T(0), a, a* b);)
TENSORGRAD_TERNARY(prelu_backward, return select(b > T(0), a, a* c);)
TENSORGRAD_BINARY(mul_scaled, return a * b * p[0];)
TENSORGRAD_BINARY(squared_difference, const V d = a - b; return d * d;)
TENSORGRAD_TERNARY(squared_difference_backward, return a * (b - c) * T(2);)
TENSORGRAD_BINARY(smooth_l1, const V d = abs(a - b);
                  return select(d < p[0], d* d*(T(0.5) / p[0]), d - p[0] * T(0.5)) * p[1];)
TENSORGRAD_TERNARY(smooth_l1_backward, const V d = (b - c) / p[0]; return a * (min(V(T(1)), max(V(T(-1)), d)) * p[1]);)
// The logarithms not below -100, the gradient kept finite at 0 and 1, as in PyTorch.
TENSORGRAD_BINARY(bce, return (b - T(1)) * max(V(T(-100)), log1p(-a)) - b * max(V(T(-100)), log(a));)
TENSORGRAD_TERNARY(bce_backward, return a * (b - c) / max(V(T(1e-12)), (T(1) - b) * b);)
TENSORGRAD_BINARY(bce_logits, return (T(1) - b) * a - (min(V(T(0)), a) - log1p(exp(-abs(a))));)
TENSORGRAD_TERNARY(bce_logits_backward, return a * (sigmoid(b) - c);)

}  // namespace TENSORGRAD_FORMULA_NAMESPACE
