// Float blocks: exponentials, logarithms, error and gamma functions.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op)                                                                                       \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<float>] = float_unary_block<Unary<UnaryOp::op>, float>; \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<double>] = float_unary_block<Unary<UnaryOp::op>, double>;
void fill_float_math(BlockTable& table) {
  TENSORGRAD_SET(exp)
  TENSORGRAD_SET(exp2)
  TENSORGRAD_SET(expm1)
  TENSORGRAD_SET(log)
  TENSORGRAD_SET(log2)
  TENSORGRAD_SET(log10)
  TENSORGRAD_SET(log1p)
  TENSORGRAD_SET(erf)
  TENSORGRAD_SET(erfc)
  TENSORGRAD_SET(erfinv)
  TENSORGRAD_SET(lgamma) TENSORGRAD_SET(digamma) TENSORGRAD_SET(trigamma) TENSORGRAD_SET(pow_scalar)
}
#undef TENSORGRAD_SET

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
