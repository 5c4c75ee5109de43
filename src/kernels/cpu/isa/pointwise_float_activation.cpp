// Float blocks: activations.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op)                                                                                       \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<float>] = float_unary_block<Unary<UnaryOp::op>, float>; \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<double>] = float_unary_block<Unary<UnaryOp::op>, double>;
void fill_float_activation(BlockTable& table) {
  TENSORGRAD_SET(sigmoid)
  TENSORGRAD_SET(log_sigmoid)
  TENSORGRAD_SET(silu)
  TENSORGRAD_SET(mish)
  TENSORGRAD_SET(gelu)
  TENSORGRAD_SET(gelu_tanh)
  TENSORGRAD_SET(hardsigmoid)
  TENSORGRAD_SET(hardswish)
  TENSORGRAD_SET(relu6)
  TENSORGRAD_SET(softsign)
  TENSORGRAD_SET(tanhshrink)
  TENSORGRAD_SET(softplus)
  TENSORGRAD_SET(hardshrink)
  TENSORGRAD_SET(softshrink)
  TENSORGRAD_SET(leaky_relu) TENSORGRAD_SET(elu) TENSORGRAD_SET(hardtanh) TENSORGRAD_SET(threshold)
}
#undef TENSORGRAD_SET

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
