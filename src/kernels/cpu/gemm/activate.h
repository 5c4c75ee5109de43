#pragma once

// The activation that a product applies to its result before it is stored.

#include "kernels/cpu/simd_math.h"
#include "kernels/gemm.h"

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/formulas_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

// Not inlined: there are many endings of a product, and this is long.
template <class T, UnaryOp Op>
__attribute__((noinline)) Vec<T> formula(Vec<T> x) {
  return Unary<Op>::apply(x, static_cast<const T*>(nullptr));
}

template <class T>
TENSORGRAD_INLINE Vec<T> activate(GemmActivation activation, Vec<T> x) {
  if (activation == GemmActivation::relu) return max(Vec<T>(T(0)), x);  // a NaN stays
  if (activation == GemmActivation::gelu) return formula<T, UnaryOp::gelu>(x);
  if (activation == GemmActivation::gelu_tanh) return formula<T, UnaryOp::gelu_tanh>(x);
  return x;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
