#pragma once

// The pointwise engine's contract: one output, up to three inputs, any strides (0 for a broadcast dim), any dtypes. Inputs are
// converted to `compute` as they are read, the result to the output's dtype as it is written.

#include <cstdint>

#include "tensorgrad/dtype.h"
#include "tensorgrad/scalar.h"

namespace tensorgrad {

enum class UnaryOp : uint8_t {
  copy, neg, abs, sign, exp, exp2, expm1, log, log2, log10, log1p, sqrt, rsqrt, square, reciprocal, sin, cos, tan, asin, acos,
  atan, sinh, cosh, tanh, asinh, acosh, atanh, erf, erfc, erfinv, lgamma, digamma, floor, ceil, round, trunc, frac, relu,
  sigmoid, log_sigmoid, silu, mish, softplus, gelu, gelu_tanh, leaky_relu, elu, selu, hardtanh, hardsigmoid, hardswish, relu6,
  softsign, tanhshrink, threshold, logical_not, bitwise_not, isnan, isinf, isfinite, signbit, clamp, nan_to_num, pow_scalar
};
enum class BinaryOp : uint8_t {
  add, sub, mul, div, floor_divide, trunc_divide, remainder, fmod, pow, maximum, minimum, fmax, fmin, atan2, hypot, eq, ne, lt,
  le, gt, ge, logical_and, logical_or, logical_xor, bitwise_and, bitwise_or, bitwise_xor, shift_left, shift_right, xlogy,
  // gradients in one pass: first input the upstream gradient, second the saved input or output
  relu_backward, sigmoid_backward, tanh_backward, gelu_backward, gelu_tanh_backward, silu_backward, leaky_relu_backward,
  elu_backward, hardtanh_backward, softplus_backward
};
enum class TernaryOp : uint8_t { where, addcmul, addcdiv, lerp, clamp };

struct PointwiseOperand {
  void* data = nullptr;
  DType dtype{};
  const int64_t* strides = nullptr;  // elements, one per dim of PointwiseArgs::sizes
};
struct PointwiseArgs {
  int ndim = 0;
  const int64_t* sizes = nullptr;
  DType compute{};
  PointwiseOperand out{};
  PointwiseOperand in[3]{};
  double params[3]{};      // clamp's bounds, leaky_relu's slope, add's alpha, ...
  int64_t int_params[3]{};  // the same for integer dtypes
};

struct PointwiseKernels {
  void (*unary)(UnaryOp op, const PointwiseArgs& args) = nullptr;
  void (*binary)(BinaryOp op, const PointwiseArgs& args) = nullptr;
  void (*ternary)(TernaryOp op, const PointwiseArgs& args) = nullptr;
  // Every element of `out` becomes `value`.
  void (*fill)(const PointwiseArgs& args, Scalar value) = nullptr;
};

}  // namespace tensorgrad
