// Float blocks: gradients of activations, gates and losses of two arguments with theirs.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op, at_once)                                   \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<float>] =  \
      float_binary_block<Binary<BinaryOp::op>, float, at_once>;       \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<double>] = \
      float_binary_block<Binary<BinaryOp::op>, double, at_once>;
#define TENSORGRAD_SET_3(op, at_once)                                   \
  table.ternary[static_cast<int>(TernaryOp::op)][kDTypeIndex<float>] =  \
      float_ternary_block<Ternary<TernaryOp::op>, float, at_once>;      \
  table.ternary[static_cast<int>(TernaryOp::op)][kDTypeIndex<double>] = \
      float_ternary_block<Ternary<TernaryOp::op>, double, at_once>;
void fill_float_backward(BlockTable& table) {
  TENSORGRAD_SET(relu_backward, 4)
  TENSORGRAD_SET(sigmoid_backward, 4)
  TENSORGRAD_SET(tanh_backward, 4)
  TENSORGRAD_SET(gelu_backward, 1)
  TENSORGRAD_SET(gelu_tanh_backward, 1)
  TENSORGRAD_SET(silu_backward, 1)
  TENSORGRAD_SET(mish_backward, 1)
  TENSORGRAD_SET(leaky_relu_backward, 4)
  TENSORGRAD_SET(elu_backward, 1)
  TENSORGRAD_SET(hardtanh_backward, 4)
  TENSORGRAD_SET(hardsigmoid_backward, 4)
  TENSORGRAD_SET(hardswish_backward, 4)
  TENSORGRAD_SET(hardshrink_backward, 4)
  TENSORGRAD_SET(glu, 1)
  TENSORGRAD_SET(prelu, 4)
  TENSORGRAD_SET(mul_scaled, 4)
  TENSORGRAD_SET(squared_difference, 4)
  TENSORGRAD_SET(smooth_l1, 4)
  TENSORGRAD_SET(bce, 1)
  TENSORGRAD_SET(bce_logits, 1)
  TENSORGRAD_SET_3(glu_backward, 1)
  TENSORGRAD_SET_3(prelu_backward, 4)
  TENSORGRAD_SET_3(squared_difference_backward, 4)
  TENSORGRAD_SET_3(smooth_l1_backward, 4)
  TENSORGRAD_SET_3(bce_backward, 1)
  TENSORGRAD_SET_3(bce_logits_backward, 1)
  TENSORGRAD_SET(softplus_backward, 1) TENSORGRAD_SET(log_sigmoid_backward, 1) TENSORGRAD_SET(threshold_backward, 4)
}
#undef TENSORGRAD_SET
#undef TENSORGRAD_SET_3

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
