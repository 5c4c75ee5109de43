// Float blocks: gradients of activations, gates and losses of two arguments with theirs.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op)                                                                                            \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<float>] = float_binary_block<Binary<BinaryOp::op>, float>; \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<double>] = float_binary_block<Binary<BinaryOp::op>, double>;
#define TENSORGRAD_SET_3(op)                                            \
  table.ternary[static_cast<int>(TernaryOp::op)][kDTypeIndex<float>] =  \
      float_ternary_block<Ternary<TernaryOp::op>, float>;               \
  table.ternary[static_cast<int>(TernaryOp::op)][kDTypeIndex<double>] = \
      float_ternary_block<Ternary<TernaryOp::op>, double>;
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
  TENSORGRAD_SET(hardshrink_backward)
  TENSORGRAD_SET(glu)
  TENSORGRAD_SET(prelu)
  TENSORGRAD_SET(mul_scaled)
  TENSORGRAD_SET(squared_difference)
  TENSORGRAD_SET(smooth_l1)
  TENSORGRAD_SET(bce)
  TENSORGRAD_SET(bce_logits)
  TENSORGRAD_SET_3(glu_backward)
  TENSORGRAD_SET_3(prelu_backward)
  TENSORGRAD_SET_3(squared_difference_backward)
  TENSORGRAD_SET_3(smooth_l1_backward)
  TENSORGRAD_SET_3(bce_backward)
  TENSORGRAD_SET_3(bce_logits_backward)
  TENSORGRAD_SET(softplus_backward) TENSORGRAD_SET(log_sigmoid_backward) TENSORGRAD_SET(threshold_backward)
}
#undef TENSORGRAD_SET
#undef TENSORGRAD_SET_3

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
