#pragma once

// The pointwise engine's contract: one output, up to three inputs, any strides (0 for a broadcast dim), any dtypes.
// Inputs are converted to `compute` as they are read, the result to the output's dtype as it is written. With a 16-bit
// `compute` the arithmetic is float32 and the result is rounded once.

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/export.h"
#include "tensorgrad/scalar.h"

namespace tensorgrad {

// Where a formula has parameters, `p0`, `p1`, `p2` are PointwiseArgs::params (int_params for integers).
enum class UnaryOp : uint8_t {
  copy,
  neg,
  abs,
  sign,
  square,
  cube,
  reciprocal,
  sqrt,
  rsqrt,
  floor,
  ceil,
  round,
  trunc,
  frac,
  relu,
  logical_not,
  bitwise_not,
  isnan,
  isinf,
  isfinite,
  signbit,
  clamp,       // to [p0, p1]
  nan_to_num,  // NaN -> p0, inf -> p1, -inf -> p2
  exp,
  exp2,
  expm1,
  log,
  log2,
  log10,
  log1p,
  sin,
  cos,
  tan,
  asin,
  acos,
  atan,
  sinh,
  cosh,
  tanh,
  asinh,
  acosh,
  atanh,
  erf,
  erfc,
  erfinv,
  lgamma,
  digamma,
  trigamma,
  sinc,
  sigmoid,
  log_sigmoid,
  silu,
  mish,
  gelu,
  gelu_tanh,
  hardsigmoid,
  hardswish,
  relu6,
  softsign,
  tanhshrink,
  softplus,    // log(1 + exp(p0 x)) / p0, x where p0 x > p1
  leaky_relu,  // x > 0 ? x : p0 x
  elu,         // x > 0 ? p1 x : p0 p1 (exp(p2 x) - 1), of which selu is a case
  hardtanh,    // to [p0, p1]
  threshold,   // x > p0 ? x : p1
  pow_scalar,  // x^p0
  hardshrink,  // |x| <= p0 ? 0 : x
  softshrink,  // x > p0 ? x - p0 : x < -p0 ? x + p0 : 0 x
  count_
};
enum class BinaryOp : uint8_t {
  add,
  sub,
  mul,
  div,
  add_scaled,  // a + p0 b
  floor_divide,
  trunc_divide,
  remainder,
  fmod,
  pow,
  maximum,
  minimum,
  fmax,
  fmin,
  atan2,
  hypot,
  copysign,
  xlogy,
  logaddexp,
  heaviside,
  lerp_scalar,  // a + p0 (b - a)
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  logical_and,
  logical_or,
  logical_xor,
  bitwise_and,
  bitwise_or,
  bitwise_xor,
  shift_left,
  shift_right,
  // gradients in one pass: a the upstream gradient, b the saved input or (sigmoid, tanh) output
  relu_backward,
  sigmoid_backward,
  tanh_backward,
  gelu_backward,
  gelu_tanh_backward,
  silu_backward,
  mish_backward,
  leaky_relu_backward,
  elu_backward,
  hardtanh_backward,
  hardsigmoid_backward,
  hardswish_backward,
  softplus_backward,
  log_sigmoid_backward,
  threshold_backward,
  glu,                  // a sigmoid(b)
  bce,                  // the losses of binary_cross_entropy: a the probability, b the target
  bce_logits,           // and of its logits
  hardshrink_backward,  // of softshrink too
  prelu,                // a > 0 ? a : b a
  mul_scaled,           // p0 a b
  squared_difference,
  smooth_l1,  // d = |a - b|: p1 (d < p0 ? d^2 / (2 p0) : d - p0 / 2)
  count_
};
enum class TernaryOp : uint8_t {
  where,    // in[0] is boolean: in[0] ? in[1] : in[2]
  addcmul,  // a + p0 b c
  addcdiv,  // a + p0 b / c
  lerp,     // a + c (b - a)
  clamp,    // a to [b, c]
  // gradients in one pass: a the upstream gradient, b and c the two arguments, for the first of which it is
  glu_backward,  // for the second
  bce_backward,
  bce_logits_backward,
  prelu_backward,
  squared_difference_backward,
  smooth_l1_backward,
  count_
};

// Plain members without initial values: clearing them would cost more than adding four numbers.
struct PointwiseOperand {
  void* data;
  DType dtype;
  const int64_t* strides;  // elements, one per dim of PointwiseArgs::sizes; null: one value in host memory
};
struct PointwiseArgs {
  int ndim = 0;
  bool flat = false;  // every operand with strides is dense in one and the same order: only numel counts
  DType compute{};
  const int64_t* sizes = nullptr;
  int64_t numel = 0;  // product of the sizes, never 0
  PointwiseOperand out;
  PointwiseOperand in[3];  // as many as the operation has
  double params[3];        // where the formula has parameters
  int64_t int_params[3];
};

struct PointwiseKernels {
  void (*unary)(UnaryOp op, const PointwiseArgs& args) = nullptr;
  void (*binary)(BinaryOp op, const PointwiseArgs& args) = nullptr;
  void (*ternary)(TernaryOp op, const PointwiseArgs& args) = nullptr;
  // Every element of `out` becomes `value`.
  void (*fill)(const PointwiseArgs& args, Scalar value) = nullptr;
};

// Operations whose result is boolean, whatever the dtype of the arithmetic.
constexpr bool gives_bool(UnaryOp op) {
  return op == UnaryOp::logical_not || (op >= UnaryOp::isnan && op <= UnaryOp::signbit);
}
constexpr bool gives_bool(BinaryOp op) { return op >= BinaryOp::eq && op <= BinaryOp::logical_xor; }
constexpr bool gives_bool(TernaryOp) { return false; }

namespace cpu {
TENSORGRAD_API void fill_pointwise(PointwiseKernels& kernels, Level level);
}

}  // namespace tensorgrad
