// Float blocks: trigonometric and hyperbolic functions.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op)                                                                                       \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<float>] = float_unary_block<Unary<UnaryOp::op>, float>; \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<double>] = float_unary_block<Unary<UnaryOp::op>, double>;
void fill_float_trig(BlockTable& table) {
  TENSORGRAD_SET(sin)
  TENSORGRAD_SET(cos)
  TENSORGRAD_SET(tan)
  TENSORGRAD_SET(asin)
  TENSORGRAD_SET(acos)
  TENSORGRAD_SET(atan)
  TENSORGRAD_SET(sinh)
  TENSORGRAD_SET(cosh)
  TENSORGRAD_SET(tanh) TENSORGRAD_SET(asinh) TENSORGRAD_SET(acosh) TENSORGRAD_SET(atanh) TENSORGRAD_SET(sinc)
}
#undef TENSORGRAD_SET

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
