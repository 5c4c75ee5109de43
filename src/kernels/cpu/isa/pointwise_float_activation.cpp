// Float blocks: activations.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op, at_once)                                 \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<float>] =  \
      float_unary_block<Unary<UnaryOp::op>, float, at_once>;        \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<double>] = \
      float_unary_block<Unary<UnaryOp::op>, double, at_once>;
void fill_float_activation(BlockTable& table) {
  TENSORGRAD_SET(sigmoid, 1)
  TENSORGRAD_SET(log_sigmoid, 1)
  TENSORGRAD_SET(silu, 1)
  TENSORGRAD_SET(mish, 1)
  TENSORGRAD_SET(gelu, 1)
  TENSORGRAD_SET(gelu_tanh, 1)
  TENSORGRAD_SET(hardsigmoid, 4)
  TENSORGRAD_SET(hardswish, 4)
  TENSORGRAD_SET(relu6, 4)
  TENSORGRAD_SET(softsign, 1)
  TENSORGRAD_SET(tanhshrink, 1)
  TENSORGRAD_SET(softplus, 1)
  TENSORGRAD_SET(hardshrink, 4)
  TENSORGRAD_SET(softshrink, 4)
  TENSORGRAD_SET(leaky_relu, 4) TENSORGRAD_SET(elu, 1) TENSORGRAD_SET(hardtanh, 4) TENSORGRAD_SET(threshold, 4)
}
#undef TENSORGRAD_SET

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
