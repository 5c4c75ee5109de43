// Float blocks of two arguments: gradients of activations.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op)                                                                                            \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<float>] = float_binary_block<Binary<BinaryOp::op>, float>; \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<double>] = float_binary_block<Binary<BinaryOp::op>, double>;
void fill_float_backward(BlockTable& table) {
  TENSORGRAD_SET(relu_backward)
  TENSORGRAD_SET(sigmoid_backward)
  TENSORGRAD_SET(tanh_backward)
  TENSORGRAD_SET(gelu_backward)
  TENSORGRAD_SET(gelu_tanh_backward)
  TENSORGRAD_SET(silu_backward)
  TENSORGRAD_SET(mish_backward)
  TENSORGRAD_SET(leaky_relu_backward)
  TENSORGRAD_SET(elu_backward)
  TENSORGRAD_SET(hardtanh_backward)
  TENSORGRAD_SET(hardsigmoid_backward)
  TENSORGRAD_SET(hardswish_backward)
  TENSORGRAD_SET(softplus_backward) TENSORGRAD_SET(log_sigmoid_backward) TENSORGRAD_SET(threshold_backward)
}
#undef TENSORGRAD_SET

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
