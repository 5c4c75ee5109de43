// Float blocks: arithmetic, rounding, tests.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op)                                                                                          \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<float>] = float_unary_block<Unary<UnaryOp::op>, float, 4>; \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<double>] = float_unary_block<Unary<UnaryOp::op>, double, 4>;
void fill_float_unary(BlockTable& table) {
  TENSORGRAD_SET(neg)
  TENSORGRAD_SET(abs)
  TENSORGRAD_SET(sign)
  TENSORGRAD_SET(square)
  TENSORGRAD_SET(cube)
  TENSORGRAD_SET(reciprocal)
  TENSORGRAD_SET(sqrt)
  TENSORGRAD_SET(rsqrt)
  TENSORGRAD_SET(floor)
  TENSORGRAD_SET(ceil)
  TENSORGRAD_SET(round)
  TENSORGRAD_SET(trunc)
  TENSORGRAD_SET(frac)
  TENSORGRAD_SET(relu)
  TENSORGRAD_SET(logical_not)
  TENSORGRAD_SET(isnan)
  TENSORGRAD_SET(isinf)
  TENSORGRAD_SET(isfinite) TENSORGRAD_SET(signbit) TENSORGRAD_SET(clamp) TENSORGRAD_SET(nan_to_num)
}
#undef TENSORGRAD_SET

#define TENSORGRAD_SET(op)                                              \
  table.ternary[static_cast<int>(TernaryOp::op)][kDTypeIndex<float>] =  \
      float_ternary_block<Ternary<TernaryOp::op>, float, 4>;            \
  table.ternary[static_cast<int>(TernaryOp::op)][kDTypeIndex<double>] = \
      float_ternary_block<Ternary<TernaryOp::op>, double, 4>;
void fill_float_ternary(BlockTable& table) {
  TENSORGRAD_SET(addcmul) TENSORGRAD_SET(addcdiv) TENSORGRAD_SET(lerp) TENSORGRAD_SET(clamp)
}
#undef TENSORGRAD_SET

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
